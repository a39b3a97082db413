#include "slices/row_diff.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "slices/duckdb.h"
#include "slices/result_json.h"

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

  absl::StatusOr<RowDiff> Run() {
    ICEPIE_RETURN_IF_ERROR(MatchColumns());
    ICEPIE_ASSIGN_OR_RETURN(diff_.base_rows, Count(absl::StrCat("SELECT count(*) FROM ", base_)));
    ICEPIE_ASSIGN_OR_RETURN(diff_.rows, Count(absl::StrCat("SELECT count(*) FROM ", new_)));
    ICEPIE_ASSIGN_OR_RETURN(diff_.not_by_key, WhyNotByKey());
    ICEPIE_RETURN_IF_ERROR(diff_.not_by_key.empty() ? DiffByKey() : DiffWholeRows());
    return std::move(diff_);
  }

 private:
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

  absl::StatusOr<std::string> WhyNotByKey() {
    if (key_.empty()) return std::string("the slice has no key");
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
                            " generation: ", repeated, " keys occur more than once");
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

  static std::string ChangeSql() {
    return "CASE WHEN b.\"__present\" IS NULL THEN 'added' WHEN n.\"__present\" IS NULL "
           "THEN 'removed' ELSE 'changed' END";
  }

  absl::Status DiffByKey() {
    ICEPIE_ASSIGN_OR_RETURN(
        const std::vector<CellRow> rows,
        connection_.QueryCells(JoinSql("count(*) FILTER (b.\"__present\" IS NULL), "
                                       "count(*) FILTER (n.\"__present\" IS NULL), count(*)")));
    diff_.added = std::get<int64_t>(rows.at(0).at(0));
    diff_.removed = std::get<int64_t>(rows.at(0).at(1));
    diff_.changed = std::get<int64_t>(rows.at(0).at(2)) - diff_.added - diff_.removed;
    const std::string order = Joined(key_, ", ", [](const std::string& name) {
      return absl::StrCat("coalesce(", Of("n", name), ", ", Of("b", name), ")");
    });
    return Sample(absl::StrCat(
        JoinSql(absl::StrCat(ChangeSql(), " AS \"change\", CASE WHEN b.\"__present\" THEN ",
                             RowStruct("b", base_columns_),
                             " END AS \"before\", CASE WHEN n.\"__present\" THEN ",
                             RowStruct("n", new_columns_), " END AS \"after\"")),
        " ORDER BY ", order));
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

  absl::Status DiffWholeRows() {
    if (common_.empty()) {
      diff_.added = diff_.rows;
      diff_.removed = diff_.base_rows;
      return absl::OkStatus();
    }
    ICEPIE_ASSIGN_OR_RETURN(
        diff_.added,
        Count(absl::StrCat("SELECT CAST(coalesce(sum(\"__excess\") FILTER (\"__excess\" > 0),"
                           " 0) AS BIGINT) FROM (",
                           ExcessSql(), ")")));
    diff_.removed = diff_.base_rows + diff_.added - diff_.rows;
    const std::string row = RowStruct("e", common_);
    const std::string order =
        Joined(common_, ", ", [](const Column& column) { return Of("e", column.name); });
    return Sample(
        absl::StrCat("SELECT CASE WHEN \"__excess\" > 0 THEN 'added' ELSE 'removed' END AS "
                     "\"change\", CASE WHEN "
                     "\"__excess\" < 0 THEN ",
                     row, " END AS \"before\", CASE WHEN \"__excess\" > 0 THEN ", row,
                     " END AS \"after\" FROM (", ExcessSql(), ") AS e ORDER BY ", order));
  }

  absl::Status Sample(const std::string& sql) {
    if (diff_.added + diff_.removed + diff_.changed == 0) return absl::OkStatus();
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
                                    const std::map<std::string, double>& tolerance) {
  return Differ(connection, base_db, new_db, key, tolerance).Run();
}

}  // namespace icepie::slices
