#include "slices/json_reading.h"

#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "slices/decimal_text.h"
#include "slices/timestamp_text.h"

namespace icepie::slices {
namespace {

constexpr size_t kShownBytesMax = 80;

const char* KindText(JsonKind kind) {
  switch (kind) {
    case JsonKind::kBoolean:
      return "a boolean";
    case JsonKind::kNumber:
      return "a number";
    case JsonKind::kString:
      return "a string";
    case JsonKind::kObject:
      return "an object";
    case JsonKind::kArray:
      return "an array";
    case JsonKind::kNull:
      return "null";
    default:
      return "missing";
  }
}

bool Fail(ReadFault& fault, const char* code, std::string message) {
  fault.code = code;
  fault.message = std::move(message);
  return false;
}

std::string Shown(const JsonValue& value) { return ShortenedValue(value.raw()); }

bool WrongType(const JsonValue& value, const ColumnDef& column, absl::string_view takes,
               ReadFault& fault) {
  return Fail(fault, "WRONG_TYPE",
              absl::StrCat(Shown(value), " is ", KindText(value.kind), "; ", column.type, " takes ",
                           takes));
}

bool OutOfRange(const JsonValue& value, const ColumnDef& column, ReadFault& fault) {
  return Fail(fault, "OUT_OF_RANGE",
              absl::StrCat(Shown(value), " does not fit into ", column.type));
}

bool BadFormat(const JsonValue& value, absl::string_view why, ReadFault& fault) {
  return Fail(fault, "BAD_FORMAT", absl::StrCat(Shown(value), " ", why));
}

std::pair<int64_t, int64_t> IntegerRange(ColumnKind kind) {
  switch (kind) {
    case ColumnKind::kTinyInt:
      return {std::numeric_limits<int8_t>::min(), std::numeric_limits<int8_t>::max()};
    case ColumnKind::kSmallInt:
      return {std::numeric_limits<int16_t>::min(), std::numeric_limits<int16_t>::max()};
    case ColumnKind::kInteger:
      return {std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max()};
    default:
      return {std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()};
  }
}

bool IsTime(ColumnKind kind) {
  return kind == ColumnKind::kDate || kind == ColumnKind::kTimestamp ||
         kind == ColumnKind::kTimestampTz;
}

// Digits behind the point that are exact in microseconds.
int EpochScale(TimeFormat format) {
  if (format == TimeFormat::kEpochSeconds) return 6;
  return format == TimeFormat::kEpochMillis ? 3 : 0;
}

const char* EpochName(TimeFormat format) {
  if (format == TimeFormat::kEpochSeconds) return "epoch_s";
  return format == TimeFormat::kEpochMillis ? "epoch_ms" : "epoch_us";
}

std::optional<double> ParseDouble(absl::string_view text) {
  double real = 0;
  const auto [end, error] = std::from_chars(text.begin(), text.end(), real);
  if (error == std::errc()) return real;
  // Too small for a double is zero or nearly so, which strtod tells from too large.
  real = std::strtod(std::string(text).c_str(), nullptr);
  if (std::isinf(real)) return std::nullopt;
  return real;
}

const char* DecimalHint(absl::string_view text) {
  if (absl::StrContains(text, ',')) return "is not a plain number: it holds a comma";
  if (absl::StrContains(text, ' ')) return "is not a plain number: it holds a space";
  return "is not a plain number such as \"120.55\"";
}

}  // namespace

std::string PathText(const std::vector<std::string>& path) {
  std::string text = "$";
  for (const std::string& key : path) absl::StrAppend(&text, ".", key);
  return text;
}

std::string ShortenedValue(absl::string_view value) {
  if (value.size() <= kShownBytesMax) return std::string(value);
  size_t size = kShownBytesMax - 3;
  const size_t least = size - 3;  // a character has at most four bytes
  while (size > least && (static_cast<unsigned char>(value[size]) & 0xC0U) == 0x80U) --size;
  return absl::StrCat(value.substr(0, size), "...");
}

std::string Utf8Text(absl::string_view bytes) {
  if (simdjson::validate_utf8(bytes.data(), bytes.size())) return std::string(bytes);
  std::string text;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) {
      text.push_back(c);
    } else {
      absl::StrAppend(&text, "\\x", absl::Hex(byte));
    }
  }
  return text;
}

bool SameScalar(const JsonValue& value, const JsonValue& expected) {
  if (value.kind != expected.kind) return false;
  if (value.kind == JsonKind::kString && (value.escaped || expected.escaped)) {
    std::string left;
    std::string right;
    UnescapeJson(value.text, left);
    UnescapeJson(expected.text, right);
    return left == right;
  }
  if (value.text == expected.text || value.kind != JsonKind::kNumber) {
    return value.kind == JsonKind::kNull || value.text == expected.text;
  }
  absl::int128 left = 0;
  absl::int128 right = 0;
  constexpr int kWidth = 38;
  constexpr int kScale = 12;
  if (ParseDecimal(value.text, kWidth, kScale, Rounding::kRefuse, left) == DecimalOutcome::kOk &&
      ParseDecimal(expected.text, kWidth, kScale, Rounding::kRefuse, right) ==
          DecimalOutcome::kOk) {
    return left == right;
  }
  return ParseDouble(value.text) == ParseDouble(expected.text);
}

