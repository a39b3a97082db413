#include "slices/reading/json_reading.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "slices/definition/column_type.h"
#include "slices/reading/timestamp_text.h"

namespace icepie::slices {
namespace {

using ::testing::HasSubstr;

ColumnDef Column(ColumnKind kind, const std::string& type) {
  ColumnDef column;
  column.name = "c";
  column.kind = kind;
  column.type = type;
  column.path = {"v"};
  return column;
}

ColumnDef Decimal(int width, int scale, Rounding rounding = Rounding::kRefuse) {
  ColumnDef column = Column(ColumnKind::kDecimal, absl::StrCat("DECIMAL(", width, ",", scale, ")"));
  column.decimal_width = width;
  column.decimal_scale = scale;
  column.rounding = rounding;
  return column;
}

ColumnDef Epoch(ColumnKind kind, TimeFormat format) {
  ColumnDef column = Column(kind, "TIMESTAMP");
  column.format = format;
  return column;
}

ColumnDef Nested(const std::string& type) {
  const ColumnType parsed = ParseColumnType(type).value();
  ColumnDef column = Column(parsed.kind, parsed.text);
  column.children = parsed.children;
  return column;
}

std::string DecimalText(absl::int128 value) {
  std::string text;
  for (absl::int128 rest = value < 0 ? -value : value; rest != 0; rest /= 10) {
    text.insert(text.begin(), static_cast<char>('0' + static_cast<int>(rest % 10)));
  }
  return absl::StrCat(value < 0 ? "-" : "", text.empty() ? "0" : text);
}

std::string Text(ColumnKind kind, const Reading& reading) {
  if (reading.is_null) return "NULL";
  switch (kind) {
    case ColumnKind::kBoolean:
      return reading.boolean ? "true" : "false";
    case ColumnKind::kDouble:
    case ColumnKind::kFloat:
      return absl::StrCat(reading.real);
    case ColumnKind::kDecimal:
    case ColumnKind::kUBigInt:
    case ColumnKind::kHugeInt:
      return DecimalText(reading.decimal);
    case ColumnKind::kUHugeInt:
    case ColumnKind::kUuid:
      return absl::StrCat(absl::Hex(static_cast<uint64_t>(absl::Int128High64(reading.decimal))),
                          ":", absl::Hex(absl::Int128Low64(reading.decimal)));
    case ColumnKind::kVarchar:
    case ColumnKind::kBlob:
    case ColumnKind::kJson:
      return std::string(reading.text);
    default:
      return absl::StrCat(reading.integer);
  }
}

// A reading and its parts: "list of 2: 1, NULL".
std::string PartText(const ColumnDef& column, const Reading& reading, const Reading*& next) {
  if (reading.is_null || column.children.empty()) return Text(column.kind, reading);
  std::vector<std::string> parts;
  const bool list = column.kind == ColumnKind::kList;
  const int64_t count = list ? reading.integer : static_cast<int64_t>(column.children.size());
  for (int64_t i = 0; i < count; ++i) {
    const Reading& part = *next++;
    parts.push_back(PartText(column.children[list ? 0 : i], part, next));
  }
  const std::string all = absl::StrJoin(parts, ", ");
  return list ? absl::StrCat("list of ", count, ": ", all) : all;
}

struct Outcome {
  std::string text;  // of the value, or the fault's code
  std::string message;
  std::string path;   // of a fault within the value
  std::string value;  // there
};

// What the column makes of a whole record.
Outcome ReadRecord(const ColumnDef& column, const std::string& record) {
  JsonScanner scanner;
  ColumnReader reader(column, scanner);
  EXPECT_TRUE(reader.CheckDefault().ok());
  EXPECT_TRUE(scanner.Scan(record)) << record;
  Reading reading;
  ReadFault fault;
  if (reader.Read(scanner, reading, fault)) {
    const Reading* next = reading.parts;
    return {PartText(column, reading, next), "", "", ""};
  }
  EXPECT_NE(fault.message, "");
  return {fault.code, fault.message, fault.path, fault.path.empty() ? "" : fault.value};
}

Outcome Read(const ColumnDef& column, const std::string& value) {
  return ReadRecord(column, absl::StrCat("{\"v\":", value, "}"));
}

// ---- Every type × every kind of value ----

constexpr char kWrong[] = "WRONG_TYPE";
constexpr char kRange[] = "OUT_OF_RANGE";
constexpr char kFormat[] = "BAD_FORMAT";

struct TypeCase {
  ColumnDef column;
  // What becomes of: true, 7, 7.6, 1e400, "7", "text", "2001-01-01", "2001-01-01T00:00:01",
  // "2001-01-01T00:00:01Z", {"a":1}, [1]
  std::vector<std::string> outcomes;
};

TEST(JsonReadingTest, EveryTypeTakesItsKindsOfValuesOnly) {
  const std::vector<std::string> values = {"true",
                                           "7",
                                           "7.6",
                                           "1e400",
                                           "\"7\"",
                                           "\"text\"",
                                           "\"2001-01-01\"",
                                           "\"2001-01-01T00:00:01\"",
                                           "\"2001-01-01T00:00:01Z\"",
                                           "{\"a\":1}",
                                           "[1]"};
  const std::string w = kWrong;
  const std::string r = kRange;
  const std::string f = kFormat;
  const std::string second = "978307201000000";
  const TypeCase cases[] = {
      {Column(ColumnKind::kBoolean, "BOOLEAN"), {"true", w, w, w, w, w, w, w, w, w, w}},
      {Column(ColumnKind::kTinyInt, "TINYINT"), {w, "7", w, w, w, w, w, w, w, w, w}},
      {Column(ColumnKind::kSmallInt, "SMALLINT"), {w, "7", w, w, w, w, w, w, w, w, w}},
      {Column(ColumnKind::kInteger, "INTEGER"), {w, "7", w, w, w, w, w, w, w, w, w}},
      {Column(ColumnKind::kBigInt, "BIGINT"), {w, "7", w, w, w, w, w, w, w, w, w}},
      {Column(ColumnKind::kDouble, "DOUBLE"), {w, "7", "7.6", r, w, w, w, w, w, w, w}},
      {Decimal(18, 2), {w, "700", "760", r, "700", f, f, f, f, w, w}},
      {Column(ColumnKind::kVarchar, "VARCHAR"),
       {w, w, w, w, "7", "text", "2001-01-01", "2001-01-01T00:00:01", "2001-01-01T00:00:01Z", w,
        w}},
      {Column(ColumnKind::kDate, "DATE"), {w, w, w, w, f, f, "11323", f, f, w, w}},
      {Column(ColumnKind::kTimestamp, "TIMESTAMP"), {w, w, w, w, f, f, f, second, f, w, w}},
      {Column(ColumnKind::kTimestampTz, "TIMESTAMPTZ"), {w, w, w, w, f, f, f, f, second, w, w}},
      {Epoch(ColumnKind::kTimestamp, TimeFormat::kEpochSeconds),
       {w, "7000000", "7600000", r, w, w, w, w, w, w, w}},
      {Epoch(ColumnKind::kTimestampTz, TimeFormat::kEpochMillis),
       {w, "7000", "7600", r, w, w, w, w, w, w, w}},
      {Epoch(ColumnKind::kTimestamp, TimeFormat::kEpochMicros),
       {w, "7", f, r, w, w, w, w, w, w, w}},
      {Epoch(ColumnKind::kDate, TimeFormat::kEpochSeconds), {w, f, f, r, w, w, w, w, w, w, w}},
      {Column(ColumnKind::kJson, "JSON"), values},
      {Column(ColumnKind::kUTinyInt, "UTINYINT"), {w, "7", w, w, w, w, w, w, w, w, w}},
      {Column(ColumnKind::kUInteger, "UINTEGER"), {w, "7", w, w, w, w, w, w, w, w, w}},
      {Column(ColumnKind::kUBigInt, "UBIGINT"), {w, "7", w, w, w, w, w, w, w, w, w}},
      {Column(ColumnKind::kHugeInt, "HUGEINT"), {w, "7", w, w, w, w, w, w, w, w, w}},
      {Column(ColumnKind::kFloat, "FLOAT"), {w, "7", "7.6", r, w, w, w, w, w, w, w}},
      {Column(ColumnKind::kTime, "TIME"), {w, w, w, w, f, f, f, f, f, w, w}},
      {Column(ColumnKind::kUuid, "UUID"), {w, w, w, w, f, f, f, f, f, w, w}},
      {Column(ColumnKind::kBlob, "BLOB"), {w, w, w, w, f, "\xB5\xEC\x6D", f, f, f, w, w}},
      {Nested("INTEGER[]"), {w, w, w, w, w, w, w, w, w, w, "list of 1: 1"}},
      {Nested("STRUCT(a INTEGER)"), {w, w, w, w, w, w, w, w, w, "1", w}},
  };
  for (const TypeCase& test : cases) {
    ASSERT_EQ(test.outcomes.size(), values.size());
    for (size_t i = 0; i < values.size(); ++i) {
      EXPECT_EQ(Read(test.column, values[i]).text, test.outcomes[i])
          << test.column.type << " of " << values[i];
    }
    EXPECT_EQ(Read(test.column, "null").text, "NULL") << test.column.type;
    EXPECT_EQ(ReadRecord(test.column, "{}").text, "NULL") << test.column.type;
    EXPECT_EQ(ReadRecord(test.column, "[1]").text, kWrong) << test.column.type;
    EXPECT_EQ(ReadRecord(test.column, R"({"v":null,"v":null})").text, "DUPLICATE_KEY");
    ColumnDef required = test.column;
    required.required = true;
    EXPECT_EQ(Read(required, "null").text, "NULL_VALUE") << test.column.type;
    EXPECT_EQ(ReadRecord(required, "{}").text, "MISSING") << test.column.type;
  }
}

// ---- Values of one type ----

struct ValueCase {
  const char* json;
  const char* outcome;
};

template <size_t n>
void ExpectOutcomes(const ColumnDef& column, const ValueCase (&cases)[n]) {
  for (const ValueCase& test : cases) {
    EXPECT_EQ(Read(column, test.json).text, test.outcome) << column.type << " of " << test.json;
  }
}

TEST(JsonReadingTest, IntegersEndAtTheirRange) {
  ExpectOutcomes(Column(ColumnKind::kTinyInt, "TINYINT"),
                 {{"127", "127"}, {"128", kRange}, {"-128", "-128"}, {"-129", kRange}});
  ExpectOutcomes(Column(ColumnKind::kSmallInt, "SMALLINT"),
                 {{"32767", "32767"}, {"-32769", kRange}});
  ExpectOutcomes(Column(ColumnKind::kInteger, "INTEGER"),
                 {{"-2147483648", "-2147483648"}, {"2147483648", kRange}});
  ExpectOutcomes(Column(ColumnKind::kBigInt, "BIGINT"),
                 {{"9223372036854775807", "9223372036854775807"},
                  {"9223372036854775808", kRange},
                  {"-9223372036854775808", "-9223372036854775808"},
                  {"123456789012345678901234567890", kRange},
                  {"-0", "0"},
                  {"7.0", kWrong},
                  {"1e3", kWrong}});
}

TEST(JsonReadingTest, UnsignedAndHugeIntegersEndAtTheirRange) {
  ExpectOutcomes(Column(ColumnKind::kUTinyInt, "UTINYINT"),
                 {{"255", "255"}, {"256", kRange}, {"-1", kRange}, {"-0", "0"}});
  ExpectOutcomes(Column(ColumnKind::kUSmallInt, "USMALLINT"),
                 {{"65535", "65535"}, {"65536", kRange}});
  ExpectOutcomes(Column(ColumnKind::kUInteger, "UINTEGER"),
                 {{"4294967295", "4294967295"}, {"4294967296", kRange}});
  ExpectOutcomes(Column(ColumnKind::kUBigInt, "UBIGINT"),
                 {{"18446744073709551615", "18446744073709551615"},
                  {"18446744073709551616", kRange},
                  {"-1", kRange},
                  {"1e3", kWrong}});
  ExpectOutcomes(
      Column(ColumnKind::kHugeInt, "HUGEINT"),
      {{"170141183460469231731687303715884105727", "170141183460469231731687303715884105727"},
       {"170141183460469231731687303715884105728", kRange},
       {"-170141183460469231731687303715884105729", kRange},
       {"1.0", kWrong}});
  ExpectOutcomes(Column(ColumnKind::kUHugeInt, "UHUGEINT"),
                 {{"340282366920938463463374607431768211455", "ffffffffffffffff:ffffffffffffffff"},
                  {"340282366920938463463374607431768211456", kRange},
                  {"3402823669209384634633746074317682114559", kRange},
                  {"-1", kRange}});
}

TEST(JsonReadingTest, FloatsAreTheNearestAndNotThroughADouble) {
  ExpectOutcomes(Column(ColumnKind::kFloat, "FLOAT"),
                 {{"0.1", "0.1"}, {"1e39", kRange}, {"-1e39", kRange}, {"1e-60", "0"}});
  // Just above the middle of two floats; as a double it is the middle, which rounds down.
  const auto read = Read(Column(ColumnKind::kFloat, "FLOAT"), "1.00000005960464477540");
  EXPECT_EQ(read.text, absl::StrCat(1.00000011920928955));
}

TEST(JsonReadingTest, TimesUuidsAndBlobs) {
  ExpectOutcomes(Column(ColumnKind::kTime, "TIME"), {{"\"00:00:01.5\"", "1500000"},
                                                     {"\"23:59:59.999999\"", "86399999999"},
                                                     {"\"24:00:00\"", kFormat},
                                                     {"\"00:00:01.1234567\"", kFormat},
                                                     {"\"10:00:00Z\"", kFormat},
                                                     {"\"10:00\"", kFormat}});
  ExpectOutcomes(Column(ColumnKind::kUuid, "UUID"),
                 {{"\"e7f0a1c2-0000-4000-8000-0123456789aB\"", "e7f0a1c200004000:80000123456789ab"},
                  {"\"e7f0a1c2000040008000-0123456789ab-123\"", kFormat},
                  {"\"e7f0a1c2-0000-4000-8000-0123456789ag\"", kFormat},
                  {"\"e7f0a1c20000400080000123456789ab\"", kFormat}});
  ColumnDef blob = Column(ColumnKind::kBlob, "BLOB");
  ExpectOutcomes(blob, {{"\"\"", ""},
                        {"\"aWNl\"", "ice"},
                        {"\"aWM=\"", "ic"},
                        {"\"Pz8\\/\"", "???"},
                        {"\"aWM\"", kFormat},
                        {"\"aW M=\"", kFormat},
                        {"\"aWN*\"", kFormat}});
  blob.blob_format = BlobFormat::kHex;
  ExpectOutcomes(
      blob, {{"\"\"", ""}, {"\"69Ce65\"", "i\xCE\x65"}, {"\"6\"", kFormat}, {"\"6g\"", kFormat}});
}

TEST(JsonReadingTest, ListsAndStructsAreReadByTheSameRules) {
  const ColumnDef fees = Nested("STRUCT(kind VARCHAR NOT NULL, value DECIMAL(4,2), tags TEXT[])[]");
  EXPECT_EQ(Read(fees, R"([ {"kind":"g\u0061s","value":"1.5","x":[{}]} ,
                            {"tags":["\"]","b\\"],"kind":"a","value":-2} , null ])")
                .text,
            "list of 3: gas, 150, NULL, a, -200, list of 2: \"], b\\, NULL");
  EXPECT_EQ(Read(fees, "[]").text, "list of 0: ");
  EXPECT_EQ(Read(Nested("INTEGER[][]"), "[[1,2],[],null,[3]]").text,
            "list of 4: list of 2: 1, 2, list of 0: , NULL, list of 1: 3");
  const struct {
    const char* json;
    Outcome outcome;
  } bad[] = {
      {R"([{"kind":"a"},{"kind":"b","value":12.345}])", {kFormat, "", "[1].value", "12.345"}},
      {R"([{"kind":"a","value":100}])", {kRange, "", "[0].value", "100"}},
      {R"([{"value":1}])", {"MISSING", "", "[0].kind", ""}},
      {R"([{"kind":null}])", {"NULL_VALUE", "", "[0].kind", "null"}},
      {R"([{"kind":"a","kind":"a"}])", {"DUPLICATE_KEY", "", "[0].kind", "a"}},
      {R"([{"kind":"a","tags":["b",7]}])", {kWrong, "", "[0].tags[1]", "7"}},
      {R"([{"kind":"a","tags":{}}])", {kWrong, "", "[0].tags", "{}"}},
      {R"([[]])", {kWrong, "", "[0]", "[]"}},
      {R"({"kind":"a"})", {kWrong, "", "", ""}},
  };
  for (const auto& test : bad) {
    const Outcome outcome = Read(fees, test.json);
    EXPECT_EQ(outcome.text, test.outcome.text) << test.json;
    EXPECT_EQ(outcome.path, test.outcome.path) << test.json;
    EXPECT_EQ(outcome.value, test.outcome.value) << test.json;
  }
}

TEST(JsonReadingTest, ListsHaveDefaultsAndMayBeRequired) {
  ColumnDef list = Nested("INTEGER[]");
  list.default_json = "[1,2]";
  EXPECT_EQ(ReadRecord(list, "{}").text, "list of 2: 1, 2");
  EXPECT_EQ(Read(list, "null").text, "NULL");
  list.default_json.reset();
  list.required = true;
  EXPECT_EQ(ReadRecord(list, "{}").text, "MISSING");
  EXPECT_EQ(Read(list, "[null]").text, "list of 1: NULL");
}

TEST(JsonReadingTest, DoublesAreTheNearest) {
  ExpectOutcomes(Column(ColumnKind::kDouble, "DOUBLE"),
                 {{"0.1", "0.1"},
                  {"-0", "-0"},
                  {"1e-400", "0"},
                  {"-1e400", kRange},
                  {"1.7976931348623157e308", "1.79769e+308"},
                  {"12345678901234567890123", "1.23457e+22"}});
}

TEST(JsonReadingTest, DecimalsAreReadFromTheirCharacters) {
  ExpectOutcomes(Decimal(18, 2), {{"\"120.55\"", "12055"},
                                  {"120.55", "12055"},
                                  {"-0.05", "-5"},
                                  {"1.005", kFormat},
                                  {"12.345", kFormat},
                                  {"12.3400", "1234"},
                                  {"1.2055e2", "12055"},
                                  {"120.55e-1", kFormat},
                                  {"12055e-2", "12055"},
                                  {"0", "0"},
                                  {"-0", "0"},
                                  {"0e999999999999", "0"},
                                  {"1e999999999999", kRange},
                                  {"1e-999999999999", kFormat},
                                  {"9999999999999999.99", "999999999999999999"},
                                  {"10000000000000000.00", kRange},
                                  {"\"1,204.50\"", kFormat},
                                  {"\"\"", kFormat},
                                  {"\" 1\"", kFormat},
                                  {"\"+1\"", kFormat},
                                  {"\"1.\"", kFormat},
                                  {"\".5\"", kFormat},
                                  {"\"1e\"", kFormat},
                                  {"\"NaN\"", kFormat},
                                  {"\"0x10\"", kFormat}});
  ExpectOutcomes(
      Decimal(38, 18),
      {{"12345678901234567890.123456789012345678", "12345678901234567890123456789012345678"},
       {"\"-99999999999999999999.999999999999999999\"", "-99999999999999999999999999999999999999"},
       {"100000000000000000000", kRange}});
  ExpectOutcomes(Decimal(38, 0), {{"99999999999999999999999999999999999999",
                                   "99999999999999999999999999999999999999"},
                                  {"100000000000000000000000000000000000000", kRange},
                                  {"1e37", "10000000000000000000000000000000000000"},
                                  {"1e38", kRange}});
  ExpectOutcomes(Decimal(4, 4), {{"0.1", "1000"}, {"1", kRange}, {"0.99999", kFormat}});
}

TEST(JsonReadingTest, RoundingHalfUpTakesHalvesAwayFromZero) {
  ExpectOutcomes(Decimal(4, 2, Rounding::kHalfUp), {{"1.005", "101"},
                                                    {"1.0049999", "100"},
                                                    {"-1.005", "-101"},
                                                    {"0.004", "0"},
                                                    {"5e-3", "1"},
                                                    {"4e-300", "0"},
                                                    {"99.994", "9999"},
                                                    {"99.995", kRange}});
}

TEST(JsonReadingTest, TextIsUnescaped) {
  ExpectOutcomes(Column(ColumnKind::kVarchar, "VARCHAR"),
                 {{R"("a\"b\u00e9")", "a\"b\u00e9"}, {"\"\"", ""}, {"\"Zürich\"", "Zürich"}});
  ExpectOutcomes(Column(ColumnKind::kJson, "JSON"),
                 {{R"("a\"b")", R"("a\"b")"}, {"{ \"x\" : [1 ] }", "{ \"x\" : [1 ] }"}});
}

