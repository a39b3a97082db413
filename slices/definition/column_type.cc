#include "slices/definition/column_type.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace icepie::slices {
namespace {

constexpr char kSupported[] =
    "BOOLEAN, [U]TINYINT, [U]SMALLINT, [U]INTEGER, [U]BIGINT, [U]HUGEINT, FLOAT, DOUBLE, "
    "DECIMAL(width,scale), VARCHAR, DATE, TIME, TIMESTAMP, TIMESTAMPTZ, UUID, BLOB, JSON, "
    "STRUCT(name type, …), and any of them as a list: type[]";
constexpr int kLevelsMax = 8;
constexpr size_t kFieldsMax = 200;

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
        {"UTINYINT", {ColumnKind::kUTinyInt, "UTINYINT"}},
        {"USMALLINT", {ColumnKind::kUSmallInt, "USMALLINT"}},
        {"UINTEGER", {ColumnKind::kUInteger, "UINTEGER"}},
        {"UBIGINT", {ColumnKind::kUBigInt, "UBIGINT"}},
        {"HUGEINT", {ColumnKind::kHugeInt, "HUGEINT"}},
        {"INT128", {ColumnKind::kHugeInt, "HUGEINT"}},
        {"UHUGEINT", {ColumnKind::kUHugeInt, "UHUGEINT"}},
        {"FLOAT", {ColumnKind::kFloat, "FLOAT"}},
        {"FLOAT4", {ColumnKind::kFloat, "FLOAT"}},
        {"REAL", {ColumnKind::kFloat, "FLOAT"}},
        {"TIME", {ColumnKind::kTime, "TIME"}},
        {"UUID", {ColumnKind::kUuid, "UUID"}},
        {"BLOB", {ColumnKind::kBlob, "BLOB"}},
        {"BYTEA", {ColumnKind::kBlob, "BLOB"}},
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

absl::StatusOr<ColumnType> ParseScalar(absl::string_view text) {
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

// ---- Nested types ----

absl::StatusOr<ColumnType> ParseAny(absl::string_view text, int level);

// Splits at commas that stand in no brackets and no quotes.
absl::StatusOr<std::vector<absl::string_view>> SplitFields(absl::string_view text) {
  std::vector<absl::string_view> parts;
  size_t begin = 0;
  int depth = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') quoted = !quoted;
    if (quoted) continue;
    if (c == '(') ++depth;
    if (c == ')' && --depth < 0) break;
    if (c != ',' || depth != 0) continue;
    parts.push_back(text.substr(begin, i - begin));
    begin = i + 1;
  }
  parts.push_back(text.substr(begin));
  if (depth == 0 && !quoted) return parts;
  return absl::InvalidArgumentError(
      absl::StrCat("STRUCT(", text, "): a bracket or a quote is not closed, or closed twice"));
}

// Takes `kind` or `"any ""text"""` from the front of a field.
absl::StatusOr<std::string> TakeFieldName(absl::string_view& text) {
  std::string name;
  if (!absl::ConsumePrefix(&text, "\"")) {
    size_t size = 0;
    while (size < text.size() && (absl::ascii_isalnum(text[size]) || text[size] == '_')) ++size;
    name = std::string(text.substr(0, size));
    text.remove_prefix(size);
  } else {
    while (!text.empty()) {
      const char c = text.front();
      text.remove_prefix(1);
      if (c == '"' && !absl::ConsumePrefix(&text, "\"")) break;
      name.push_back(c);
    }
  }
  if (!name.empty() && absl::StartsWith(text, " ")) return name;
  return absl::InvalidArgumentError(
      absl::StrCat("a field of a STRUCT is a name, a space and a type, e.g. kind VARCHAR, not `",
                   name, text, "`"));
}

// A type that may have NOT NULL behind it: a field's or an element's.
absl::StatusOr<ColumnDef> ParsePart(absl::string_view text, int level) {
  constexpr absl::string_view kNotNull = " NOT NULL";
  ColumnDef part;
  text = absl::StripAsciiWhitespace(text);
  part.required = absl::EndsWithIgnoreCase(text, kNotNull);
  if (part.required) text.remove_suffix(kNotNull.size());
  absl::StatusOr<ColumnType> type = ParseAny(text, level + 1);
  if (!type.ok()) return type.status();
  part.kind = type->kind;
  part.type = std::move(type->text);
  part.decimal_width = type->decimal_width;
  part.decimal_scale = type->decimal_scale;
  part.children = std::move(type->children);
  return part;
}

std::string PartText(const ColumnDef& part) {
  return absl::StrCat(part.type, part.required ? " NOT NULL" : "");
}

absl::StatusOr<ColumnType> ParseList(absl::string_view element, int level) {
  absl::StatusOr<ColumnDef> part = ParsePart(element, level);
  if (!part.ok()) return part.status();
  ColumnType type{ColumnKind::kList, absl::StrCat(PartText(*part), "[]")};
  type.children.push_back(*std::move(part));
  return type;
}

std::string QuotedName(absl::string_view name) {
  return absl::StrCat("\"", absl::StrReplaceAll(name, {{"\"", "\"\""}}), "\"");
}

bool IsPlainName(absl::string_view name) {
  return std::all_of(name.begin(), name.end(),
                     [](char c) { return absl::ascii_isalnum(c) || c == '_'; });
}

absl::Status AddField(ColumnType& type, absl::string_view text, int level) {
  text = absl::StripAsciiWhitespace(text);
  absl::StatusOr<std::string> name = TakeFieldName(text);
  if (!name.ok()) return name.status();
  absl::StatusOr<ColumnDef> field = ParsePart(text, level);
  if (!field.ok()) return field.status();
  for (const ColumnDef& earlier : type.children) {
    if (!absl::EqualsIgnoreCase(earlier.name, *name)) continue;
    return absl::InvalidArgumentError(absl::StrCat("a STRUCT has the field `", *name,
                                                   "` twice (SQL does not tell upper from ",
                                                   "lower case): rename or drop one"));
  }
  field->name = *name;
  field->path = {*name};
  absl::StrAppend(&type.text, type.children.empty() ? "" : ", ",
                  IsPlainName(*name) ? *name : QuotedName(*name), " ", PartText(*field));
  type.children.push_back(*std::move(field));
  return absl::OkStatus();
}

absl::StatusOr<ColumnType> ParseStruct(absl::string_view fields, int level) {
  absl::StatusOr<std::vector<absl::string_view>> parts = SplitFields(fields);
  if (!parts.ok()) return parts.status();
  if (parts->size() > kFieldsMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("a STRUCT has ", parts->size(), " fields, the limit is ", kFieldsMax));
  }
  ColumnType type{ColumnKind::kStruct, "STRUCT("};
  for (const absl::string_view part : *parts) {
    const absl::Status status = AddField(type, part, level);
    if (!status.ok()) return status;
  }
  type.text.push_back(')');
  return type;
}

