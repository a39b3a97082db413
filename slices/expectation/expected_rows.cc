#include "slices/expectation/expected_rows.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "core/base/status.h"
#include "slices/definition/nearest_name.h"
#include "slices/reading/timestamp_text.h"

namespace icepie::slices {
namespace {

constexpr double kFloatTolerance = 1e-9;

bool IsFloat(absl::string_view type) { return type == "FLOAT" || type == "DOUBLE"; }

bool IsNested(absl::string_view type) {
  return absl::EndsWith(type, "]") || absl::StartsWith(type, "STRUCT(") ||
         absl::StartsWith(type, "MAP(") || absl::StartsWith(type, "UNION(") || type == "JSON";
}

bool IsExactNumber(absl::string_view type) {
  static constexpr absl::string_view kWhole[] = {"TINYINT", "SMALLINT", "INTEGER",   "BIGINT",
                                                 "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER",
                                                 "UBIGINT", "UHUGEINT"};
  if (IsNested(type)) return false;
  return absl::StartsWith(type, "DECIMAL(") ||
         std::find(std::begin(kWhole), std::end(kWhole), type) != std::end(kWhole);
}

// Without what does not change a number: +, leading zeros, zeros at the end of the fraction.
std::string PlainNumber(absl::string_view text) {
  const bool negative = absl::ConsumePrefix(&text, "-");
  if (!negative) absl::ConsumePrefix(&text, "+");
  std::string digits(text);
  if (absl::StrContains(digits, ".")) {
    digits.erase(digits.find_last_not_of('0') + 1);
    if (absl::EndsWith(digits, ".")) digits.pop_back();
  }
  digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size()));
  if (digits.empty()) return "0";
  return absl::StrCat(negative ? "-" : "", absl::StartsWith(digits, ".") ? "0" : "", digits);
}

// Whether reading `text` as `type` lost nothing, given how DuckDB writes what it read.
bool IsUnchanged(absl::string_view type, absl::string_view text, absl::string_view read) {
  if (IsExactNumber(type)) return PlainNumber(text) == PlainNumber(read);
  if (type != "TIMESTAMP") return true;
  const auto time = ParseTimeText(text);
  return !time || !time->offset_micros;
}

absl::Status BadValue(const TestValue& value, const OutputColumn& column, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat(value.json, " is no ", column.type, ", which column ", column.name, " is", why));
}

absl::StatusOr<std::optional<std::string>> ReadValue(DuckConnection& connection,
                                                     const OutputColumn& column,
                                                     const TestValue& value) {
  const nlohmann::json json = nlohmann::json::parse(value.json, nullptr, false);
  if (json.is_null()) return std::optional<std::string>();
  const std::string text = json.is_string() ? json.get<std::string>() : value.json;
  if (column.type == "VARCHAR" && !json.is_structured()) return std::optional<std::string>(text);
  const std::string literal = IsNested(column.type)
                                  ? absl::StrCat("CAST(", QuoteLiteral(value.json), " AS JSON)")
                                  : QuoteLiteral(text);
  const auto read = connection.QueryText(
      absl::StrCat("SELECT CAST(CAST(", literal, " AS ", column.type, ") AS VARCHAR)"));
  if (!read.ok()) return BadValue(value, column, absl::StrCat(": ", read.status().message()));
  if (IsUnchanged(column.type, text, *read)) return std::optional<std::string>(*read);
  return BadValue(value, column, absl::StrCat(" (it would be ", *read, ")"));
}

bool SameFloats(const std::string& a, const std::string& b, double tolerance) {
  double x = 0;
  double y = 0;
  if (!absl::SimpleAtod(a, &x) || !absl::SimpleAtod(b, &y)) return a == b;
  if (std::isnan(x) || std::isnan(y)) return std::isnan(x) && std::isnan(y);
  return x == y || std::fabs(x - y) <= tolerance * std::max(std::fabs(x), std::fabs(y));
}

}  // namespace

absl::StatusOr<ExpectedRows> ReadExpectedRows(DuckConnection& connection,
                                              const std::vector<OutputColumn>& columns,
                                              const std::vector<TestRow>& rows, FilePlace& bad) {
  ExpectedRows out;
  if (rows.empty()) {
    out.columns = columns;
    return out;
  }
  std::vector<std::string> names;
  for (const OutputColumn& column : columns) {
    names.push_back(column.name);
    if (rows.front().values.count(column.name) > 0) out.columns.push_back(column);
  }
  for (const auto& [name, value] : rows.front().values) {
    if (std::find(names.begin(), names.end(), name) != names.end()) continue;
    bad = value.place;
    return absl::InvalidArgumentError(
        absl::StrCat("has no column `", name, "`", SuggestName(name, names)));
  }
  for (const TestRow& row : rows) {
    TextRow texts;
    for (const OutputColumn& column : out.columns) {
      bad = row.values.at(column.name).place;
      ICEPIE_ASSIGN_OR_RETURN(auto text, ReadValue(connection, column, row.values.at(column.name)));
      texts.push_back(std::move(text));
    }
    out.rows.push_back(std::move(texts));
  }
  return out;
}

RowMismatch CompareRows(const ExpectedRows& expected, const std::vector<TextRow>& actual,
                        const std::map<std::string, double>& tolerance) {
  std::vector<std::optional<double>> allowed;
  for (const OutputColumn& column : expected.columns) {
    const auto own = tolerance.find(column.name);
    if (own != tolerance.end()) {
      allowed.emplace_back(own->second);
    } else {
      allowed.push_back(IsFloat(column.type) ? std::optional(kFloatTolerance) : std::nullopt);
    }
  }
  const auto equal = [&](const TextRow& a, const TextRow& b) {
    for (size_t i = 0; i < allowed.size(); ++i) {
      if (a[i] == b[i]) continue;
      if (!allowed[i] || !a[i] || !b[i] || !SameFloats(*a[i], *b[i], *allowed[i])) return false;
    }
    return true;
  };
  RowMismatch mismatch;
  std::vector<bool> taken(actual.size(), false);
  for (size_t i = 0; i < expected.rows.size(); ++i) {
    bool found = false;
    for (size_t j = 0; j < actual.size() && !found; ++j) {
      if (taken[j] || !equal(expected.rows[i], actual[j])) continue;
      taken[j] = true;
      found = true;
    }
    if (!found) mismatch.missing.push_back(i);
  }
  for (size_t j = 0; j < actual.size(); ++j) {
    if (!taken[j]) mismatch.unexpected.push_back(j);
  }
  return mismatch;
}

std::string RowText(const std::vector<OutputColumn>& columns, const TextRow& row) {
  std::vector<std::string> parts;
  for (size_t i = 0; i < columns.size(); ++i) {
    parts.push_back(absl::StrCat(columns[i].name, ": ", row[i].value_or("NULL")));
  }
  return absl::StrCat("{", absl::StrJoin(parts, ", "), "}");
}

}  // namespace icepie::slices