TEST(JsonReadingTest, DatesAreOfTheCalendar) {
  ExpectOutcomes(Column(ColumnKind::kDate, "DATE"), {{"\"1970-01-01\"", "0"},
                                                     {"\"1969-12-31\"", "-1"},
                                                     {"\"2000-02-29\"", "11016"},
                                                     {"\"1900-02-29\"", kFormat},
                                                     {"\"2001-02-29\"", kFormat},
                                                     {"\"2001-13-01\"", kFormat},
                                                     {"\"2001-00-01\"", kFormat},
                                                     {"\"2001-01-32\"", kFormat},
                                                     {"\"0001-01-01\"", "-719162"},
                                                     {"\"0000-01-01\"", kFormat},
                                                     {"\"9999-12-31\"", "2932896"},
                                                     {"\"2001-1-1\"", kFormat},
                                                     {"\"01/02/2001\"", kFormat},
                                                     {"\"20010101\"", kFormat}});
  ExpectOutcomes(Epoch(ColumnKind::kDate, TimeFormat::kEpochSeconds),
                 {{"86400", "1"}, {"-86400", "-1"}, {"86401", kFormat}});
}

TEST(JsonReadingTest, TimestampsKeepEveryMicrosecond) {
  ExpectOutcomes(Column(ColumnKind::kTimestamp, "TIMESTAMP"),
                 {{"\"1970-01-01T00:00:00\"", "0"},
                  {"\"1970-01-01 00:00:01\"", "1000000"},
                  {"\"1970-01-01T00:00:00.5\"", "500000"},
                  {"\"1970-01-01T00:00:00.000001\"", "1"},
                  {"\"1970-01-01T00:00:00.000001000\"", "1"},
                  {"\"1970-01-01T00:00:00.0000001\"", kFormat},
                  {"\"1969-12-31T23:59:59.999999\"", "-1"},
                  {"\"1970-01-01T00:00:00.\"", kFormat},
                  {"\"1970-01-01T24:00:00\"", kFormat},
                  {"\"1970-01-01T00:60:00\"", kFormat},
                  {"\"1970-01-01T00:00:60\"", kFormat},
                  {"\"1970-01-01T00:00\"", kFormat},
                  {"\"1970-01-01t00:00:00\"", kFormat},
                  {"\"1970-01-01T00:00:00 \"", kFormat},
                  {"\"1970-01-01T00:00:00+02:00\"", kFormat},
                  {"\"x\"", kFormat}});
  ExpectOutcomes(Column(ColumnKind::kTimestampTz, "TIMESTAMPTZ"),
                 {{"\"1970-01-01T00:00:00Z\"", "0"},
                  {"\"1970-01-01T01:00:00.5+01:00\"", "500000"},
                  {"\"1970-01-01 00:00:00-0030\"", "1800000000"},
                  {"\"1970-01-01T05:30:00+05:30\"", "0"},
                  {"\"1970-01-01T02:00:00+02\"", "0"},
                  {"\"1970-01-01T00:00:00\"", kFormat},
                  {"\"1970-01-01T00:00:00+24:00\"", kFormat},
                  {"\"1970-01-01T00:00:00+01:60\"", kFormat},
                  {"\"1970-01-01T00:00:00+1\"", kFormat},
                  {"\"1970-01-01T00:00:00ZZ\"", kFormat},
                  {"\"0001-01-01T00:00:00+01:00\"", kRange},
                  {"\"9999-12-31T23:59:59-01:00\"", kRange}});
}

