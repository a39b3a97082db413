#include "slices/column_type.h"

#include <algorithm>
#include <map>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace icepie::slices {
namespace {

constexpr char kSupported[] =
    "BOOLEAN, TINYINT, SMALLINT, INTEGER, BIGINT, DOUBLE, DECIMAL(width,scale), VARCHAR, DATE, "
    "TIMESTAMP, TIMESTAMPTZ, JSON";

const std::map<std::string, ColumnType>& SimpleTypes() {
  static const auto* const kTypes = new std::map<std::string, ColumnType>([] {
    const ColumnType boolean{ColumnKind::kBoolean, "BOOLEAN"};
    const ColumnType tiny{ColumnKind::kTinyInt, "TINYINT"};
    const ColumnType small{ColumnKind::kSmallInt, "SMALLINT"};
    const ColumnType integer{ColumnKind::kInteger, "INTEGER"};
    const ColumnType big{ColumnKind::kBigInt, "BIGINT"};
    const ColumnType real{ColumnKind::kDouble, "DOUBLE"};
    const ColumnType text{ColumnKind::kVarchar, "VARCHAR"};
    const ColumnType timestamp{ColumnKind::kTimestamp, "TIMESTAMP"};
    const ColumnType zoned{ColumnKind::kTimestampTz, "TIMESTAMPTZ"};
    return std::map<std::string, ColumnType>{
        {"BOOLEAN", boolean},
        {"BOOL", boolean},
        {"TINYINT", tiny},
        {"INT1", tiny},
        {"SMALLINT", small},
        {"INT2", small},
        {"SHORT", small},
        {"INTEGER", integer},
        {"INT", integer},
        {"INT4", integer},
        {"BIGINT", big},
        {"INT8", big},
        {"LONG", big},
        {"DOUBLE", real},
        {"DOUBLE PRECISION", real},
        {"FLOAT8", real},
        {"VARCHAR", text},
        {"TEXT", text},
        {"STRING", text},
        {"DATE", {ColumnKind::kDate, "DATE"}},
        {"TIMESTAMP", timestamp},
        {"DATETIME", timestamp},
        {"TIMESTAMPTZ", zoned},
        {"TIMESTAMP WITH TIME ZONE", zoned},
        {"JSON", {ColumnKind::kJson, "JSON"}},
    };
  }());
  return *kTypes;
}

absl::StatusOr<ColumnType> ParseDecimal(absl::string_view arguments) {
  const std::vector<absl::string_view> parts = absl::StrSplit(arguments, ',');
  ColumnType type;
  type.kind = ColumnKind::kDecimal;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &type.decimal_width) ||
      !absl::SimpleAtoi(parts[1], &type.decimal_scale)) {
    return absl::InvalidArgumentError("DECIMAL needs its width and scale, e.g. \"DECIMAL(18,2)\"");
  }
  if (type.decimal_width < 1 || type.decimal_width > 38 || type.decimal_scale < 0 ||
      type.decimal_scale > type.decimal_width) {
    return absl::InvalidArgumentError(
        absl::StrCat("DECIMAL(", arguments, "): the width is 1 to 38, the scale 0 to the width"));
  }
  type.text = absl::StrCat("DECIMAL(", type.decimal_width, ",", type.decimal_scale, ")");
  return type;
}

// Upper case, single spaces.
std::string Normalised(absl::string_view text) {
  std::string upper = absl::AsciiStrToUpper(text);
  absl::RemoveExtraAsciiWhitespace(&upper);
  return upper;
}

bool IsDecimalName(absl::string_view name) {
  return name == "DECIMAL" || name == "NUMERIC" || name == "DEC";
}

}  // namespace

absl::StatusOr<ColumnType> ParseColumnType(absl::string_view text) {
  const std::string name = Normalised(text);
  if (const auto it = SimpleTypes().find(name); it != SimpleTypes().end()) return it->second;
  const size_t open = name.find('(');
  const std::string base(absl::StripAsciiWhitespace(absl::string_view(name).substr(0, open)));
  if (IsDecimalName(base) && open == std::string::npos) return ParseDecimal("");
  if (IsDecimalName(base) && absl::EndsWith(name, ")")) {
    std::string arguments = name.substr(open + 1, name.size() - open - 2);
    arguments.erase(std::remove(arguments.begin(), arguments.end(), ' '), arguments.end());
    return ParseDecimal(arguments);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("type `", text, "` is not supported (have: ", kSupported, ")"));
}

}  // namespace icepie::slices