absl::StatusOr<ColumnType> ParseAny(absl::string_view text, int level) {
  if (level > kLevelsMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("a type has more than ", kLevelsMax, " levels: declare the inner part JSON"));
  }
  text = absl::StripAsciiWhitespace(text);
  if (absl::ConsumeSuffix(&text, "[]")) return ParseList(text, level);
  constexpr absl::string_view kStruct = "STRUCT";
  if (absl::StartsWithIgnoreCase(text, kStruct) && absl::EndsWith(text, ")")) {
    absl::string_view fields = absl::StripAsciiWhitespace(text.substr(kStruct.size()));
    if (absl::ConsumePrefix(&fields, "(")) {
      fields.remove_suffix(1);
      return ParseStruct(fields, level);
    }
  }
  return ParseScalar(text);
}

}  // namespace

absl::StatusOr<ColumnType> ParseColumnType(absl::string_view text) { return ParseAny(text, 1); }

std::string SqlType(const ColumnDef& column) {
  switch (column.kind) {
    case ColumnKind::kJson:
      return "VARCHAR";
    case ColumnKind::kList:
      return absl::StrCat(SqlType(column.children.front()), "[]");
    case ColumnKind::kStruct:
      return absl::StrCat("STRUCT(",
                          absl::StrJoin(column.children, ", ",
                                        [](std::string* out, const ColumnDef& field) {
                                          absl::StrAppend(out, QuotedName(field.name), " ",
                                                          SqlType(field));
                                        }),
                          ")");
    default:
      return column.type;
  }
}

bool AnyPart(const ColumnDef& column, const std::function<bool(const ColumnDef&)>& test) {
  return test(column) || std::any_of(column.children.begin(), column.children.end(),
                                     [&](const ColumnDef& child) { return AnyPart(child, test); });
}

}  // namespace icepie::slices
