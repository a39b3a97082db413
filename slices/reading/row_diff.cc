#include "slices/reading/row_diff.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "slices/duckdb/duckdb.h"
#include "slices/reading/result_json.h"

namespace icepie::slices {
namespace {

// Samples are for people: large ones are cut in number.
constexpr int64_t kSampleBytesMax = int64_t{256} << 10;

struct Column {
  std::string name;
  std::string type;
};

std::string ResultOf(const std::string& database) {
  return absl::StrCat(QuoteIdentifier(database), ".\"main\".\"__result\"");
}

absl::StatusOr<std::vector<Column>> ColumnsOf(DuckConnection& connection,
                                              const std::string& database) {
  ICEPIE_ASSIGN_OR_RETURN(
      DuckResult result,
      connection.Query(absl::StrCat("SELECT * FROM ", ResultOf(database), " LIMIT 0")));
  std::vector<Column> columns;
  for (idx_t i = 0; i < result.column_count(); ++i) {
    columns.push_back({result.column_name(i), result.column_type(i)});
  }
  return columns;
}

const Column* Find(const std::vector<Column>& columns, const std::string& name) {
  const auto it = std::find_if(columns.begin(), columns.end(),
                               [&](const Column& column) { return column.name == name; });
  return it == columns.end() ? nullptr : &*it;
}

bool Contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// `expression(name)` of each, joined.
template <typename Names, typename Expression>
std::string Joined(const Names& names, absl::string_view separator, const Expression& expression) {
  return absl::StrJoin(names, separator, [&](std::string* out, const auto& name) {
    absl::StrAppend(out, expression(name));
  });
}

std::string Of(absl::string_view side, absl::string_view column) {
  return absl::StrCat(side, ".", QuoteIdentifier(column));
}

// {"a": side."a", …}: a row as a struct, which JSON shows as an object.
std::string RowStruct(absl::string_view side, const std::vector<Column>& columns) {
  return absl::StrCat("{",
                      Joined(columns, ", ",
                             [&](const Column& column) {
                               return absl::StrCat(QuoteLiteral(column.name), ": ",
                                                   Of(side, column.name));
                             }),
                      "}");
}

class Differ {
 public:
  Differ(DuckConnection& connection, std::string base_db, std::string new_db,
         const std::vector<std::string>& key, const std::map<std::string, double>& tolerance)
      : connection_(connection),
        base_(ResultOf(base_db)),
        new_(ResultOf(new_db)),
        base_db_(std::move(base_db)),
        new_db_(std::move(new_db)),
        key_(key),
        tolerance_(tolerance) {}

  absl::StatusOr<RowDiff> Run(const std::optional<Differences>& known) {
    ICEPIE_RETURN_IF_ERROR(Look());
    if (by_key() || !common_.empty()) {
      ICEPIE_RETURN_IF_ERROR(Diff(known && known->by_key == by_key() ? known->table : ""));
    } else {
      diff_.added = diff_.rows;
      diff_.removed = diff_.base_rows;
    }
    return std::move(diff_);
  }

  absl::StatusOr<Differences> Note(const std::string& table) {
    ICEPIE_RETURN_IF_ERROR(Look());
    if (!by_key() && common_.empty()) {
      return absl::FailedPreconditionError("the two have no column in common");
    }
    ICEPIE_RETURN_IF_ERROR(connection_.Run(
        absl::StrCat("CREATE OR REPLACE TEMP TABLE ", QuoteIdentifier(table), " AS SELECT ",
                     Joined(Match(), ", ", QuoteIdentifier), " FROM (", DifferencesSql(), ")")));
    return Differences{table, by_key()};
  }

 private:
  absl::Status Look() {
    ICEPIE_RETURN_IF_ERROR(MatchColumns());
    ICEPIE_ASSIGN_OR_RETURN(diff_.base_rows, Count(absl::StrCat("SELECT count(*) FROM ", base_)));
    ICEPIE_ASSIGN_OR_RETURN(diff_.rows, Count(absl::StrCat("SELECT count(*) FROM ", new_)));
    ICEPIE_ASSIGN_OR_RETURN(diff_.not_by_key, WhyNotByKey());
    return absl::OkStatus();
  }

