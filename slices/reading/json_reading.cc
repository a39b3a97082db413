#include "slices/reading/json_reading.h"

#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/status.h"
#include "slices/reading/decimal_text.h"
#include "slices/reading/timestamp_text.h"

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
  fault.path.clear();
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

bool NotWhole(const JsonValue& value, const ColumnDef& column, ReadFault& fault) {
  return Fail(fault, "WRONG_TYPE",
              absl::StrCat(Shown(value), " is written with a point or an exponent; ", column.type,
                           " takes whole numbers only. Remedy: declare DECIMAL or DOUBLE"));
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
    case ColumnKind::kUTinyInt:
      return {0, std::numeric_limits<uint8_t>::max()};
    case ColumnKind::kUSmallInt:
      return {0, std::numeric_limits<uint16_t>::max()};
    case ColumnKind::kUInteger:
      return {0, std::numeric_limits<uint32_t>::max()};
    default:
      return {std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()};
  }
}

// How far UBIGINT, HUGEINT and UHUGEINT go below and above zero.
std::pair<absl::uint128, absl::uint128> HugeRange(ColumnKind kind) {
  if (kind == ColumnKind::kUBigInt) return {0, std::numeric_limits<uint64_t>::max()};
  if (kind == ColumnKind::kUHugeInt) return {0, absl::Uint128Max()};
  const absl::uint128 half = absl::uint128(1) << 127;
  return {half, half - 1};
}

// The number that `digits`, all of them, stand for; nothing beyond 128 bits.
std::optional<absl::uint128> ParseMagnitude(absl::string_view digits) {
  absl::uint128 number = 0;
  for (const char c : digits) {
    const auto digit = static_cast<unsigned>(c - '0');
    if (number > (absl::Uint128Max() - digit) / 10) return std::nullopt;
    number = number * 10 + digit;
  }
  return number;
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// The bits of `e7f0a1c2-0000-4000-8000-0123456789ab`.
std::optional<absl::uint128> ParseUuid(absl::string_view text) {
  constexpr size_t kSize = 36;
  if (text.size() != kSize) return std::nullopt;
  absl::uint128 bits = 0;
  for (size_t i = 0; i < kSize; ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    const int digit = HexDigit(text[i]);
    if (dash ? text[i] != '-' : digit < 0) return std::nullopt;
    if (!dash) bits = bits << 4 | static_cast<unsigned>(digit);
  }
  return bits;
}

bool ParseHex(absl::string_view text, std::string& bytes) {
  bytes.clear();
  if (text.size() % 2 != 0) return false;
  for (size_t i = 0; i < text.size(); i += 2) {
    const int high = HexDigit(text[i]);
    const int low = HexDigit(text[i + 1]);
    if (high < 0 || low < 0) return false;
    bytes.push_back(static_cast<char>(high << 4 | low));
  }
  return true;
}

// Strict: Abseil itself passes over white space and missing padding.
bool ParseBase64(absl::string_view text, std::string& bytes) {
  return absl::Base64Unescape(text, &bytes) && absl::Base64Escape(bytes) == text;
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

// A JSON number as its digits, without zeros at either end, and the power of ten of the last one.
struct ExactNumber {
  bool negative = false;
  std::string digits;  // none: zero
  int64_t power = 0;

  bool operator==(const ExactNumber& other) const {
    return negative == other.negative && digits == other.digits && power == other.power;
  }
};

ExactNumber ExactNumberOf(absl::string_view text) {
  // Beyond it powers are taken for equal.
  constexpr int64_t kPowerMax = 1'000'000'000'000'000'000;
  ExactNumber number;
  number.negative = absl::ConsumePrefix(&text, "-");
  const size_t exponent = text.find_first_of("eE");
  if (exponent != absl::string_view::npos) {
    // Too large a one becomes the largest.
    (void)absl::SimpleAtoi(text.substr(exponent + 1), &number.power);
    number.power = std::clamp(number.power, -kPowerMax, kPowerMax);
    text = text.substr(0, exponent);
  }
  const size_t point = text.find('.');
  number.digits = std::string(text.substr(0, point));
  if (point != absl::string_view::npos) {
    absl::StrAppend(&number.digits, text.substr(point + 1));
    number.power -= static_cast<int64_t>(text.size() - point - 1);
  }
  const size_t first = number.digits.find_first_not_of('0');
  if (first == std::string::npos) return {};
  const size_t end = number.digits.find_last_not_of('0') + 1;
  number.power += static_cast<int64_t>(number.digits.size() - end);
  number.digits = number.digits.substr(first, end - first);
  return number;
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
  return ExactNumberOf(value.text) == ExactNumberOf(expected.text);
}

ColumnReader::ColumnReader(const ColumnDef& column, JsonScanner& scanner)
    : column_(column),
      slot_(scanner.AddPath(column.path)),
      default_slot_(default_scanner_.AddPath({})) {
  if (!column_.children.empty()) nested_ = std::make_unique<NestedReader>(column_);
}

ColumnReader::ColumnReader(ColumnReader&& other) noexcept = default;
ColumnReader::~ColumnReader() = default;

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
    default:
      return ReadRare(value, reading, fault);
  }
}

