// Generation: what SQL over slices failed on. A row of a slice is made of many records and stays in
// that slice, so none of them could be left out of this one alone; whoever repairs it is told which
// row it was and when it came.
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "slices/apply/generation.h"
#include "slices/plan/change_feed.h"
#include "slices/reading/json_reading.h"

namespace icepie::slices {
namespace {

// Of the rows that came to the slice in `database` behind the position.
std::string SelectNew(absl::string_view columns, const std::string& database, int64_t position) {
  return absl::StrCat("SELECT ", columns, " FROM ", QuoteIdentifier(database),
                      ".main.__changes WHERE ", kAtColumn, " > ", position, " AND ", kSignColumn,
                      " > 0");
}

std::string TextOf(const Cell& cell) {
  const auto* text = std::get_if<std::string>(&cell);
  return text == nullptr ? "NULL" : ShortenedValue(*text);
}

}  // namespace

// With the changed rows, all or these, and its own records in [from, to).
absl::Status Generation::TryOutChanges(Feed& feed, const RecordBatch* batch, int64_t from,
                                       int64_t to, const std::optional<ChangedRows>& only) {
  return TryOut([&] {
    ICEPIE_RETURN_IF_ERROR(only ? TakeSome(*only) : TakeUpstreamChanges());
    return FoldChanges(feed, batch, from, to);
  });
}

absl::Status Generation::TakeSome(const ChangedRows& only) {
  const std::string columns = absl::StrCat("* EXCLUDE ", kAtColumn);
  ICEPIE_ASSIGN_OR_RETURN(DuckResult rows,
                          connection_->Query(absl::StrCat(
                              SelectNew(columns, upstream_.at(only.slice).alias, position_),
                              " ORDER BY rowid LIMIT ", only.count, " OFFSET ", only.first)));
  return upstream_changes_.at(only.slice).rows->Set(std::move(rows));
}

// Halves what it fails on down to one row; no row when several are needed for that.
std::optional<Generation::ChangedRows> Generation::FindFailingRow(Feed& feed, ChangedRows among) {
  const auto fails = [&](const ChangedRows& rows) {
    return rows.count > 0 &&
           absl::IsInvalidArgument(TryOutChanges(feed, nullptr, position_, position_, rows));
  };
  if (!fails(among)) return std::nullopt;
  while (among.count > 1) {
    const int64_t half = among.count / 2;
    const ChangedRows left = {among.slice, among.first, half};
    const ChangedRows right = {among.slice, among.first + half, among.count - half};
    if (fails(left)) {
      among = left;
    } else if (fails(right)) {
      among = right;
    } else {
      return std::nullopt;
    }
  }
  return among;
}

// As in "the row city = Bern of slice by_city, which came below position 7".
absl::StatusOr<std::string> Generation::NameRow(const ChangedRows& row) {
  std::vector<std::string> names = domain_plan_->definition.FindSlice(row.slice)->key;
  if (names.empty()) {
    for (const OutputColumn& column : domain_plan_->Find(row.slice)->columns) {
      names.push_back(column.name);
    }
  }
  std::vector<std::string> columns = {kAtColumn};
  for (const std::string& name : names) {
    columns.push_back(absl::StrCat("CAST(", QuoteIdentifier(name), " AS VARCHAR)"));
  }
  ICEPIE_ASSIGN_OR_RETURN(
      const auto rows,
      connection_->QueryCells(absl::StrCat(
          SelectNew(absl::StrJoin(columns, ", "), upstream_.at(row.slice).alias, position_),
          " ORDER BY rowid LIMIT 1 OFFSET ", row.first)));
  if (rows.empty()) return "";
  std::vector<std::string> cells;
  for (size_t i = 0; i < names.size(); ++i) {
    cells.push_back(absl::StrCat(names[i], " = ", TextOf(rows.front()[i + 1])));
  }
  return absl::StrCat("the row ", absl::StrJoin(cells, ", "), " of slice ", row.slice,
                      ", which came below position ", std::get<int64_t>(rows.front().front()));
}

absl::StatusOr<std::string> Generation::FindBlame(Feed& feed) {
  for (const auto& [slice, from] : upstream_) {
    ICEPIE_ASSIGN_OR_RETURN(const auto count,
                            connection_->QueryCells(SelectNew("count(*)", from.alias, position_)));
    const auto row = FindFailingRow(feed, {slice, 0, std::get<int64_t>(count.front().front())});
    if (row) return NameRow(*row);
  }
  return "";
}

// Its first failure only: what fails afterwards may be all that came since.
void Generation::NoteBlame(Feed& feed) {
  if (!blame_.empty()) return;
  const absl::StatusOr<std::string> blame = FindBlame(feed);
  // One that was found in a hurry is not the row.
  if (blame.ok() && SteadyNow() < search_until_) blame_ = *blame;
}

}  // namespace icepie::slices
