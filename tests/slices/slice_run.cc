#include "tests/slices/slice_run.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "slices/role/engine.h"
#include "tests/core/temp_directory.h"

namespace icepie::slices {
namespace {

constexpr int64_t kMicrosBetweenCommits = 1'000'000;

std::string ReferenceTable(const std::string& slice) {
  return absl::StrCat("memory.main.", QuoteIdentifier("reference_" + slice));
}

double ToleranceOf(const std::string& type) {
  if (type == "DOUBLE") return 1e-9;
  return type == "FLOAT" ? 1e-5 : 0;
}

bool SameCell(const Cell& a, const Cell& b, double tolerance) {
  const double* x = std::get_if<double>(&a);
  const double* y = std::get_if<double>(&b);
  if (x == nullptr || y == nullptr) return a == b;
  if (std::isnan(*x) || std::isnan(*y)) return std::isnan(*x) && std::isnan(*y);
  return *x == *y || std::abs(*x - *y) <= tolerance * std::max(std::abs(*x), std::abs(*y));
}

std::string CellText(const Cell& cell) {
  if (const auto* text = std::get_if<std::string>(&cell)) return *text;
  if (const auto* number = std::get_if<double>(&cell)) return absl::StrCat(*number);
  return "NULL";
}

std::string RowText(const CellRow& row) {
  return absl::StrJoin(
      row, " | ", [](std::string* out, const Cell& cell) { absl::StrAppend(out, CellText(cell)); });
}

// Opening and closing an instance would be a tenth of a small run. It is never closed: at exit the
// thread's own variables are gone before static ones, and DuckDB's allocator uses its own when an
// instance closes (it then writes into freed memory).
struct Shared {
  TempDirectory directory;
  DuckDatabase* instance = nullptr;
  int runs = 0;
};

absl::StatusOr<Shared*> SharedInstance() {
  static Shared shared;
  if (shared.instance != nullptr) return &shared;
  EngineOptions options;
  options.domain = "test";
  options.directory = shared.directory.path();
  options.memory_bytes = int64_t{256} << 20;
  ICEPIE_ASSIGN_OR_RETURN(std::unique_ptr<DuckDatabase> instance, OpenInstance(options, 1));
  shared.instance = instance.release();
  return &shared;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SliceRun>> SliceRun::Start(const std::string& yaml) {
  ICEPIE_ASSIGN_OR_RETURN(Shared * shared, SharedInstance());
  std::unique_ptr<SliceRun> run(
      new SliceRun(absl::StrCat(shared->directory.path(), "/", ++shared->runs)));
  ICEPIE_ASSIGN_OR_RETURN(const DomainDef definition, ParseDomain(yaml, "test.yaml"));
  ICEPIE_ASSIGN_OR_RETURN(DomainPlan plan, PlanDomain(definition));
  run->plan_ = std::make_shared<const DomainPlan>(std::move(plan));
  run->instance_ = shared->instance;
  run->store_ = std::make_unique<SnapshotStore>(run->directory_, SnapshotKeeping{1});
  ICEPIE_RETURN_IF_ERROR(run->store_->Prepare());
  for (const SlicePlan& slice : run->plan_->slices) {
    ICEPIE_RETURN_IF_ERROR(run->Open(slice.slice, ""));
  }
  return run;
}

SliceRun::~SliceRun() {
  std::error_code error;
  std::filesystem::remove_all(directory_, error);
}

absl::Status SliceRun::Open(const std::string& slice, const std::string& snapshot) {
  ICEPIE_ASSIGN_OR_RETURN(generations_[slice],
                          Generation::Open(*instance_, plan_, slice, 1, snapshot));
  return ConnectUpstream(slice);
}

absl::Status SliceRun::ConnectUpstream(const std::string& slice) {
  Generation& generation = *generations_.at(slice);
  std::map<std::string, Generation::Upstream> upstream;
  for (const std::string& name : generation.plan().upstream) {
    upstream[name] = generations_.at(name)->AsUpstream();
  }
  return generation.SetUpstream(upstream);
}

void SliceRun::Append(const std::string& source, const std::vector<std::string>& payloads) {
  const std::string& stream = plan_->definition.FindSource(source)->stream;
  appended_[stream] += static_cast<int64_t>(payloads.size());
  newest_us_[stream] = kMicrosBetweenCommits * (1 + feed_.head());
  feed_.Append(stream, payloads, newest_us_[stream]);
}

int64_t SliceRun::RecordCount(const std::string& slice) const {
  int64_t count = 0;
  for (const std::string& stream : generations_.at(slice)->streams()) {
    const auto found = appended_.find(stream);
    if (found != appended_.end()) count += found->second;
  }
  return count;
}

absl::Status SliceRun::Apply(int64_t records_max) {
  for (const SlicePlan& slice : plan_->slices) {
    ICEPIE_RETURN_IF_ERROR(ApplyTo(*generations_.at(slice.slice), records_max));
  }
  return absl::OkStatus();
}

int64_t SliceRun::NewestBelow(const Generation& generation) const {
  int64_t newest = 0;
  for (const std::string& name : SlicesBelow(*plan_, generation.plan())) {
    newest = std::max(newest, generations_.at(name)->progress().applied_time_us);
  }
  return newest;
}

// What its upstream slices changed, or where they cannot say that, all of them anew.
absl::Status SliceRun::ApplyUpstream(Generation& generation) {
  const int64_t from = generation.position();
  const int64_t newest_us = NewestBelow(generation);
  bool changed =
      !generation.streams().empty() ||
      (generation.plan().retained.span_us > 0 && newest_us > generation.progress().applied_time_us);
  ICEPIE_ASSIGN_OR_RETURN(bool fits, generation.FitsUpstream());
  for (const std::string& name : generation.plan().upstream) {
    const Generation::Changes changes = generations_.at(name)->ChangesSince(from);
    changed = changed || changes != Generation::Changes::kNone;
    fits = fits && changes != Generation::Changes::kLost;
  }
  if (fits && changed) return generation.ApplyChanges(feed_, nullptr, feed_.head(), newest_us);
  if (fits) {
    generation.PassTo(feed_.head());
    return absl::OkStatus();
  }
  ++rebuilds_;
  return RecomputeOne(generation, {}, newest_us);
}

absl::Status SliceRun::RecomputeOne(Generation& generation,
                                    const std::vector<std::string>& upstream, int64_t newest_us) {
  absl::Status status;
  do {
    ICEPIE_RETURN_IF_ERROR(generation.BeginRecompute(upstream));
    status = generation.FinishRecompute(feed_, feed_.head(), newest_us);
  } while (absl::IsAborted(status));
  return status;
}

absl::Status SliceRun::ApplyTo(Generation& generation, int64_t records_max) {
  const int64_t head = feed_.head();
  generation.RestartChanges(/*wanted=*/true);  // everyone who reads it stands where it does
  if (generation.plan().reads_changes) return ApplyUpstream(generation);
  if (!generation.incremental()) {
    std::vector<std::string> upstream;
    for (const std::string& name : generation.plan().upstream) {
      upstream.push_back(generations_.at(name)->alias());
    }
    return RecomputeOne(generation, upstream, NewestBelow(generation));
  }
  const std::set<std::string>& streams = generation.streams();
  const auto reader = feed_.Open({streams.begin(), streams.end()}, generation.position(), head);
  BatchDecoder decoder(generation.position(), streams);
  while (generation.position() < head) {
    ICEPIE_ASSIGN_OR_RETURN(const auto piece, reader->Next());
    ICEPIE_ASSIGN_OR_RETURN(const RecordBatch batch, decoder.Decode(*piece));
    ICEPIE_RETURN_IF_ERROR(generation.Apply(batch, records_max));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> SliceRun::HoldBack(const std::string& slice, int64_t nth, int64_t count) {
  Generation& generation = *generations_.at(slice);
  held_back_.clear();
  ICEPIE_ASSIGN_OR_RETURN(const bool any_order, generation.TakesAnyOrder());
  if (!any_order) return false;
  for (int64_t i = nth; i < count; i += nth) held_back_.push_back(feed_.head() + i);
  ICEPIE_RETURN_IF_ERROR(generation.HoldBack(held_back_));
  return true;
}

absl::Status SliceRun::TakeHeldBack(const std::string& slice) {
  Generation& generation = *generations_.at(slice);
  ICEPIE_RETURN_IF_ERROR(generation.HoldBack({}));
  ICEPIE_ASSIGN_OR_RETURN(const auto connection, DuckConnection::Connect(*instance_));
  ICEPIE_ASSIGN_OR_RETURN(const auto quarantined,
                          connection->QueryCells(absl::StrCat(
                              "SELECT position FROM ", QuoteIdentifier(generation.alias()),
                              ".main.__quarantine WHERE code = 'HELD_BACK' ORDER BY position")));
  std::vector<int64_t> positions;
  for (const CellRow& row : quarantined) positions.push_back(std::get<int64_t>(row[0]));
  if (positions.empty()) return absl::OkStatus();
  ICEPIE_ASSIGN_OR_RETURN(const RecordBatch batch,
                          ReadRecordsAt(feed_, generation.streams(), positions));
  return generation.TakeQuarantined(batch, positions);
}

absl::Status SliceRun::Restart() {
  for (const SlicePlan& slice : plan_->slices) {
    ICEPIE_RETURN_IF_ERROR(RestartOne(slice.slice));
  }
  return absl::OkStatus();
}

absl::Status SliceRun::RestartOne(const std::string& slice) {
  std::unique_ptr<Generation>& generation = generations_.at(slice);
  ICEPIE_RETURN_IF_ERROR(generation->WritePosition());
  const int64_t position = generation->position();
  ICEPIE_ASSIGN_OR_RETURN(const SnapshotManifest saved,
                          store_->Save(*instance_, generation->alias(), generation->served().info(),
                                       /*rows_max=*/1000));
  generation.reset();
  ICEPIE_RETURN_IF_ERROR(Open(slice, store_->AbsolutePath(saved.path)));
  if (generations_.at(slice)->position() == position) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(slice, " came back at another position"));
}

absl::Status SliceRun::ReopenAs(const std::string& slice, const std::string& other) {
  Generation& from = *generations_.at(other);
  ICEPIE_ASSIGN_OR_RETURN(
      const SnapshotManifest saved,
      store_->Save(*instance_, from.alias(), from.served().info(), /*rows_max=*/1000));
  return Generation::Open(*instance_, plan_, slice, 1, store_->AbsolutePath(saved.path)).status();
}

absl::StatusOr<std::set<int64_t>> SliceRun::FailedRecords(const std::string& slice) {
  ICEPIE_ASSIGN_OR_RETURN(
      const auto rows,
      references_.at(slice).connection->QueryCells(
          absl::StrCat("SELECT position FROM ", QuoteIdentifier(generations_.at(slice)->alias()),
                       ".main.__quarantine WHERE code = 'SQL_ERROR' ORDER BY position")));
  std::set<int64_t> positions;
  for (const CellRow& row : rows) positions.insert(std::get<int64_t>(row[0]));
  return positions;
}

// The slice's SQL, without the rows that are behind its horizon.
std::string SliceRun::RetainedSql(const std::string& slice) const {
  const SliceDef& definition = *plan_->definition.FindSlice(slice);
  const std::string& other = references_.at(slice).sql;
  const std::string& sql = other.empty() ? definition.sql : other;
  if (!definition.retain) return sql;
  int64_t newest = 0;
  for (const std::string& stream : StreamsBelow(*plan_, *plan_->Find(slice))) {
    const auto found = newest_us_.find(stream);
    if (found != newest_us_.end()) newest = std::max(newest, found->second);
  }
  const std::string horizon = absl::StrCat(
      "make_timestamp(", newest - absl::ToInt64Microseconds(definition.retain->span), ")");
  const std::string& column = definition.retain->column;
  std::string behind = absl::StrCat(column, " AT TIME ZONE 'UTC' < ", horizon);
  for (const OutputColumn& each : plan_->Find(slice)->columns) {
    if (each.name != column) continue;
    if (each.type == "TIMESTAMP") behind = absl::StrCat(column, " < ", horizon);
    if (each.type == "DATE") behind = absl::StrCat(column, " < CAST(", horizon, " AS DATE)");
  }
  return absl::StrCat("SELECT * FROM (", sql, ") WHERE (", behind, ") IS NOT TRUE");
}

// A star or a whole row of the source has those of its hidden columns that the SQL names.
absl::Status SliceRun::HideUnnamed(const SourceUse& use, const std::string& slice,
                                   DuckConnection& connection) const {
  const std::string& other = references_.at(slice).sql;
  const std::string& sql = other.empty() ? plan_->definition.FindSlice(slice)->sql : other;
  std::vector<std::string> columns;
  for (const ColumnDef& column : plan_->definition.FindSource(use.source)->columns) {
    const auto& read = use.columns;
    const bool is_read = std::find(read.begin(), read.end(), column.name) != read.end();
    columns.push_back(absl::StrCat(is_read ? "" : "NULL AS ", QuoteIdentifier(column.name)));
  }
  for (const char* hidden : kHiddenColumns) {
    if (absl::StrContains(sql, hidden)) columns.emplace_back(hidden);
  }
  const std::string source = QuoteIdentifier(use.source);
  const std::string all = QuoteIdentifier(absl::StrCat("__all_of_", use.source));
  ICEPIE_RETURN_IF_ERROR(connection.Run(absl::StrCat("ALTER VIEW ", source, " RENAME TO ", all)));
  return connection.Run(absl::StrCat("CREATE TEMP VIEW ", source, " AS SELECT ",
                                     absl::StrJoin(columns, ", "), " FROM ", all));
}

// The slice's SQL over everything, as a table.
absl::Status SliceRun::MakeReference(const std::string& slice) {
  const SlicePlan& plan = *plan_->Find(slice);
  Reference& reference = references_[slice];
  if (reference.connection == nullptr) {
    ICEPIE_ASSIGN_OR_RETURN(reference.connection, DuckConnection::Connect(*instance_));
    for (const SourceUse& use : plan.sources) {
      ICEPIE_ASSIGN_OR_RETURN(
          reference.inputs[use.source],
          SourceInput::Create(*reference.connection, *plan_->definition.FindSource(use.source),
                              use.columns));
      ICEPIE_RETURN_IF_ERROR(HideUnnamed(use, slice, *reference.connection));
    }
  }
  for (const std::string& upstream : plan.upstream) {
    ICEPIE_RETURN_IF_ERROR(MakeReference(upstream));
    // Between equal rows decides the key, then all that they have.
    std::string key;
    for (const std::string& column : plan_->definition.FindSlice(upstream)->key) {
      absl::StrAppend(&key, QuoteIdentifier(column), ", ");
    }
    ICEPIE_RETURN_IF_ERROR(reference.connection->Run(
        absl::StrCat("CREATE OR REPLACE TEMP VIEW ", QuoteIdentifier(upstream), " AS FROM ",
                     ReferenceTable(upstream), " ORDER BY ", key, "COLUMNS(*)")));
  }
  ICEPIE_ASSIGN_OR_RETURN(std::set<int64_t> unused, FailedRecords(slice));
  // What one source cannot read is used by none, then.
  for (const bool judged : {false, true}) {
    for (auto& [name, input] : reference.inputs) {
      const std::string& stream = plan_->definition.FindSource(name)->stream;
      input->SetRecords(FeedSupply(feed_, stream, feed_.head()), {unused.begin(), unused.end()});
    }
    for (auto& [name, input] : reference.inputs) {
      if (judged) break;
      for (const BadRecord& record : input->counts().bad) unused.insert(record.position);
    }
  }
  return reference.connection->Run(
      absl::StrCat("CREATE OR REPLACE TABLE ", ReferenceTable(slice), " AS ", RetainedSql(slice)));
}

// All rows in an order of their own: the exact columns as text first, then the floating ones.
absl::StatusOr<std::vector<CellRow>> SliceRun::SortedCells(const std::string& slice,
                                                           const std::string& relation) {
  std::vector<std::string> exact;
  std::vector<std::string> real;
  for (const OutputColumn& column : plan_->Find(slice)->columns) {
    const std::string name = QuoteIdentifier(column.name);
    ToleranceOf(column.type) > 0 ? real.push_back(name + "::DOUBLE")
                                 : exact.push_back(name + "::VARCHAR");
  }
  exact.insert(exact.end(), real.begin(), real.end());
  const std::string cells = absl::StrJoin(exact, ", ");
  return references_.at(slice).connection->QueryCells(
      absl::StrCat("SELECT ", cells, " FROM ", relation, " ORDER BY ", cells));
}

absl::StatusOr<std::string> SliceRun::Difference(const std::string& slice) {
  ICEPIE_RETURN_IF_ERROR(MakeReference(slice));
  const std::string relation =
      absl::StrCat(QuoteIdentifier(generations_.at(slice)->alias()), ".main.__result");
  ICEPIE_ASSIGN_OR_RETURN(const std::vector<CellRow> got, SortedCells(slice, relation));
  ICEPIE_ASSIGN_OR_RETURN(const std::vector<CellRow> want,
                          SortedCells(slice, ReferenceTable(slice)));
  std::vector<double> tolerances;
  for (const OutputColumn& column : plan_->Find(slice)->columns) {
    if (ToleranceOf(column.type) > 0) tolerances.push_back(ToleranceOf(column.type));
  }
  tolerances.insert(tolerances.begin(), plan_->Find(slice)->columns.size() - tolerances.size(), 0);
  for (size_t row = 0; row < std::max(got.size(), want.size()); ++row) {
    const std::string ours = row < got.size() ? RowText(got[row]) : "no row";
    const std::string theirs = row < want.size() ? RowText(want[row]) : "no row";
    bool same = row < got.size() && row < want.size();
    for (size_t i = 0; same && i < got[row].size(); ++i) {
      same = SameCell(got[row][i], want[row][i], tolerances[i]);
    }
    if (!same) return absl::StrCat("slice has: ", ours, "\nSQL gives: ", theirs);
  }
  return "";
}

absl::StatusOr<std::vector<CellRow>> SliceRun::Cells(const std::string& sql) {
  ICEPIE_ASSIGN_OR_RETURN(const auto connection, DuckConnection::Connect(*instance_));
  return connection->QueryCells(sql);
}

absl::StatusOr<std::vector<std::string>> SliceRun::Rows(const std::string& slice) {
  ICEPIE_ASSIGN_OR_RETURN(const auto connection, DuckConnection::Connect(*instance_));
  std::vector<std::string> cells;
  for (const OutputColumn& column : plan_->Find(slice)->columns) {
    cells.push_back(QuoteIdentifier(column.name) + "::VARCHAR");
  }
  ICEPIE_ASSIGN_OR_RETURN(const auto rows,
                          connection->QueryCells(absl::StrCat(
                              "SELECT ", absl::StrJoin(cells, ", "), " FROM ",
                              QuoteIdentifier(generations_.at(slice)->alias()), ".main.__result")));
  std::vector<std::string> text;
  for (const CellRow& row : rows) text.push_back(RowText(row));
  std::sort(text.begin(), text.end());
  return text;
}

}  // namespace icepie::slices