TEST(JsonReadingTest, EpochsAreExactAndWithinTheCalendar) {
  ExpectOutcomes(Epoch(ColumnKind::kTimestamp, TimeFormat::kEpochSeconds),
                 {{"978307200", "978307200000000"},
                  {"978307200.125", "978307200125000"},
                  {"-1", "-1000000"},
                  {"0.0000001", kFormat},
                  {"978307200000", kRange},
                  {"1e400", kRange}});
  ExpectOutcomes(Epoch(ColumnKind::kTimestampTz, TimeFormat::kEpochMillis),
                 {{"978307200125", "978307200125000"}, {"0.0001", kFormat}});
  ExpectOutcomes(Epoch(ColumnKind::kTimestampTz, TimeFormat::kEpochMicros),
                 {{"978307200125000", "978307200125000"}, {"0.5", kFormat}});
}

TEST(JsonReadingTest, TheDefaultIsForMissingValuesOnly) {
  ColumnDef column = Column(ColumnKind::kInteger, "INTEGER");
  column.default_json = "5";
  EXPECT_EQ(ReadRecord(column, "{}").text, "5");
  EXPECT_EQ(Read(column, "6").text, "6");
  EXPECT_EQ(Read(column, "null").text, "NULL");
  column.required = true;
  EXPECT_EQ(ReadRecord(column, "{}").text, "5");
  EXPECT_EQ(Read(column, "null").text, "NULL_VALUE");
  column.default_json = "null";
  JsonScanner scanner;
  EXPECT_FALSE(ColumnReader(column, scanner).CheckDefault().ok());
  column.required = false;
  EXPECT_EQ(ReadRecord(column, "{}").text, "NULL");
  ColumnDef text = Column(ColumnKind::kVarchar, "VARCHAR");
  text.default_json = R"("a\tb")";
  EXPECT_EQ(ReadRecord(text, "{}").text, "a\tb");
}

