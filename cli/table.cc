#include "cli/table.h"

#include <simdjson.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/check.h"

namespace icepie::cli {
namespace {

constexpr int kGap = 2;
constexpr int kNarrowest = 4;

bool ContinuesCharacter(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

void PrintCell(std::ostream& out, const std::string& cell, int width, bool right, bool last) {
  const std::string text = CutToWidth(cell, width);
  const std::string padding(std::max(0, width - DisplayWidth(text)), ' ');
  if (right) {
    out << padding << text;
  } else {
    out << text;
    if (!last) out << padding;
  }
  if (!last) out << std::string(kGap, ' ');
}

namespace ondemand = simdjson::ondemand;

// The text is taken as it stands, so that no digit of a decimal is lost.
simdjson::simdjson_result<std::string> CellText(ondemand::value value) {
  ondemand::json_type type{};
  SIMDJSON_TRY(value.type().get(type));
  std::string_view text;
  if (type == ondemand::json_type::null) return std::string("NULL");
  if (type == ondemand::json_type::string) {
    SIMDJSON_TRY(value.get_string().get(text));
  } else {
    SIMDJSON_TRY(simdjson::to_json_string(value).get(text));
  }
  return std::string(text.substr(0, text.find_last_not_of(" \n") + 1));
}

// Fields come in the order of the columns, but a name may come twice (SELECT a, a).
size_t ColumnAt(const std::vector<std::string>& columns, std::string_view name, size_t expected) {
  if (expected < columns.size() && columns[expected] == name) return expected;
  return std::find(columns.begin(), columns.end(), name) - columns.begin();
}

simdjson::error_code ReadRow(ondemand::object object, const std::vector<std::string>& columns,
                             std::vector<std::string>* cells) {
  size_t at = 0;
  for (auto field : object) {
    std::string_view name;
    SIMDJSON_TRY(field.unescaped_key().get(name));
    at = ColumnAt(columns, name, at);
    ondemand::value value;
    SIMDJSON_TRY(field.value().get(value));
    if (at < columns.size()) SIMDJSON_TRY(CellText(value).get((*cells)[at]));
    ++at;
  }
  return simdjson::SUCCESS;
}

simdjson::error_code ReadRows(absl::string_view body, const std::vector<std::string>& columns,
                              Table* table) {
  ondemand::parser parser;
  const simdjson::padded_string padded(body.data(), body.size());
  ondemand::document document;
  SIMDJSON_TRY(parser.iterate(padded).get(document));
  ondemand::array rows;
  SIMDJSON_TRY(document.get_array().get(rows));
  for (auto row : rows) {
    ondemand::object object;
    SIMDJSON_TRY(row.get_object().get(object));
    std::vector<std::string> cells(columns.size());
    SIMDJSON_TRY(ReadRow(object, columns, &cells));
    table->AddRow(std::move(cells));
  }
  return simdjson::SUCCESS;
}

}  // namespace

int DisplayWidth(absl::string_view text) {
  return static_cast<int>(
      std::count_if(text.begin(), text.end(), [](char byte) { return !ContinuesCharacter(byte); }));
}

std::string CutToWidth(absl::string_view text, int width) {
  if (DisplayWidth(text) <= width) return std::string(text);
  size_t end = 0;
  for (int shown = 0; end < text.size(); ++end) {
    if (!ContinuesCharacter(text[end]) && ++shown >= width) break;
  }
  return absl::StrCat(text.substr(0, end), width > 0 ? "…" : "");
}

std::string Printable(absl::string_view text) {
  std::string out(text);
  for (char& byte : out) {
    if (static_cast<unsigned char>(byte) < 0x20 || byte == 0x7F) byte = ' ';
  }
  return out;
}

void Table::AddRow(std::vector<std::string> cells) {
  ICEPIE_CHECK(cells.size() == columns_.size());
  for (std::string& cell : cells) cell = Printable(cell);
  rows_.push_back(std::move(cells));
}

std::vector<int> Table::FittedWidths(int width) const {
  std::vector<int> widths;
  for (size_t i = 0; i < columns_.size(); ++i) {
    int widest = DisplayWidth(columns_[i].name);
    for (const auto& row : rows_) widest = std::max(widest, DisplayWidth(row[i]));
    widths.push_back(widest);
  }
  if (width <= 0) return widths;
  const auto total = [&widths] {
    int sum = -kGap;
    for (const int each : widths) sum += each + kGap;
    return sum;
  };
  // The widest column gives way first: that is the one with free text in it.
  while (total() > width) {
    const auto widest = std::max_element(widths.begin(), widths.end());
    if (*widest <= kNarrowest) {
      widths.pop_back();
      continue;
    }
    --*widest;
  }
  return widths;
}

void Table::Print(std::ostream& out, int width) const {
  const std::vector<int> widths = FittedWidths(width);
  for (size_t i = 0; i < widths.size(); ++i) {
    PrintCell(out, columns_[i].name, widths[i], columns_[i].right, i + 1 == widths.size());
  }
  out << '\n';
  for (size_t i = 0; i < widths.size(); ++i) {
    for (int dash = 0; dash < widths[i]; ++dash) out << "─";
    if (i + 1 < widths.size()) out << std::string(kGap, ' ');
  }
  out << '\n';
  for (const auto& row : rows_) {
    for (size_t i = 0; i < widths.size(); ++i) {
      PrintCell(out, row[i], widths[i], columns_[i].right, i + 1 == widths.size());
    }
    out << '\n';
  }
  if (widths.size() < columns_.size()) {
    out << "(" << columns_.size() - widths.size() << " more columns: a wider terminal or --json)\n";
  }
}

absl::Status AddJsonRows(absl::string_view body, const std::vector<std::string>& columns,
                         Table* table) {
  const simdjson::error_code error = ReadRows(body, columns, table);
  if (error == simdjson::SUCCESS) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("the answer's rows are not JSON: ", simdjson::error_message(error)));
}

bool IsNumericType(absl::string_view type) {
  static const std::vector<absl::string_view> numbers = {
      "TINYINT",  "SMALLINT", "INTEGER",  "BIGINT",  "HUGEINT", "UTINYINT", "USMALLINT",
      "UINTEGER", "UBIGINT",  "UHUGEINT", "DECIMAL", "FLOAT",   "DOUBLE"};
  if (absl::EndsWith(type, "]")) return false;
  return std::any_of(numbers.begin(), numbers.end(), [type](absl::string_view number) {
    return type == number || absl::StartsWith(type, absl::StrCat(number, "("));
  });
}

}  // namespace icepie::cli