  absl::Status MatchColumns() {
    ICEPIE_ASSIGN_OR_RETURN(base_columns_, ColumnsOf(connection_, base_db_));
    ICEPIE_ASSIGN_OR_RETURN(new_columns_, ColumnsOf(connection_, new_db_));
    for (const Column& column : base_columns_) {
      const Column* const other = Find(new_columns_, column.name);
      if (other == nullptr) {
        diff_.columns.push_back({column.name, column.type, ""});
      } else if (other->type != column.type) {
        diff_.columns.push_back({column.name, column.type, other->type});
      } else {
        common_.push_back(column);
      }
    }
    for (const Column& column : new_columns_) {
      if (Find(base_columns_, column.name) != nullptr) continue;
      diff_.columns.push_back({column.name, "", column.type});
    }
    return absl::OkStatus();
  }

  absl::StatusOr<int64_t> Count(const std::string& sql) {
    ICEPIE_ASSIGN_OR_RETURN(const std::vector<CellRow> rows, connection_.QueryCells(sql));
    return std::get<int64_t>(rows.at(0).at(0));
  }

  // A sum that is made anew may differ in its last digits, and with it the whole row.
  std::string HowDoublesAreCompared() const {
    const bool any = std::any_of(common_.begin(), common_.end(), [](const Column& column) {
      return column.type == "DOUBLE" || column.type == "FLOAT";
    });
    return any ? "; without one, DOUBLE columns must be equal to the last digit" : "";
  }

  absl::StatusOr<std::string> WhyNotByKey() {
    if (key_.empty()) return absl::StrCat("the slice has no key", HowDoublesAreCompared());
    for (const std::string& name : key_) {
      if (Find(common_, name) == nullptr) {
        return absl::StrCat("key column ", name, " is not the same in both");
      }
    }
    for (const auto& [table, side] :
         {std::pair{base_, "the serving"}, std::pair{new_, "the new"}}) {
      ICEPIE_ASSIGN_OR_RETURN(
          const int64_t repeated,
          Count(absl::StrCat("SELECT count(*) FROM (SELECT 1 FROM ", table, " GROUP BY ",
                             Joined(key_, ", ", QuoteIdentifier), " HAVING count(*) > 1)")));
      if (repeated != 0) {
        return absl::StrCat("the key (", absl::StrJoin(key_, ", "), ") is not unique in ", side,
                            " generation: ", repeated, " keys occur more than once",
                            HowDoublesAreCompared());
      }
    }
    return std::string();
  }

  // ---- By key ----

  std::string Differs(const Column& column) const {
    const std::string before = Of("b", column.name);
    const std::string after = Of("n", column.name);
    const std::string unequal = absl::StrCat(before, " IS DISTINCT FROM ", after);
    const auto it = tolerance_.find(column.name);
    const double tolerance = it != tolerance_.end()    ? it->second
                             : column.type == "DOUBLE" ? kDoubleTolerance
                                                       : 0;
    if (tolerance == 0 || !IsNumber(column.type)) return unequal;
    const std::string x = absl::StrCat("CAST(", before, " AS DOUBLE)");
    const std::string y = absl::StrCat("CAST(", after, " AS DOUBLE)");
    return absl::StrCat("(", unequal, " AND NOT coalesce(isfinite(", x, ") AND isfinite(", y,
                        ") AND abs(", x, " - ", y, ") <= CAST('", tolerance,
                        "' AS DOUBLE) * greatest(abs(", x, "), abs(", y, ")), false))");
  }