TEST(JsonReadingTest, ABadDefaultIsADefinitionError) {
  for (const std::string json : {"5.5", "\"5\"", "{", ""}) {
    ColumnDef column = Column(ColumnKind::kInteger, "INTEGER");
    column.default_json = json;
    JsonScanner scanner;
    const absl::Status status = ColumnReader(column, scanner).CheckDefault();
    EXPECT_EQ(ErrorReason(status), "DEFINITION_INVALID") << json;
    EXPECT_THAT(status.ToString(), HasSubstr("column c: default"));
  }
}

TEST(JsonReadingTest, PathsLeadThroughObjects) {
  ColumnDef column = Decimal(18, 2);
  column.path = {"amount", "value"};
  EXPECT_EQ(ReadRecord(column, R"({"amount":{"value":1}})").text, "100");
  EXPECT_EQ(ReadRecord(column, R"({"amount":{}})").text, "NULL");
  EXPECT_EQ(ReadRecord(column, R"({"amount":null})").text, "NULL");
  const Outcome through = ReadRecord(column, R"({"amount":[1]})");
  EXPECT_EQ(through.text, kWrong);
  EXPECT_THAT(through.message, HasSubstr("leads through [1], which is not an object"));
  column.required = true;
  EXPECT_EQ(ReadRecord(column, R"({"amount":null})").text, "MISSING");
}

