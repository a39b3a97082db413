#include "server/query/select_parameters.h"

#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "core/base/status.h"

namespace icepie::server {
namespace {

using icepie::v1::Column;
using icepie::v1::Filter;
using icepie::v1::Select;
using icepie::v1::Value;

struct Comparison {
  absl::string_view prefix;
  Filter::Operator op;
};

constexpr std::array<Comparison, 6> kComparisons = {{{"eq.", Filter::EQ},
                                                     {"neq.", Filter::NEQ},
                                                     {"lt.", Filter::LT},
                                                     {"lte.", Filter::LTE},
                                                     {"gt.", Filter::GT},
                                                     {"gte.", Filter::GTE}}};

absl::Status Invalid(absl::string_view parameter, absl::string_view message) {
  return MakeError(absl::StatusCode::kInvalidArgument, absl::StrCat(parameter, ": ", message),
                   "PARAMETER_INVALID", {{"parameter", std::string(parameter)}});
}

absl::StatusOr<const Column*> FindColumn(absl::string_view name, const Columns& columns) {
  std::vector<std::string> names;
  for (const Column& column : columns) {
    if (column.name() == name) return &column;
    names.push_back(column.name());
  }
  return MakeError(
      absl::StatusCode::kInvalidArgument,
      absl::StrCat("the slice has no column ", name, " (have: ", absl::StrJoin(names, ", "), ")"),
      "UNKNOWN_COLUMN", {{"column", std::string(name)}});
}

bool IsInteger(absl::string_view type) {
  return absl::EndsWith(type, "INT") || type == "INTEGER" || type == "UINTEGER";
}

bool LooksNumeric(absl::string_view text) {
  double number = 0;
  return text.find_first_not_of("+-.0123456789eE") == absl::string_view::npos &&
         absl::SimpleAtod(text, &number);
}

// False when `text` is no value of the column's type.
bool ReadValue(absl::string_view text, absl::string_view type, Value* value) {
  int64_t integer = 0;
  double number = 0;
  bool boolean = false;
  if (IsInteger(type) && absl::SimpleAtoi(text, &integer)) {
    value->set_integer(integer);
  } else if (IsInteger(type) || absl::StartsWith(type, "DECIMAL")) {
    if (!LooksNumeric(text)) return false;
    value->set_decimal(std::string(text));
  } else if (type == "DOUBLE" || type == "FLOAT") {
    if (!absl::SimpleAtod(text, &number)) return false;
    value->set_double_(number);
  } else if (type == "BOOLEAN") {
    if (!absl::SimpleAtob(text, &boolean)) return false;
    value->set_boolean(boolean);
  } else {
    value->set_text(std::string(text));
  }
  return true;
}

// "a,\"b,c\"" → a and b,c; nullopt for an open quote or text beside one.
std::optional<std::vector<std::string>> SplitList(absl::string_view list) {
  std::vector<std::string> values;
  size_t at = 0;
  while (true) {
    std::string value;
    if (at < list.size() && list[at] == '"') {
      for (++at; at < list.size() && list[at] != '"'; ++at) {
        if (list[at] == '\\' && at + 1 < list.size()) ++at;
        value += list[at];
      }
      if (at >= list.size()) return std::nullopt;
      ++at;
    } else {
      while (at < list.size() && list[at] != ',') value += list[at++];
    }
    values.push_back(std::move(value));
    if (at >= list.size()) return values;
    if (list[at++] != ',') return std::nullopt;
  }
}

absl::Status AddValue(absl::string_view text, const Column& column, Filter* filter) {
  if (ReadValue(text, column.type(), filter->add_values())) return absl::OkStatus();
  return Invalid(column.name(),
                 absl::StrCat("\"", text, "\" is not a value of type ", column.type()));
}

absl::Status ReadIn(absl::string_view text, const Column& column, Filter* filter) {
  filter->set_operator_(Filter::IN);
  if (!absl::ConsumePrefix(&text, "(") || !absl::ConsumeSuffix(&text, ")")) {
    return Invalid(column.name(), "in takes a list in brackets, as in in.(a,b)");
  }
  const auto values = SplitList(text);
  if (!values) return Invalid(column.name(), "in: a quote is not closed");
  for (const std::string& value : *values) {
    ICEPIE_RETURN_IF_ERROR(AddValue(value, column, filter));
  }
  return absl::OkStatus();
}

absl::Status ReadFilter(absl::string_view text, const Column& column, Filter* filter) {
  if (text == "is.null" || text == "is.notnull") {
    filter->set_operator_(text == "is.null" ? Filter::IS_NULL : Filter::IS_NOT_NULL);
    return absl::OkStatus();
  }
  if (absl::ConsumePrefix(&text, "in.")) return ReadIn(text, column, filter);
  for (const Comparison& comparison : kComparisons) {
    if (!absl::ConsumePrefix(&text, comparison.prefix)) continue;
    filter->set_operator_(comparison.op);
    return AddValue(text, column, filter);
  }
  return Invalid(column.name(),
                 absl::StrCat("\"", text,
                              "\" begins with no operator (have: eq. neq. lt. lte. gt. "
                              "gte. in.(a,b) is.null is.notnull)"));
}

}  // namespace

absl::Status AddColumns(absl::string_view text, const Columns& columns, Select* select) {
  for (const absl::string_view name : absl::StrSplit(text, ',')) {
    ICEPIE_ASSIGN_OR_RETURN(const Column* column, FindColumn(name, columns));
    select->add_columns(column->name());
  }
  return absl::OkStatus();
}

absl::Status AddFilter(absl::string_view column, absl::string_view text, const Columns& columns,
                       Select* select) {
  ICEPIE_ASSIGN_OR_RETURN(const Column* found, FindColumn(column, columns));
  Filter* filter = select->add_filters();
  filter->set_column(found->name());
  return ReadFilter(text, *found, filter);
}

absl::Status AddOrder(absl::string_view text, const Columns& columns, Select* select) {
  for (absl::string_view name : absl::StrSplit(text, ',')) {
    const bool descending = absl::ConsumeSuffix(&name, ".desc");
    if (!descending) absl::ConsumeSuffix(&name, ".asc");
    ICEPIE_ASSIGN_OR_RETURN(const Column* column, FindColumn(name, columns));
    auto* order = select->add_order_by();
    order->set_column(column->name());
    order->set_descending(descending);
  }
  return absl::OkStatus();
}

absl::Status SetLimit(absl::string_view text, Select* select) {
  int64_t limit = 0;
  if (!absl::SimpleAtoi(text, &limit) || limit < 0) {
    return Invalid("limit", absl::StrCat("\"", text, "\" is not a whole number from 0"));
  }
  select->set_limit(limit);
  return absl::OkStatus();
}

}  // namespace icepie::server
