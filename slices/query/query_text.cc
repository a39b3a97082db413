#include "slices/query/query_text.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/numeric/int128.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"

namespace icepie::slices {
namespace {

using Operator = SelectFilter::Operator;

absl::Status BadParameter(const std::string& message) {
  return MakeError(absl::StatusCode::kInvalidArgument, message, "PARAMETER_INVALID");
}

absl::StatusOr<OutputColumn> FindColumn(const GenerationInfo& slice, const std::string& name) {
  for (const OutputColumn& column : slice.columns) {
    if (column.name == name) return column;
  }
  const std::string have =
      absl::StrJoin(slice.columns, ", ",
                    [](std::string* out, const OutputColumn& column) { out->append(column.name); });
  return MakeError(
      absl::StatusCode::kInvalidArgument,
      absl::StrCat("slice ", slice.slice, " has no column ", name, " (have: ", have, ")"),
      "SQL_UNKNOWN_COLUMN", {{"column", name}, {"have", have}});
}

const char* OperatorText(Operator op) {
  switch (op) {
    case Operator::kEq:
      return " = ";
    case Operator::kNeq:
      return " <> ";
    case Operator::kLt:
      return " < ";
    case Operator::kLte:
      return " <= ";
    case Operator::kGt:
      return " > ";
    case Operator::kGte:
      return " >= ";
    case Operator::kIn:
      return " IN ";
    case Operator::kIsNull:
      return " IS NULL";
    case Operator::kIsNotNull:
      return " IS NOT NULL";
  }
  return "";
}

absl::Status CheckValueCount(const SelectFilter& filter) {
  const bool none = filter.op == Operator::kIsNull || filter.op == Operator::kIsNotNull;
  const size_t count = filter.values.size();
  if (none && count != 0) {
    return BadParameter(absl::StrCat("filter on ", filter.column, ": takes no value"));
  }
  if (filter.op == Operator::kIn && (count == 0 || count > 1000)) {
    return BadParameter(absl::StrCat("filter on ", filter.column, ": IN takes 1 to 1,000 values"));
  }
  if (!none && filter.op != Operator::kIn && count != 1) {
    return BadParameter(absl::StrCat("filter on ", filter.column, ": takes one value"));
  }
  return absl::OkStatus();
}

absl::Status AppendFilter(const SelectFilter& filter, const GenerationInfo& slice,
                          SelectText& text) {
  ICEPIE_ASSIGN_OR_RETURN(const OutputColumn column, FindColumn(slice, filter.column));
  ICEPIE_RETURN_IF_ERROR(CheckValueCount(filter));
  absl::StrAppend(&text.sql, QuoteIdentifier(column.name), OperatorText(filter.op));
  std::vector<std::string> values;
  for (const QueryValue& value : filter.values) {
    const std::string name = absl::StrCat("f", text.parameters.size());
    values.push_back(absl::StrCat("CAST($", name, " AS ", column.type, ")"));
    text.parameters[name] = value;
  }
  const std::string list = absl::StrJoin(values, ", ");
  absl::StrAppend(&text.sql, filter.op == Operator::kIn ? absl::StrCat("(", list, ")") : list);
  return absl::OkStatus();
}

std::optional<duckdb_decimal> ParseDecimal(const std::string& digits) {
  absl::int128 value = 0;
  int width = 0;
  int scale = 0;
  bool point = false;
  const bool negative = !digits.empty() && digits[0] == '-';
  for (size_t i = negative ? 1 : 0; i < digits.size(); ++i) {
    if (digits[i] == '.' && !point) {
      point = true;
      continue;
    }
    if (!absl::ascii_isdigit(static_cast<unsigned char>(digits[i])) || ++width > 38) {
      return std::nullopt;
    }
    value = value * 10 + (digits[i] - '0');
    scale += point ? 1 : 0;
  }
  if (width == 0) return std::nullopt;
  if (negative) value = -value;
  duckdb_decimal decimal{};
  decimal.width = static_cast<uint8_t>(width);
  decimal.scale = static_cast<uint8_t>(scale);
  decimal.value.lower = absl::Int128Low64(value);
  decimal.value.upper = absl::Int128High64(value);
  return decimal;
}

struct ToDuckValue {
  duckdb_value operator()(std::monostate) const { return duckdb_create_null_value(); }
  duckdb_value operator()(bool value) const { return duckdb_create_bool(value); }
  duckdb_value operator()(int64_t value) const { return duckdb_create_int64(value); }
  duckdb_value operator()(double value) const { return duckdb_create_double(value); }
  duckdb_value operator()(const DecimalValue& value) const {
    const std::optional<duckdb_decimal> decimal = ParseDecimal(value.digits);
    return decimal ? duckdb_create_decimal(*decimal) : nullptr;
  }
  duckdb_value operator()(const std::string& value) const {
    return duckdb_create_varchar_length(value.data(), value.size());
  }
  duckdb_value operator()(const BlobValue& value) const {
    return duckdb_create_blob(reinterpret_cast<const uint8_t*>(value.bytes.data()),
                              value.bytes.size());
  }
  duckdb_value operator()(absl::Time value) const {
    return duckdb_create_timestamp_tz({absl::ToUnixMicros(value)});
  }
};

absl::Status BindOne(const DuckStatement& statement, idx_t index, const std::string& name,
                     const QueryValue& value) {
  duckdb_value bound = std::visit(ToDuckValue(), value);
  if (bound == nullptr) {
    return BadParameter(
        absl::StrCat("parameter ", name, ": not a decimal of at most 38 digits, like -120.55"));
  }
  const duckdb_state state = duckdb_bind_value(statement.handle(), index, bound);
  duckdb_destroy_value(&bound);
  if (state == DuckDBSuccess) return absl::OkStatus();
  return BadParameter(absl::StrCat("parameter ", name, ": cannot be bound"));
}

std::string ParameterName(const DuckStatement& statement, idx_t index) {
  const char* name = duckdb_parameter_name(statement.handle(), index);
  const std::string copied = name == nullptr ? "" : name;
  duckdb_free(const_cast<char*>(name));
  return copied;
}

}  // namespace

absl::StatusOr<SelectText> SelectToSql(const SelectQuestion& question, const GenerationInfo& slice,
                                       const std::string& relation) {
  std::vector<std::string> columns;
  for (const std::string& name : question.columns) {
    ICEPIE_ASSIGN_OR_RETURN(const OutputColumn column, FindColumn(slice, name));
    columns.push_back(QuoteIdentifier(column.name));
  }
  SelectText text;
  text.sql = absl::StrCat("SELECT ", columns.empty() ? "*" : absl::StrJoin(columns, ", "), " FROM ",
                          relation);
  for (size_t i = 0; i < question.filters.size(); ++i) {
    absl::StrAppend(&text.sql, i == 0 ? " WHERE " : " AND ");
    ICEPIE_RETURN_IF_ERROR(AppendFilter(question.filters[i], slice, text));
  }
  for (size_t i = 0; i < question.order_by.size(); ++i) {
    ICEPIE_ASSIGN_OR_RETURN(const OutputColumn column,
                            FindColumn(slice, question.order_by[i].column));
    absl::StrAppend(&text.sql, i == 0 ? " ORDER BY " : ", ", QuoteIdentifier(column.name),
                    question.order_by[i].descending ? " DESC NULLS LAST" : " ASC NULLS LAST");
  }
  if (question.limit) {
    if (*question.limit < 0) return BadParameter("limit: must not be negative");
    absl::StrAppend(&text.sql, " LIMIT ", *question.limit);
  }
  return text;
}

absl::Status BindParameters(const DuckStatement& statement,
                            const std::map<std::string, QueryValue>& parameters) {
  const idx_t count = duckdb_nparams(statement.handle());
  for (idx_t index = 1; index <= count; ++index) {
    const std::string name = ParameterName(statement, index);
    const auto found = parameters.find(name);
    if (found == parameters.end()) {
      return BadParameter(absl::StrCat("parameter $", name, ": no value given"));
    }
    ICEPIE_RETURN_IF_ERROR(BindOne(statement, index, name, found->second));
  }
  for (const auto& [name, value] : parameters) {
    idx_t index = 0;
    if (duckdb_bind_parameter_index(statement.handle(), &index, name.c_str()) == DuckDBError) {
      return BadParameter(absl::StrCat("parameter ", name, ": the query has no $", name));
    }
  }
  return absl::OkStatus();
}

}  // namespace icepie::slices
