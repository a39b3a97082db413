#include "slices/reading/result_json.h"

#include <cstdlib>
#include <limits>
#include <set>
#include <utility>

#include "absl/numeric/int128.h"
#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "slices/duckdb/duckdb.h"
#include "slices/reading/csv_text.h"
#include "slices/reading/json_text.h"

namespace icepie::slices {
namespace {

constexpr int64_t kNanosPerMicro = 1'000;
constexpr int64_t kSecond = 1;
constexpr int64_t kMillis = 1'000;
constexpr int64_t kMicros = 1'000'000;
constexpr int64_t kNanos = 1'000'000'000;

// What is known of a column, or of a part of a nested one, before any row is seen.
struct Shape {
  duckdb_type type = DUCKDB_TYPE_INVALID;
  duckdb_type stored = DUCKDB_TYPE_INVALID;  // of DECIMAL and ENUM
  int scale = 0;
  idx_t array_size = 0;
  bool as_text = false;  // a number that is written as a string
  std::vector<Shape> children;
  std::vector<std::string> keys;   // of a struct's fields: "a":
  std::vector<std::string> texts;  // of an ENUM's values, quoted
};

// A shape's values in the current chunk.
struct Values {
  const Shape* shape = nullptr;
  const void* data = nullptr;
  const uint64_t* validity = nullptr;
  std::vector<Values> children;