  static bool IsNumber(const std::string& type) {
    constexpr absl::string_view kNumbers[] = {"TINYINT",  "SMALLINT",  "INTEGER",  "BIGINT",
                                              "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT",
                                              "HUGEINT",  "UHUGEINT",  "FLOAT",    "DOUBLE"};
    if (absl::string_view(type).substr(0, 8) == "DECIMAL(") return type.back() == ')';
    return std::find(std::begin(kNumbers), std::end(kNumbers), type) != std::end(kNumbers);
  }

  // Rows of both sides beside each other, with what happened to them.
  std::string JoinSql(absl::string_view select) const {
    std::vector<std::string> differences;
    for (const Column& column : common_) {
      if (!Contains(key_, column.name)) differences.push_back(Differs(column));
    }
    if (differences.empty()) differences.emplace_back("false");
    const std::string on = Joined(key_, " AND ", [](const std::string& name) {
      return absl::StrCat(Of("b", name), " IS NOT DISTINCT FROM ", Of("n", name));
    });
    return absl::StrCat("SELECT ", select, " FROM (SELECT *, true AS \"__present\" FROM ", base_,
                        ") AS b FULL OUTER JOIN (SELECT *, true AS \"__present\" FROM ", new_,
                        ") AS n ON ", on,
                        " WHERE b.\"__present\" IS NULL OR n.\"__present\" IS NULL", " OR ",
                        absl::StrJoin(differences, " OR "));
  }

  std::string KeyedSql() const {
    return JoinSql(absl::StrCat(
        "CASE WHEN b.\"__present\" IS NULL THEN 'added' WHEN n.\"__present\" IS NULL THEN "
        "'removed' ELSE 'changed' END AS \"change\", 1 AS \"__times\", CASE WHEN "
        "b.\"__present\" THEN ",
        RowStruct("b", base_columns_), " END AS \"before\", CASE WHEN n.\"__present\" THEN ",
        RowStruct("n", new_columns_), " END AS \"after\"", MatchSql([&](size_t i) {
          return absl::StrCat("coalesce(", Of("n", key_[i]), ", ", Of("b", key_[i]), ")");
        })));
  }

  // ---- Whole rows ----

  // Each row that one side has more often, with how much more often the new one has it.
  std::string ExcessSql() const {
    const std::string columns =
        Joined(common_, ", ", [](const Column& column) { return QuoteIdentifier(column.name); });
    return absl::StrCat("SELECT ", columns, ", sum(\"__side\") AS \"__excess\" FROM (SELECT ",
                        columns, ", 1 AS \"__side\" FROM ", new_, " UNION ALL SELECT ", columns,
                        ", -1 AS \"__side\" FROM ", base_, ") GROUP BY ", columns,
                        " HAVING sum(\"__side\") <> 0");
  }

  std::string WholeSql() const {
    const std::string row = RowStruct("e", common_);
    return absl::StrCat(
        "SELECT CASE WHEN \"__excess\" > 0 THEN 'added' ELSE 'removed' END AS \"change\", "
        "abs(\"__excess\") AS \"__times\", CASE WHEN \"__excess\" < 0 THEN ",
        row, " END AS \"before\", CASE WHEN \"__excess\" > 0 THEN ", row, " END AS \"after\"",
        MatchSql([&](size_t i) { return Of("e", common_[i].name); }), " FROM (", ExcessSql(),
        ") AS e");
  }

  // ---- Both ----

  bool by_key() const { return diff_.not_by_key.empty(); }

  // What a row is known by: __match0, __match1, …
  std::vector<std::string> Match() const {
    std::vector<std::string> names(by_key() ? key_.size() : common_.size());
    for (size_t i = 0; i < names.size(); ++i) names[i] = absl::StrCat("__match", i);
    return names;
  }

  template <typename Expression>
  std::string MatchSql(const Expression& expression) const {
    const std::vector<std::string> names = Match();
    std::string items;
    for (size_t i = 0; i < names.size(); ++i) {
      absl::StrAppend(&items, ", ", expression(i), " AS ", QuoteIdentifier(names[i]));
    }
    return items;
  }