TEST(JsonReadingTest, MessagesNameTheValueAndTheRemedy) {
  EXPECT_THAT(
      Read(Column(ColumnKind::kTimestamp, "TIMESTAMP"), "\"2001-01-01T00:00:00+02:00\"").message,
      HasSubstr("\"2001-01-01T00:00:00+02:00\" has an offset, which would be lost. Remedy: "
                "declare TIMESTAMPTZ"));
  EXPECT_THAT(Read(Decimal(18, 2), "12.345").message,
              HasSubstr("12.345 has more than 2 digits behind the point"));
  EXPECT_THAT(Read(Decimal(18, 2), "\"1,204.50\"").message, HasSubstr("it holds a comma"));
  EXPECT_THAT(Read(Column(ColumnKind::kInteger, "INTEGER"), "\"7\"").message,
              HasSubstr("\"7\" is a string; INTEGER takes numbers"));
  EXPECT_THAT(Read(Column(ColumnKind::kInteger, "INTEGER"), "7.6").message, HasSubstr("DECIMAL"));
  EXPECT_THAT(Read(Column(ColumnKind::kTinyInt, "TINYINT"), "300").message,
              HasSubstr("300 does not fit into TINYINT"));
}

TEST(JsonReadingTest, ShownValuesAreShortAndWhole) {
  EXPECT_EQ(ShortenedValue("short"), "short");
  EXPECT_EQ(ShortenedValue(std::string(80, 'x')).size(), 80);
  EXPECT_EQ(ShortenedValue(std::string(81, 'x')), std::string(77, 'x') + "...");
  std::string cakes = "x";
  for (int i = 0; i < 30; ++i) cakes += "🍰";
  EXPECT_EQ(ShortenedValue(cakes), cakes.substr(0, 77) + "...");
  EXPECT_EQ(ShortenedValue("x" + cakes), "x" + cakes.substr(0, 73) + "...");
  EXPECT_EQ(Utf8Text("caf\xE9\n"), "caf\\xe9\n");
  EXPECT_EQ(Utf8Text("café"), "café");
}