  bool IsNull(idx_t row) const {
    return validity != nullptr && (validity[row / 64] >> (row % 64) & 1) == 0;
  }
  template <typename T>
  const T& At(idx_t row) const {
    return static_cast<const T*>(data)[row];
  }
};

std::string Quoted(absl::string_view text) {
  JsonText json(std::numeric_limits<int64_t>::max());
  json.AddString(text);
  return std::move(json).Take();
}

// ---- Shapes ----

absl::StatusOr<Shape> ShapeOf(duckdb_logical_type type);

bool IsExactNumber(duckdb_type type) {
  switch (type) {
    case DUCKDB_TYPE_BIGINT:
    case DUCKDB_TYPE_UBIGINT:
    case DUCKDB_TYPE_HUGEINT:
    case DUCKDB_TYPE_UHUGEINT:
    case DUCKDB_TYPE_BIGNUM:
    case DUCKDB_TYPE_DECIMAL:
      return true;
    default:
      return false;
  }
}

void WriteExactAsText(Shape& shape) {
  shape.as_text = IsExactNumber(shape.type);
  for (Shape& child : shape.children) WriteExactAsText(child);
}

absl::Status AddChild(Shape& shape, duckdb_logical_type type) {
  absl::StatusOr<Shape> child = ShapeOf(type);
  duckdb_destroy_logical_type(&type);
  if (!child.ok()) return child.status();
  shape.children.push_back(*std::move(child));
  return absl::OkStatus();
}

absl::Status AddFields(Shape& shape, duckdb_logical_type type) {
  const idx_t count = duckdb_struct_type_child_count(type);
  for (idx_t i = 0; i < count; ++i) {
    char* const name = duckdb_struct_type_child_name(type, i);
    shape.keys.push_back(absl::StrCat(Quoted(name), ":"));
    duckdb_free(name);
    ICEPIE_RETURN_IF_ERROR(AddChild(shape, duckdb_struct_type_child_type(type, i)));
  }
  return absl::OkStatus();
}

absl::Status AddMembers(Shape& shape, duckdb_logical_type type) {
  const idx_t count = duckdb_union_type_member_count(type);
  for (idx_t i = 0; i < count; ++i) {
    ICEPIE_RETURN_IF_ERROR(AddChild(shape, duckdb_union_type_member_type(type, i)));
  }
  return absl::OkStatus();
}

void AddEnumTexts(Shape& shape, duckdb_logical_type type) {
  shape.stored = duckdb_enum_internal_type(type);
  const uint32_t count = duckdb_enum_dictionary_size(type);
  for (uint32_t i = 0; i < count; ++i) {
    char* const text = duckdb_enum_dictionary_value(type, i);
    shape.texts.push_back(Quoted(text));
    duckdb_free(text);
  }
}

absl::Status CheckScalar(duckdb_type type) {
  switch (type) {
    case DUCKDB_TYPE_INVALID:
    case DUCKDB_TYPE_ANY:
    case DUCKDB_TYPE_STRING_LITERAL:
    case DUCKDB_TYPE_INTEGER_LITERAL:
      return absl::InvalidArgumentError("has a type that JSON answers cannot show");
    default:
      // Newer types than this code's are numbered higher.
      if (type > DUCKDB_TYPE_TIME_NS) {
        return absl::InvalidArgumentError("has a type that JSON answers cannot show");
      }
      return absl::OkStatus();
  }
}

absl::StatusOr<Shape> ShapeOf(duckdb_logical_type type) {
  Shape shape;
  shape.type = duckdb_get_type_id(type);
  switch (shape.type) {
    case DUCKDB_TYPE_DECIMAL:
      shape.stored = duckdb_decimal_internal_type(type);
      shape.scale = duckdb_decimal_scale(type);
      break;
    case DUCKDB_TYPE_ENUM:
      AddEnumTexts(shape, type);
      break;
    case DUCKDB_TYPE_LIST:
      ICEPIE_RETURN_IF_ERROR(AddChild(shape, duckdb_list_type_child_type(type)));
      break;
    case DUCKDB_TYPE_ARRAY:
      shape.array_size = duckdb_array_type_array_size(type);
      ICEPIE_RETURN_IF_ERROR(AddChild(shape, duckdb_array_type_child_type(type)));
      break;
    case DUCKDB_TYPE_MAP:
      ICEPIE_RETURN_IF_ERROR(AddChild(shape, duckdb_map_type_key_type(type)));
      ICEPIE_RETURN_IF_ERROR(AddChild(shape, duckdb_map_type_value_type(type)));
      break;
    case DUCKDB_TYPE_STRUCT:
      ICEPIE_RETURN_IF_ERROR(AddFields(shape, type));
      break;
    case DUCKDB_TYPE_UNION:
      ICEPIE_RETURN_IF_ERROR(AddMembers(shape, type));
      break;
    default:
      ICEPIE_RETURN_IF_ERROR(CheckScalar(shape.type));
  }
  return shape;
}

// ---- Vectors ----

Values ValuesOf(const Shape& shape, duckdb_vector vector);

// A union is stored as a struct of its tag and its members.
void AddStructValues(const Shape& shape, duckdb_vector vector, idx_t first, Values& values) {
  for (size_t i = 0; i < shape.children.size(); ++i) {
    values.children.push_back(
        ValuesOf(shape.children[i], duckdb_struct_vector_get_child(vector, first + i)));
  }
}

Values ValuesOf(const Shape& shape, duckdb_vector vector) {
  Values values{&shape, duckdb_vector_get_data(vector), duckdb_vector_get_validity(vector), {}};
  switch (shape.type) {
    case DUCKDB_TYPE_LIST:
      values.children.push_back(ValuesOf(shape.children[0], duckdb_list_vector_get_child(vector)));
      break;
    case DUCKDB_TYPE_ARRAY:
      values.children.push_back(ValuesOf(shape.children[0], duckdb_array_vector_get_child(vector)));
      break;
    case DUCKDB_TYPE_MAP:  // a list of structs of key and value
      AddStructValues(shape, duckdb_list_vector_get_child(vector), 0, values);
      break;
    case DUCKDB_TYPE_STRUCT:
      AddStructValues(shape, vector, 0, values);
      break;
    case DUCKDB_TYPE_UNION:
      values.data = duckdb_vector_get_data(duckdb_struct_vector_get_child(vector, 0));
      AddStructValues(shape, vector, 1, values);
      break;
    default:
      break;
  }
  return values;
}

// ---- Cells ----

absl::string_view TextAt(const Values& values, idx_t row) {
  const auto& text = values.At<duckdb_string_t>(row);
  constexpr uint32_t kInlinedMax = 12;
  const uint32_t size = text.value.inlined.length;
  return {size <= kInlinedMax ? text.value.inlined.inlined : text.value.pointer.ptr, size};
}

absl::int128 HugeAt(const Values& values, idx_t row) {
  const auto& huge = values.At<duckdb_hugeint>(row);
  return absl::MakeInt128(huge.upper, huge.lower);
}

void WriteValue(const Values& values, idx_t row, JsonText& json);

void WriteDecimal(const Values& values, idx_t row, JsonText& json) {
  const int scale = values.shape->scale;
  switch (values.shape->stored) {
    case DUCKDB_TYPE_SMALLINT:
      return json.AddDecimal(values.At<int16_t>(row), scale);
    case DUCKDB_TYPE_INTEGER:
      return json.AddDecimal(values.At<int32_t>(row), scale);
    case DUCKDB_TYPE_BIGINT:
      return json.AddDecimal(values.At<int64_t>(row), scale);
    default:
      return json.AddDecimal(HugeAt(values, row), scale);
  }
}

void WriteEnum(const Values& values, idx_t row, JsonText& json) {
  switch (values.shape->stored) {
    case DUCKDB_TYPE_UTINYINT:
      return json.Add(values.shape->texts[values.At<uint8_t>(row)]);
    case DUCKDB_TYPE_USMALLINT:
      return json.Add(values.shape->texts[values.At<uint16_t>(row)]);
    default:
      return json.Add(values.shape->texts[values.At<uint32_t>(row)]);
  }
}

void WriteDate(int32_t days, JsonText& json) {
  constexpr int32_t kInfinity = std::numeric_limits<int32_t>::max();
  if (days == kInfinity) return json.Add("\"infinity\"");
  if (days == -kInfinity) return json.Add("\"-infinity\"");
  json.AddDate(days);
}

void WriteTimestamp(int64_t parts, int64_t parts_per_second, absl::string_view zone,
                    JsonText& json) {
  constexpr int64_t kInfinity = std::numeric_limits<int64_t>::max();
  if (parts == kInfinity) return json.Add("\"infinity\"");
  if (parts == -kInfinity) return json.Add("\"-infinity\"");
  json.AddTimestamp(parts, parts_per_second, zone);
}

void WriteTimeTz(duckdb_time_tz stored, JsonText& json) {
  const duckdb_time_tz_struct parts = duckdb_from_time_tz(stored);
  const int64_t micros = (int64_t{parts.time.hour} * 60 + parts.time.min) * 60 * kMicros +
                         int64_t{parts.time.sec} * kMicros + parts.time.micros;
  const int minutes = std::abs(parts.offset) / 60;
  std::string zone = parts.offset < 0 ? "-" : "+";
  absl::StrAppend(&zone, absl::Dec(minutes / 60, absl::kZeroPad2), ":",
                  absl::Dec(minutes % 60, absl::kZeroPad2));
  json.AddTime(micros * kNanosPerMicro, zone);
}

void AppendUnit(int64_t count, absl::string_view unit, std::string& text) {
  if (count == 0) return;
  absl::StrAppend(&text, text.empty() ? "" : " ", count, " ", unit,
                  std::abs(count) == 1 ? "" : "s");
}

// As DuckDB writes intervals: "1 year 2 months 3 days 04:05:06.5".
void WriteInterval(const duckdb_interval& interval, JsonText& json) {
  std::string text;
  AppendUnit(interval.months / 12, "year", text);
  AppendUnit(interval.months % 12, "month", text);
  AppendUnit(interval.days, "day", text);
  if (interval.micros != 0 || text.empty()) {
    const absl::uint128 size = interval.micros < 0 ? -static_cast<absl::uint128>(interval.micros)
                                                   : static_cast<absl::uint128>(interval.micros);
    const auto micros = static_cast<uint64_t>(size);
    const uint64_t seconds = micros / kMicros;
    absl::StrAppend(&text, text.empty() ? "" : " ", interval.micros < 0 ? "-" : "",
                    absl::Dec(seconds / 3600, absl::kZeroPad2), ":",
                    absl::Dec(seconds / 60 % 60, absl::kZeroPad2), ":",
                    absl::Dec(seconds % 60, absl::kZeroPad2));
    if (micros % kMicros != 0) {
      std::string fraction = absl::StrCat(absl::Dec(micros % kMicros, absl::kZeroPad6));
      fraction.erase(fraction.find_last_not_of('0') + 1);
      absl::StrAppend(&text, ".", fraction);
    }
  }
  json.AddString(text);
}

// Stored with the first bit turned over, so that UUIDs sort as numbers.
void WriteUuid(const duckdb_hugeint& stored, JsonText& json) {
  const uint64_t high = static_cast<uint64_t>(stored.upper) ^ (uint64_t{1} << 63);
  const std::string hex =
      absl::StrCat(absl::Hex(high, absl::kZeroPad16), absl::Hex(stored.lower, absl::kZeroPad16));
  const absl::string_view text = hex;
  json.AddString(absl::StrCat(text.substr(0, 8), "-", text.substr(8, 4), "-", text.substr(12, 4),
                              "-", text.substr(16, 4), "-", text.substr(20)));
}

// The first byte says how many leading bits of the next do not count.
void WriteBits(absl::string_view stored, JsonText& json) {
  std::string bits;
  if (!stored.empty()) {
    for (size_t i = 8 + static_cast<size_t>(stored[0]); i < stored.size() * 8; ++i) {
      bits.push_back((static_cast<unsigned char>(stored[i / 8]) >> (7 - i % 8) & 1) != 0 ? '1'
                                                                                         : '0');
    }
  }
  json.AddString(bits);
}

// Three bytes of header, then the magnitude from its highest byte; all turned over when negative.
void WriteBignum(absl::string_view stored, JsonText& json) {
  constexpr size_t kHeader = 3;
  constexpr uint32_t kChunk = 1'000'000'000;
  const bool negative = (static_cast<unsigned char>(stored[0]) & 0x80U) == 0;
  std::vector<uint32_t> chunks = {0};  // base 10^9, lowest first
  for (const char c : stored.substr(kHeader)) {
    const auto byte = static_cast<unsigned char>(negative ? ~c : c);
    uint64_t carry = byte;
    for (uint32_t& chunk : chunks) {
      carry += uint64_t{chunk} * 256;
      chunk = static_cast<uint32_t>(carry % kChunk);
      carry /= kChunk;
    }
    if (carry != 0) chunks.push_back(static_cast<uint32_t>(carry));
  }
  std::string text = absl::StrCat(negative ? "-" : "", chunks.back());
  for (size_t i = chunks.size() - 1; i > 0; --i) {
    const std::string digits = std::to_string(chunks[i - 1]);
    absl::StrAppend(&text, std::string(9 - digits.size(), '0'), digits);
  }
  json.Add(text);
}

void WriteElements(const Values& elements, idx_t first, idx_t count, JsonText& json) {
  json.Add('[');
  for (idx_t i = 0; i < count && !json.full(); ++i) {
    if (i != 0) json.Add(',');
    WriteValue(elements, first + i, json);
  }
  json.Add(']');
}

void WriteStruct(const Values& values, idx_t row, JsonText& json) {
  json.Add('{');
  for (size_t i = 0; i < values.children.size(); ++i) {
    if (i != 0) json.Add(',');
    json.Add(values.shape->keys[i]);
    WriteValue(values.children[i], row, json);
  }
  json.Add('}');
}

// Keys of an object are strings: others are their JSON text, quoted.
void WriteMapKey(const Values& keys, idx_t row, JsonText& json) {
  JsonText key(json.bytes_max());
  WriteValue(keys, row, key);
  if (key.full()) return json.Refuse();
  const std::string text = std::move(key).Take();
  if (text.front() == '"') {
    json.Add(text);
  } else {
    json.AddString(text);
  }
}

void WriteMap(const Values& values, idx_t row, JsonText& json) {
  const auto& entry = values.At<duckdb_list_entry>(row);
  json.Add('{');
  for (idx_t i = 0; i < entry.length && !json.full(); ++i) {
    if (i != 0) json.Add(',');
    WriteMapKey(values.children[0], entry.offset + i, json);
    json.Add(':');
    WriteValue(values.children[1], entry.offset + i, json);
  }
  json.Add('}');
}

void WriteNested(const Values& values, idx_t row, JsonText& json) {
  switch (values.shape->type) {
    case DUCKDB_TYPE_LIST: {
      const auto& entry = values.At<duckdb_list_entry>(row);
      return WriteElements(values.children[0], entry.offset, entry.length, json);
    }
    case DUCKDB_TYPE_ARRAY: {
      const idx_t size = values.shape->array_size;
      return WriteElements(values.children[0], row * size, size, json);
    }
    case DUCKDB_TYPE_MAP:
      return WriteMap(values, row, json);
    case DUCKDB_TYPE_UNION:
      return WriteValue(values.children[values.At<uint8_t>(row)], row, json);
    default:
      return WriteStruct(values, row, json);
  }
}

void WriteTimes(const Values& values, idx_t row, JsonText& json) {
  switch (values.shape->type) {
    case DUCKDB_TYPE_DATE:
      return WriteDate(values.At<int32_t>(row), json);
    case DUCKDB_TYPE_TIME:
      return json.AddTime(values.At<int64_t>(row) * kNanosPerMicro, "");
    case DUCKDB_TYPE_TIME_NS:
      return json.AddTime(values.At<int64_t>(row), "");
    case DUCKDB_TYPE_TIME_TZ:
      return WriteTimeTz(values.At<duckdb_time_tz>(row), json);
    case DUCKDB_TYPE_TIMESTAMP_S:
      return WriteTimestamp(values.At<int64_t>(row), kSecond, "", json);
    case DUCKDB_TYPE_TIMESTAMP_MS:
      return WriteTimestamp(values.At<int64_t>(row), kMillis, "", json);
    case DUCKDB_TYPE_TIMESTAMP_NS:
      return WriteTimestamp(values.At<int64_t>(row), kNanos, "", json);
    case DUCKDB_TYPE_TIMESTAMP_TZ:
      return WriteTimestamp(values.At<int64_t>(row), kMicros, "Z", json);
    case DUCKDB_TYPE_INTERVAL:
      return WriteInterval(values.At<duckdb_interval>(row), json);
    default:
      return WriteTimestamp(values.At<int64_t>(row), kMicros, "", json);
  }
}

void WriteScalarOrNested(const Values& values, idx_t row, JsonText& json) {
  switch (values.shape->type) {
    case DUCKDB_TYPE_BOOLEAN:
      return json.Add(values.At<bool>(row) ? "true" : "false");
    case DUCKDB_TYPE_TINYINT:
      return json.AddInteger(values.At<int8_t>(row));
    case DUCKDB_TYPE_SMALLINT:
      return json.AddInteger(values.At<int16_t>(row));
    case DUCKDB_TYPE_INTEGER:
      return json.AddInteger(values.At<int32_t>(row));
    case DUCKDB_TYPE_BIGINT:
      return json.AddInteger(values.At<int64_t>(row));
    case DUCKDB_TYPE_UTINYINT:
      return json.AddUnsigned(values.At<uint8_t>(row));
    case DUCKDB_TYPE_USMALLINT:
      return json.AddUnsigned(values.At<uint16_t>(row));
    case DUCKDB_TYPE_UINTEGER:
      return json.AddUnsigned(values.At<uint32_t>(row));
    case DUCKDB_TYPE_UBIGINT:
      return json.AddUnsigned(values.At<uint64_t>(row));
    case DUCKDB_TYPE_HUGEINT:
      return json.AddInteger128(HugeAt(values, row));
    case DUCKDB_TYPE_UHUGEINT:
      return json.AddUnsigned128(static_cast<absl::uint128>(HugeAt(values, row)));
    case DUCKDB_TYPE_FLOAT:
      return json.AddReal(values.At<float>(row));
    case DUCKDB_TYPE_DOUBLE:
      return json.AddReal(values.At<double>(row));
    case DUCKDB_TYPE_DECIMAL:
      return WriteDecimal(values, row, json);
    case DUCKDB_TYPE_VARCHAR:
      return json.AddString(TextAt(values, row));
    case DUCKDB_TYPE_BLOB:
      return json.AddBase64(TextAt(values, row));
    case DUCKDB_TYPE_BIT:
      return WriteBits(TextAt(values, row), json);
    case DUCKDB_TYPE_BIGNUM:
      return WriteBignum(TextAt(values, row), json);
    case DUCKDB_TYPE_UUID:
      return WriteUuid(values.At<duckdb_hugeint>(row), json);
    case DUCKDB_TYPE_ENUM:
      return WriteEnum(values, row, json);
    case DUCKDB_TYPE_SQLNULL:
      return json.Add("null");
    case DUCKDB_TYPE_LIST:
    case DUCKDB_TYPE_ARRAY:
    case DUCKDB_TYPE_STRUCT:
    case DUCKDB_TYPE_MAP:
    case DUCKDB_TYPE_UNION:
      return WriteNested(values, row, json);
    default:
      return WriteTimes(values, row, json);
  }
}

void WriteValue(const Values& values, idx_t row, JsonText& json) {
  if (values.IsNull(row)) return json.Add("null");
  if (!values.shape->as_text) return WriteScalarOrNested(values, row, json);
  json.Add('"');
  WriteScalarOrNested(values, row, json);
  json.Add('"');
}

// ---- Rows ----

absl::Status TooLarge(absl::string_view limit_name, int64_t limit, absl::string_view unit) {
  return MakeError(
      absl::StatusCode::kResourceExhausted,
      absl::StrCat("the answer has more than ", limit, " ", unit,
                   ". Remedy: a LIMIT or a filter, StreamQuery, or a higher ", limit_name,
                   limit_name == "max_rows" ? " (limits.max_result_rows in the domain file)" : ""),
      "RESULT_TOO_LARGE", {{"limit", absl::StrCat(limit)}, {"unit", std::string(unit)}});
}

// A row of the answer is a struct of its columns.
absl::StatusOr<Shape> RowShape(DuckResult& result) {
  Shape row;
  for (const std::string& name : JsonColumnNames(result)) {
    row.keys.push_back(absl::StrCat(Quoted(name), ":"));
    const absl::Status status =
        AddChild(row, duckdb_column_logical_type(result.handle(), row.keys.size() - 1));
    if (!status.ok()) {
      return MakeError(status.code(),
                       absl::StrCat("column ", name, " ", status.message(),
                                    ". Remedy: CAST it to VARCHAR in the query"),
                       "TYPE_UNSUPPORTED", {{"column", name}});
    }
  }
  return row;
}

// The chunk's columns as the fields of the row's struct.
Values RowValues(const Shape& shape, duckdb_data_chunk chunk) {
  Values row{&shape, nullptr, nullptr, {}};
  for (size_t i = 0; i < shape.children.size(); ++i) {
    row.children.push_back(ValuesOf(shape.children[i], duckdb_data_chunk_get_vector(chunk, i)));
  }
  return row;
}

// Hands each chunk to `write` until that fails or there is none.
template <typename Write>
absl::Status ForEachChunk(DuckResult& result, const Write& write) {
  while (true) {
    ICEPIE_ASSIGN_OR_RETURN(duckdb_data_chunk chunk, result.NextChunk());
    if (chunk == nullptr) return absl::OkStatus();
    const absl::Status status = write(chunk);
    duckdb_destroy_data_chunk(&chunk);
    ICEPIE_RETURN_IF_ERROR(status);
  }
}

class RowWriter {
 public:
  RowWriter(const Shape& shape, RowStyle::Format format, int64_t rows_max, int64_t bytes_max)
      : shape_(shape),
        format_(format),
        rows_max_(rows_max),
        bytes_max_(bytes_max),
        text_(bytes_max),
        cell_(bytes_max) {}