ColumnReader::ColumnReader(const ColumnDef& column, JsonScanner& scanner)
    : column_(column),
      slot_(scanner.AddPath(column.path)),
      default_slot_(default_scanner_.AddPath({})) {}

absl::Status ColumnReader::CheckDefault() {
  if (!column_.default_json) return absl::OkStatus();
  Reading reading;
  ReadFault fault;
  if (!default_scanner_.Scan(*column_.default_json)) {
    fault.message = absl::StrCat("is not JSON: ", default_scanner_.error());
  } else if (ReadValue(default_scanner_.value(default_slot_), reading, fault)) {
    return absl::OkStatus();
  }
  return MakeError(absl::StatusCode::kInvalidArgument,
                   absl::StrCat("column ", column_.name, ": default ", *column_.default_json, ": ",
                                fault.message),
                   "DEFINITION_INVALID");
}

bool ColumnReader::Read(const JsonScanner& scanner, Reading& reading, ReadFault& fault) {
  return ReadValue(scanner.value(slot_), reading, fault);
}

bool ColumnReader::ReadValue(const JsonValue& value, Reading& reading, ReadFault& fault) {
  switch (value.kind) {
    case JsonKind::kMissing:
    case JsonKind::kNull:
      return ReadAbsent(value, reading, fault);
    case JsonKind::kNotAnObject:
      return Fail(fault, "WRONG_TYPE",
                  absl::StrCat("the way to the value leads through ", ShortenedValue(value.text),
                               ", which is not an object"));
    case JsonKind::kDuplicate:
      return Fail(fault, "DUPLICATE_KEY", "a key occurs twice in one object; send it once");
    default:
      reading.is_null = false;
      return ReadPresent(value, reading, fault);
  }
}

bool ColumnReader::ReadAbsent(const JsonValue& value, Reading& reading, ReadFault& fault) {
  if (value.kind == JsonKind::kMissing && column_.default_json) {
    default_scanner_.Scan(*column_.default_json);
    const JsonValue& fallback = default_scanner_.value(default_slot_);
    reading.is_null = fallback.kind == JsonKind::kNull;
    return reading.is_null || ReadPresent(fallback, reading, fault);
  }
  if (column_.required) {
    if (value.kind == JsonKind::kMissing) {
      return Fail(fault, "MISSING",
                  absl::StrCat("required, but there is no ", PathText(column_.path)));
    }
    return Fail(fault, "NULL_VALUE", "required, but null");
  }
  reading.is_null = true;
  return true;
}

bool ColumnReader::ReadPresent(const JsonValue& value, Reading& reading, ReadFault& fault) {
  if (IsTime(column_.kind) && column_.format != TimeFormat::kIso8601) {
    return ReadEpoch(value, reading, fault);
  }
  switch (column_.kind) {
    case ColumnKind::kBoolean:
      return ReadBoolean(value, reading, fault);
    case ColumnKind::kTinyInt:
    case ColumnKind::kSmallInt:
    case ColumnKind::kInteger:
    case ColumnKind::kBigInt:
      return ReadInteger(value, reading, fault);
    case ColumnKind::kDouble:
      return ReadDouble(value, reading, fault);
    case ColumnKind::kDecimal:
      return ReadDecimal(value, reading, fault);
    case ColumnKind::kVarchar:
      return ReadText(value, reading, fault);
    case ColumnKind::kDate:
      return ReadIsoDate(value, reading, fault);
    case ColumnKind::kTimestamp:
    case ColumnKind::kTimestampTz:
      return ReadIsoTime(value, reading, fault);
    case ColumnKind::kJson:
      reading.text = value.raw();
      return true;
  }
  return false;
}

bool ColumnReader::ReadBoolean(const JsonValue& value, Reading& reading, ReadFault& fault) const {
  if (value.kind != JsonKind::kBoolean) return WrongType(value, column_, "true or false", fault);
  reading.boolean = value.text.front() == 't';
  return true;
}

bool ColumnReader::ReadInteger(const JsonValue& value, Reading& reading, ReadFault& fault) const {
  if (value.kind != JsonKind::kNumber) {
    return WrongType(value, column_, "numbers without a point", fault);
  }
  int64_t integer = 0;
  const auto [end, error] = std::from_chars(value.text.begin(), value.text.end(), integer);
  if (end != value.text.end()) {
    return Fail(
        fault, "WRONG_TYPE",
        absl::StrCat(Shown(value), " is written with a point or an exponent; ", column_.type,
                     " takes whole numbers only. Remedy: declare DECIMAL or DOUBLE"));
  }
  const auto [least, most] = IntegerRange(column_.kind);
  if (error != std::errc() || integer < least || integer > most) {
    return OutOfRange(value, column_, fault);
  }
  reading.integer = integer;
  return true;
}