TEST(JsonReadingTest, WhereComparesByValue) {
  const auto same = [](const std::string& left, const std::string& right) {
    JsonScanner a;
    JsonScanner b;
    const int slot_a = a.AddPath({});
    const int slot_b = b.AddPath({});
    EXPECT_TRUE(a.Scan(left) && b.Scan(right));
    return SameScalar(a.value(slot_a), b.value(slot_b));
  };
  EXPECT_TRUE(same("\"transfer\"", "\"transfer\""));
  EXPECT_TRUE(same(R"("tr\u0061nsfer")", "\"transfer\""));
  EXPECT_FALSE(same("\"transfer\"", "\"Transfer\""));
  EXPECT_TRUE(same("2", "2.0"));
  EXPECT_TRUE(same("2e0", "2"));
  EXPECT_FALSE(same("9007199254740993", "9007199254740992"));
  EXPECT_TRUE(same("1e300", "10e299"));
  EXPECT_TRUE(same("1e400", "0.001E+403"));
  EXPECT_FALSE(same("1e400", "2e400"));
  EXPECT_FALSE(same("1e400", "-1e400"));
  EXPECT_TRUE(same("-0e99999999999999999999", "0.000"));
  EXPECT_TRUE(same("123456789012345678901234567890", "12345678901234567890123456789.00e1"));
  EXPECT_FALSE(same("123456789012345678901234567890", "123456789012345678901234567891"));
  EXPECT_FALSE(same("0.1234567890123456789", "0.1234567890123456788"));
  EXPECT_FALSE(same("2", "\"2\""));
  EXPECT_TRUE(same("true", "true"));
  EXPECT_FALSE(same("true", "false"));
  EXPECT_TRUE(same("null", "null"));
  EXPECT_FALSE(same("null", "false"));
}

TEST(JsonReadingTest, CalendarGoesBothWays) {
  for (int64_t days = kTimeMicrosMin / kMicrosPerDay; days < 2'932'896; days += 13) {
    const CivilDay civil = CivilFromDays(days);
    ASSERT_EQ(DaysFromCivil(civil.year, civil.month, civil.day), days);
  }
}

}  // namespace
}  // namespace icepie::slices