  void Begin(const std::vector<std::string>& names) {
    if (format_ == RowStyle::Format::kJson) text_.Add('[');
    if (format_ != RowStyle::Format::kCsv) return;
    for (size_t i = 0; i < names.size(); ++i) {
      if (i != 0) text_.Add(',');
      AddCsvText(names[i], text_);
    }
    text_.Add(kCsvLineEnd);
  }

  absl::Status Write(duckdb_data_chunk chunk) {
    const Values row = RowValues(shape_, chunk);
    const idx_t size = duckdb_data_chunk_get_size(chunk);
    if (row_count_ + static_cast<int64_t>(size) > rows_max_) {
      return TooLarge("max_rows", rows_max_, "rows");
    }
    for (idx_t i = 0; i < size; ++i) {
      WriteRow(row, i);
      ++row_count_;
      if (text_.full()) return TooLarge("max_bytes", bytes_max_, "bytes");
    }
    return absl::OkStatus();
  }

  absl::StatusOr<JsonRows> Finish() && {
    if (format_ == RowStyle::Format::kJson) text_.Add(']');
    if (text_.full()) return TooLarge("max_bytes", bytes_max_, "bytes");
    return JsonRows{std::move(text_).Take(), row_count_};
  }

 private:
  static constexpr absl::string_view kCsvLineEnd = "\r\n";