  // change, __times, before, after, __match…
  std::string DifferencesSql() const { return by_key() ? KeyedSql() : WholeSql(); }

  // With __besides: it is not among the known ones.
  std::string MarkedSql(const std::string& known) const {
    if (known.empty()) {
      return absl::StrCat("SELECT *, false AS \"__besides\" FROM (", DifferencesSql(), ")");
    }
    const std::string on = Joined(Match(), " AND ", [](const std::string& name) {
      return absl::StrCat(Of("d", name), " IS NOT DISTINCT FROM ", Of("k", name));
    });
    return absl::StrCat("SELECT d.*, k.\"__known\" IS NULL AS \"__besides\" FROM (",
                        DifferencesSql(), ") AS d LEFT JOIN (SELECT *, true AS \"__known\" FROM ",
                        QuoteIdentifier(known), ") AS k ON ", on);
  }

  absl::Status Diff(const std::string& known) {
    const std::string marked = MarkedSql(known);
    ICEPIE_ASSIGN_OR_RETURN(
        const std::vector<CellRow> rows,
        connection_.QueryCells(absl::StrCat(
            "SELECT \"change\", CAST(\"__besides\" AS BIGINT), CAST(sum(\"__times\") AS BIGINT) "
            "FROM (",
            marked, ") GROUP BY ALL")));
    RowChanges all;
    RowChanges besides;
    for (const CellRow& row : rows) {
      const auto& change = std::get<std::string>(row.at(0));
      const auto count = std::get<int64_t>(row.at(2));
      AddTo(all, change, count);
      if (std::get<int64_t>(row.at(1)) != 0) AddTo(besides, change, count);
    }
    diff_.added = all.added;
    diff_.removed = all.removed;
    diff_.changed = all.changed;
    if (!known.empty()) diff_.besides = besides;
    if (rows.empty()) return absl::OkStatus();
    return Sample(absl::StrCat("SELECT \"change\", \"before\", \"after\"",
                               known.empty() ? "" : ", \"__besides\" AS \"from_quarantine\"",
                               " FROM (", marked, ") ORDER BY \"__besides\", ",
                               Joined(Match(), ", ", QuoteIdentifier)));
  }

  static void AddTo(RowChanges& changes, const std::string& change, int64_t count) {
    int64_t& counted = change == "added"     ? changes.added
                       : change == "removed" ? changes.removed
                                             : changes.changed;
    counted += count;
  }

  absl::Status Sample(const std::string& sql) {
    ICEPIE_ASSIGN_OR_RETURN(DuckResult result,
                            connection_.Query(absl::StrCat(sql, " LIMIT ", kDiffSamplesMax)));
    ICEPIE_ASSIGN_OR_RETURN(diff_.samples, WriteJsonObjects(result, kSampleBytesMax));
    return absl::OkStatus();
  }

  DuckConnection& connection_;
  const std::string base_;
  const std::string new_;
  const std::string base_db_;
  const std::string new_db_;
  const std::vector<std::string>& key_;
  const std::map<std::string, double>& tolerance_;
  std::vector<Column> base_columns_;
  std::vector<Column> new_columns_;
  std::vector<Column> common_;
  RowDiff diff_;
};

}  // namespace

absl::StatusOr<RowDiff> DiffResults(DuckConnection& connection, const std::string& base_db,
                                    const std::string& new_db, const std::vector<std::string>& key,
                                    const std::map<std::string, double>& tolerance,
                                    const std::optional<Differences>& known) {
  return Differ(connection, base_db, new_db, key, tolerance).Run(known);
}

absl::StatusOr<Differences> NoteDifferences(DuckConnection& connection, const std::string& base_db,
                                            const std::string& new_db,
                                            const std::vector<std::string>& key,
                                            const std::map<std::string, double>& tolerance,
                                            const std::string& table) {
  return Differ(connection, base_db, new_db, key, tolerance).Note(table);
}

}  // namespace icepie::slices