bool ColumnReader::ReadRare(const JsonValue& value, Reading& reading, ReadFault& fault) {
  switch (column_.kind) {
    case ColumnKind::kUTinyInt:
    case ColumnKind::kUSmallInt:
    case ColumnKind::kUInteger:
      return ReadInteger(value, reading, fault);
    case ColumnKind::kUBigInt:
    case ColumnKind::kHugeInt:
    case ColumnKind::kUHugeInt:
      return ReadHuge(value, reading, fault);
    case ColumnKind::kFloat:
      return ReadFloat(value, reading, fault);
    case ColumnKind::kTime:
      return ReadClock(value, reading, fault);
    case ColumnKind::kUuid:
      return ReadUuid(value, reading, fault);
    case ColumnKind::kBlob:
      return ReadBlob(value, reading, fault);
    default:
      return nested_->Read(value, reading, fault);
  }
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
  if (end != value.text.end()) return NotWhole(value, column_, fault);
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

bool ColumnReader::ReadHuge(const JsonValue& value, Reading& reading, ReadFault& fault) const {
  if (value.kind != JsonKind::kNumber) {
    return WrongType(value, column_, "numbers without a point", fault);
  }
  absl::string_view digits = value.text;
  const bool negative = absl::ConsumePrefix(&digits, "-");
  if (digits.find_first_of(".eE") != absl::string_view::npos) {
    return NotWhole(value, column_, fault);
  }
  const auto [below, above] = HugeRange(column_.kind);
  const std::optional<absl::uint128> magnitude = ParseMagnitude(digits);
  if (!magnitude || *magnitude > (negative ? below : above)) {
    return OutOfRange(value, column_, fault);
  }
  reading.decimal = static_cast<absl::int128>(negative ? -*magnitude : *magnitude);
  return true;
}

bool ColumnReader::ReadFloat(const JsonValue& value, Reading& reading, ReadFault& fault) const {
  if (value.kind != JsonKind::kNumber) return WrongType(value, column_, "numbers", fault);
  // Not through a double, which would round twice.
  float real = 0;
  const auto [end, error] = std::from_chars(value.text.begin(), value.text.end(), real);
  if (error != std::errc()) real = std::strtof(std::string(value.text).c_str(), nullptr);
  if (std::isinf(real)) return OutOfRange(value, column_, fault);
  reading.real = real;
  return true;
}

bool ColumnReader::ReadClock(const JsonValue& value, Reading& reading, ReadFault& fault) const {
  if (value.kind != JsonKind::kString) {
    return WrongType(value, column_, "strings like \"00:05:00\"", fault);
  }
  const std::optional<int64_t> micros = ParseClockMicros(value.text);
  if (!micros) return BadFormat(value, "is not a time of day like \"00:05:00\"", fault);
  reading.integer = *micros;
  return true;
}

bool ColumnReader::ReadUuid(const JsonValue& value, Reading& reading, ReadFault& fault) const {
  if (value.kind != JsonKind::kString) return WrongType(value, column_, "strings", fault);
  const std::optional<absl::uint128> bits = ParseUuid(value.text);
  if (!bits) {
    return BadFormat(value, "is not a UUID like \"e7f0a1c2-0000-4000-8000-0123456789ab\"", fault);
  }
  reading.decimal = static_cast<absl::int128>(*bits);
  return true;
}

bool ColumnReader::ReadBlob(const JsonValue& value, Reading& reading, ReadFault& fault) {
  if (value.kind != JsonKind::kString) return WrongType(value, column_, "strings", fault);
  absl::string_view text = value.text;
  std::string unescaped;
  if (value.escaped) {  // "\/" is a way to write a character of base64
    UnescapeJson(value.text, unescaped);
    text = unescaped;
  }
  const bool hex = column_.blob_format == BlobFormat::kHex;
  if (!(hex ? ParseHex(text, unescaped_) : ParseBase64(text, unescaped_))) {
    return BadFormat(value,
                     hex ? "is not hexadecimal"
                         : "is not base64 with its padding. Remedy: format: hex, or VARCHAR",
                     fault);
  }
  reading.text = unescaped_;
  return true;
}

// ---- Lists and structs ----

void ColumnReader::Take(Reading reading, std::vector<Reading>& parts,
                        std::list<std::string>& texts) {
  if (reading.text.data() == unescaped_.data()) {
    texts.push_back(std::move(unescaped_));
    unescaped_.clear();
    reading.text = texts.back();
  }
  const bool has_parts = reading.parts != nullptr;
  reading.parts = nullptr;  // they follow
  parts.push_back(reading);
  if (has_parts) nested_->Take(parts, texts);
}

void NestedReader::Take(std::vector<Reading>& parts, std::list<std::string>& texts) {
  parts.insert(parts.end(), parts_.begin(), parts_.end());
  texts.splice(texts.end(), texts_);
}

NestedReader::NestedReader(const ColumnDef& column) : kind_(column.kind), type_(column.type) {
  children_.reserve(column.children.size());
  for (const ColumnDef& child : column.children) children_.emplace_back(child, scanner_);
}

bool NestedReader::Read(const JsonValue& value, Reading& reading, ReadFault& fault) {
  parts_.clear();
  texts_.clear();
  const bool list = kind_ == ColumnKind::kList;
  if (value.kind != (list ? JsonKind::kArray : JsonKind::kObject)) {
    return Fail(fault, "WRONG_TYPE",
                absl::StrCat(Shown(value), " is ", KindText(value.kind), "; ", type_, " takes ",
                             list ? "arrays" : "objects"));
  }
  if (!(list ? ReadList(value, reading, fault) : ReadStruct(value, fault))) return false;
  static const Reading kNoPart;
  reading.parts = parts_.empty() ? &kNoPart : parts_.data();
  return true;
}

bool NestedReader::ReadList(const JsonValue& value, Reading& reading, ReadFault& fault) {
  ColumnReader& reader = children_.front();
  JsonElements elements(value.text);
  JsonValue element;
  int64_t count = 0;
  for (; elements.Next(element); ++count) {
    Reading part;
    if (!reader.ReadValue(element, part, fault)) {
      if (fault.path.empty()) fault.value = Shown(element);
      fault.path.insert(0, absl::StrCat("[", count, "]"));
      return false;
    }
    reader.Take(part, parts_, texts_);
  }
  reading.integer = count;
  return true;
}

bool NestedReader::ReadStruct(const JsonValue& value, ReadFault& fault) {
  if (!scanner_.Scan(value.text)) return Fail(fault, "WRONG_TYPE", scanner_.error());
  for (ColumnReader& reader : children_) {
    Reading part;
    if (!reader.Read(scanner_, part, fault)) {
      const JsonValue& bad = reader.value(scanner_);
      const bool missing = bad.kind == JsonKind::kMissing;
      if (missing) fault.message = "declared NOT NULL, but there is no such key";
      if (fault.path.empty()) fault.value = missing ? "" : Shown(bad);
      fault.path.insert(0, absl::StrCat(".", reader.column().name));
      return false;
    }
    reader.Take(part, parts_, texts_);
  }
  return true;
}

}  // namespace icepie::slices