bool ColumnReader::ReadDouble(const JsonValue& value, Reading& reading, ReadFault& fault) const {
  if (value.kind != JsonKind::kNumber) return WrongType(value, column_, "numbers", fault);
  const std::optional<double> real = ParseDouble(value.text);
  if (!real) return OutOfRange(value, column_, fault);
  reading.real = *real;
  return true;
}

bool ColumnReader::ReadDecimal(const JsonValue& value, Reading& reading, ReadFault& fault) const {
  if (value.kind != JsonKind::kNumber && value.kind != JsonKind::kString) {
    return WrongType(value, column_, "numbers, or strings that hold one", fault);
  }
  switch (ParseDecimal(value.text, column_.decimal_width, column_.decimal_scale, column_.rounding,
                       reading.decimal)) {
    case DecimalOutcome::kOk:
      return true;
    case DecimalOutcome::kNotANumber:
      return BadFormat(value, DecimalHint(value.text), fault);
    case DecimalOutcome::kTooManyDigits:
      return OutOfRange(value, column_, fault);
    case DecimalOutcome::kTooFineDigits:
      break;
  }
  return BadFormat(
      value,
      absl::StrCat("has more than ", column_.decimal_scale,
                   " digits behind the point. Remedy: a larger scale, or rounding: half_up"),
      fault);
}

bool ColumnReader::ReadText(const JsonValue& value, Reading& reading, ReadFault& fault) {
  if (value.kind != JsonKind::kString) return WrongType(value, column_, "strings", fault);
  reading.text = value.text;
  if (value.escaped) {
    unescaped_.clear();
    UnescapeJson(value.text, unescaped_);
    reading.text = unescaped_;
  }
  return true;
}

bool ColumnReader::ReadIsoDate(const JsonValue& value, Reading& reading, ReadFault& fault) const {
  if (value.kind != JsonKind::kString) {
    return WrongType(value, column_, "ISO 8601 strings (or numbers with format: epoch_…)", fault);
  }
  const std::optional<int64_t> days = ParseDateDays(value.text);
  if (!days) {
    return BadFormat(value,
                     ParseTimeText(value.text)
                         ? "holds a time of day. Remedy: declare TIMESTAMP or TIMESTAMPTZ"
                         : "is not a date like \"2001-01-31\"",
                     fault);
  }
  reading.integer = *days;
  return true;
}

bool ColumnReader::ReadIsoTime(const JsonValue& value, Reading& reading, ReadFault& fault) const {
  if (value.kind != JsonKind::kString) {
    return WrongType(value, column_, "ISO 8601 strings (or numbers with format: epoch_…)", fault);
  }
  const bool zoned = column_.kind == ColumnKind::kTimestampTz;
  const std::optional<TimeText> time = ParseTimeText(value.text);
  if (!time) {
    return BadFormat(value,
                     zoned ? "is not a time like \"2001-01-31T00:05:00Z\""
                           : "is not a time like \"2001-01-31T00:05:00\"",
                     fault);
  }
  if (zoned && !time->offset_micros) {
    return BadFormat(value, "has no offset: end it with Z or +01:00. Remedy: declare TIMESTAMP",
                     fault);
  }
  if (!zoned && time->offset_micros) {
    return BadFormat(value, "has an offset, which would be lost. Remedy: declare TIMESTAMPTZ",
                     fault);
  }
  reading.integer = time->micros - time->offset_micros.value_or(0);
  if (reading.integer < kTimeMicrosMin || reading.integer > kTimeMicrosMax) {
    return OutOfRange(value, column_, fault);
  }
  return true;
}

bool ColumnReader::ReadEpoch(const JsonValue& value, Reading& reading, ReadFault& fault) const {
  const char* const name = EpochName(column_.format);
  if (value.kind != JsonKind::kNumber) {
    return WrongType(value, column_, absl::StrCat("numbers with format: ", name), fault);
  }
  absl::int128 micros = 0;
  constexpr int kWidth = 38;
  const DecimalOutcome outcome =
      ParseDecimal(value.text, kWidth, EpochScale(column_.format), Rounding::kRefuse, micros);
  if (outcome == DecimalOutcome::kTooFineDigits) {
    return BadFormat(value, "is finer than a microsecond", fault);
  }
  if (outcome != DecimalOutcome::kOk || micros < kTimeMicrosMin || micros > kTimeMicrosMax) {
    return Fail(fault, "OUT_OF_RANGE",
                absl::StrCat(Shown(value), " as ", name, " is not within the years 0001 to 9999"));
  }
  reading.integer = static_cast<int64_t>(micros);
  if (column_.kind != ColumnKind::kDate) return true;
  if (reading.integer % kMicrosPerDay != 0) {
    return BadFormat(value, "holds a time of day. Remedy: declare TIMESTAMP", fault);
  }
  reading.integer /= kMicrosPerDay;
  return true;
}

}  // namespace icepie::slices
