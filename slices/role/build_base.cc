#include "slices/role/build_base.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "slices/apply/record_judge.h"
#include "slices/role/engine.h"

namespace icepie::slices {
namespace {

constexpr char kKnown[] = "__known_differences";
// Their blocks are in memory together.
constexpr size_t kJudgedTogether = 64;

// Of one stream's supply, those that can be read.
absl::Status JudgeAll(const DomainPlan& plan, const SlicePlan& slice, const std::string& stream,
                      RecordSupply& supply, std::vector<int64_t>& readable) {
  while (true) {
    ICEPIE_ASSIGN_OR_RETURN(const auto records, supply.Next());
    if (records.empty()) return absl::OkStatus();
    for (const RecordView& record : records) {
      const RecordJudgement judged = JudgeRecord(plan, slice, stream, record.payload);
      if (judged.verdict != RecordJudgement::Verdict::kBad) readable.push_back(record.position);
    }
  }
}

}  // namespace

absl::StatusOr<std::vector<int64_t>> QuarantinedIn(DuckConnection& connection,
                                                   const std::string& alias) {
  ICEPIE_ASSIGN_OR_RETURN(
      const auto rows,
      connection.QueryCells(absl::StrCat("SELECT DISTINCT position FROM ", QuoteIdentifier(alias),
                                         ".main.__quarantine ORDER BY position")));
  std::vector<int64_t> positions;
  for (const CellRow& row : rows) positions.push_back(std::get<int64_t>(row.at(0)));
  return positions;
}

absl::StatusOr<std::vector<int64_t>> ReadableNow(const RecordReading& read, const DomainPlan& plan,
                                                 const SlicePlan& slice,
                                                 const std::vector<int64_t>& positions) {
  std::set<std::string> streams;
  for (const SourceUse& use : slice.sources) {
    streams.insert(plan.definition.FindSource(use.source)->stream);
  }
  std::vector<int64_t> readable;
  for (size_t i = 0; i < positions.size(); i += kJudgedTogether) {
    const size_t end = std::min(positions.size(), i + kJudgedTogether);
    const std::vector<int64_t> some(positions.begin() + static_cast<ptrdiff_t>(i),
                                    positions.begin() + static_cast<ptrdiff_t>(end));
    ICEPIE_ASSIGN_OR_RETURN(const RecordBatch batch, read(streams, some));
    for (const std::string& stream : streams) {
      ICEPIE_ASSIGN_OR_RETURN(const auto supply, batch.Supply(stream, batch.begin, batch.end)());
      ICEPIE_RETURN_IF_ERROR(JudgeAll(plan, slice, stream, *supply, readable));
    }
  }
  std::sort(readable.begin(), readable.end());
  return readable;
}

absl::StatusOr<std::unique_ptr<BuildBase>> BuildBase::Open(DuckDatabase& instance,
                                                           const SnapshotStore& store,
                                                           const std::string& path,
                                                           const std::function<bool()>& given_up) {
  std::unique_ptr<BuildBase> base(new BuildBase());
  ICEPIE_ASSIGN_OR_RETURN(base->manifest_, store.Check(path, given_up));
  ICEPIE_ASSIGN_OR_RETURN(base->served_, OpenSnapshot(instance, store, base->manifest_));
  ICEPIE_ASSIGN_OR_RETURN(base->connection_, DuckConnection::Connect(instance));
  return base;
}

absl::StatusOr<std::vector<int64_t>> BuildBase::Quarantined() const {
  return QuarantinedIn(*connection_, served_->database()->alias());
}

absl::Status BuildBase::NoteDifferences(const Generation& generation) {
  const SliceDef& definition = generation.definition();
  ICEPIE_ASSIGN_OR_RETURN(
      known_, icepie::slices::NoteDifferences(*connection_, served_->database()->alias(),
                                              generation.alias(), definition.key,
                                              definition.diff_tolerance, kKnown));
  return absl::OkStatus();
}

GenerationDiff BuildBase::Compare(const Generation& generation, int64_t records_left_out) const {
  const SliceDef& definition = generation.definition();
  const auto rows = DiffResults(*connection_, served_->database()->alias(), generation.alias(),
                                definition.key, definition.diff_tolerance, known_);
  GenerationDiff diff;
  diff.base_position = position();
  diff.position = generation.position();
  if (!rows.ok()) {
    diff.unavailable = std::string(rows.status().message());
    return diff;
  }
  diff.base_rows = rows->base_rows;
  diff.rows = rows->rows;
  diff.added = rows->added;
  diff.removed = rows->removed;
  diff.changed = rows->changed;
  diff.samples = rows->samples;
  diff.columns = rows->columns;
  diff.not_by_key = rows->not_by_key;
  if (rows->besides) diff.from_quarantine = FromQuarantine{records_left_out, *rows->besides};
  return diff;
}

}  // namespace icepie::slices