  void WriteRow(const Values& row, idx_t i) {
    if (format_ == RowStyle::Format::kCsv) return WriteCsvRow(row, i);
    if (format_ == RowStyle::Format::kJson && row_count_ != 0) text_.Add(',');
    WriteStruct(row, i, text_);
    if (format_ == RowStyle::Format::kNdjson) text_.Add('\n');
  }

  void WriteCsvRow(const Values& row, idx_t i) {
    for (size_t column = 0; column < row.children.size(); ++column) {
      if (column != 0) text_.Add(',');
      cell_.Clear();
      WriteValue(row.children[column], i, cell_);
      if (cell_.full()) return text_.Refuse();
      AddCsvValue(cell_.text(), row.children.size() == 1, text_);
    }
    text_.Add(kCsvLineEnd);
  }

  const Shape& shape_;
  RowStyle::Format format_;
  int64_t rows_max_;
  int64_t bytes_max_;
  int64_t row_count_ = 0;
  JsonText text_;
  JsonText cell_;  // of CSV, as JSON
};

}  // namespace

std::vector<std::string> JsonColumnNames(DuckResult& result) {
  std::vector<std::string> names;
  std::set<std::string> taken;
  const idx_t count = result.column_count();
  for (idx_t i = 0; i < count; ++i) {
    const std::string name = result.column_name(i);
    std::string unique = name;
    for (int suffix = 1; !taken.insert(unique).second; ++suffix) {
      unique = absl::StrCat(name, "_", suffix);
    }
    names.push_back(std::move(unique));
  }
  return names;
}

absl::StatusOr<JsonRows> WriteJsonRows(DuckResult& result, int64_t rows_max, int64_t bytes_max,
                                       const RowStyle& style) {
  ICEPIE_ASSIGN_OR_RETURN(Shape shape, RowShape(result));
  if (style.exact_as_text) WriteExactAsText(shape);
  RowWriter writer(shape, style.format, rows_max, bytes_max);
  writer.Begin(JsonColumnNames(result));
  ICEPIE_RETURN_IF_ERROR(
      ForEachChunk(result, [&](duckdb_data_chunk chunk) { return writer.Write(chunk); }));
  return std::move(writer).Finish();
}

absl::StatusOr<std::vector<std::string>> WriteJsonObjects(DuckResult& result, int64_t bytes_max) {
  ICEPIE_ASSIGN_OR_RETURN(const Shape shape, RowShape(result));
  std::vector<std::string> objects;
  int64_t bytes_left = bytes_max;
  ICEPIE_RETURN_IF_ERROR(ForEachChunk(result, [&](duckdb_data_chunk chunk) {
    const Values row = RowValues(shape, chunk);
    const idx_t size = duckdb_data_chunk_get_size(chunk);
    for (idx_t i = 0; i < size && bytes_left > 0; ++i) {
      JsonText json(bytes_left);
      WriteStruct(row, i, json);
      if (json.full()) {
        bytes_left = 0;
        break;
      }
      objects.push_back(std::move(json).Take());
      bytes_left -= static_cast<int64_t>(objects.back().size());
    }
    return absl::OkStatus();
  }));
  return objects;
}

}  // namespace icepie::slices
