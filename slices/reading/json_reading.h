// The strict reading of JSON values into declared types: the one table of what each type takes.
//
//   type                      takes                                            besides
//   BOOLEAN                   true, false
//   TINYINT … HUGEINT         numbers without point or exponent, in range      not 7.0, not "7"
//   UTINYINT … UHUGEINT       the same, not negative
//   FLOAT, DOUBLE             numbers within the type's range
//   DECIMAL(w,s)              numbers, and strings that hold one: "120.55"     rounding
//   VARCHAR                   strings
//   UUID                      "e7f0a1c2-…", 36 characters
//   BLOB                      base64 with its padding                          format: hex
//   DATE                      "2001-01-31"
//   TIME                      "00:05:00[.ffffff]"
//   TIMESTAMP                 "2001-01-31T00:05:00[.ffffff]", T or a space     format epoch_…;
//                                                                              no offset
//   TIMESTAMP WITH TIME ZONE  the same with Z or an offset                     format epoch_…
//   JSON                      anything; its own text
//   type[]                    arrays whose elements are all of the type
//   STRUCT(name type, …)      objects; keys that are not declared are passed over
//
// For every type: a missing value is the default, else NULL, else (required) MISSING; null is NULL
// or (required) NULL_VALUE. A value whose way leads through something that is no object is of the
// WRONG_TYPE (through null: missing). A key that occurs twice on the way is DUPLICATE_KEY: parsers
// disagree on which one counts, so neither does. Times are within the years 0001 to 9999, and
// format epoch_s, epoch_ms and epoch_us take numbers whose microseconds are exact. Within lists and
// structs the same rules hold at every depth, NOT NULL being what `required` is for a column.
#ifndef ICEPIE_SLICES_READING_JSON_READING_H_
#define ICEPIE_SLICES_READING_JSON_READING_H_

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "absl/numeric/int128.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "slices/definition/definition.h"
#include "slices/reading/json_scan.h"

namespace icepie::slices {

// A value read. Which member counts follows from the column's kind.
struct Reading {
  bool is_null = false;
  bool boolean = false;
  // Integers up to 64 bits with a sign; days of DATE; microseconds of times; elements of a LIST.
  int64_t integer = 0;
  double real = 0;  // FLOAT and DOUBLE
  // DECIMAL, times 10^scale; UBIGINT, HUGEINT; UHUGEINT and UUID: their 128 bits.
  absl::int128 decimal = 0;
  absl::string_view text;  // VARCHAR, BLOB and JSON; points into the record or the reader
  // LIST: its elements; STRUCT: its fields. Each is followed by its own, and a NULL has none.
  const Reading* parts = nullptr;
};

// Why a value could not be read.
struct ReadFault {
  const char* code =
      "";               // MISSING, NULL_VALUE, WRONG_TYPE, OUT_OF_RANGE, BAD_FORMAT, DUPLICATE_KEY
  std::string message;  // "7.6 is not an INTEGER: …"
  // Of a fault within a list or struct: where, from the column's value on, "[2].value", and the
  // value there.
  std::string path = {};
  std::string value = {};
};

class NestedReader;

// Reads the values of one column.
// Threads: one at a time. Lifetime: a Reading's text lives until the next Read.
class ColumnReader {
 public:
  // Adds the column's path to `scanner`, which must outlive the reader.
  ColumnReader(const ColumnDef& column, JsonScanner& scanner);
  ColumnReader(ColumnReader&& other) noexcept;
  ~ColumnReader();

  // INVALID_ARGUMENT/DEFINITION_INVALID when the default is not a value of the type.
  absl::Status CheckDefault();

  // The value of the record that `scanner` scanned last; false when it is bad.
  bool Read(const JsonScanner& scanner, Reading& reading, ReadFault& fault);

  // Reads any value by the column's rules.
  bool ReadValue(const JsonValue& value, Reading& reading, ReadFault& fault);

  // Adds the last reading and its parts to `parts`, with texts that live as long as `texts`.
  void Take(Reading reading, std::vector<Reading>& parts, std::list<std::string>& texts);

  const ColumnDef& column() const { return column_; }
  const JsonValue& value(const JsonScanner& scanner) const { return scanner.value(slot_); }

 private:
  bool ReadAbsent(const JsonValue& value, Reading& reading, ReadFault& fault);
  bool ReadPresent(const JsonValue& value, Reading& reading, ReadFault& fault);
  bool ReadBoolean(const JsonValue& value, Reading& reading, ReadFault& fault) const;
  bool ReadInteger(const JsonValue& value, Reading& reading, ReadFault& fault) const;
  bool ReadDouble(const JsonValue& value, Reading& reading, ReadFault& fault) const;
  bool ReadDecimal(const JsonValue& value, Reading& reading, ReadFault& fault) const;
  bool ReadText(const JsonValue& value, Reading& reading, ReadFault& fault);
  bool ReadIsoTime(const JsonValue& value, Reading& reading, ReadFault& fault) const;
  bool ReadIsoDate(const JsonValue& value, Reading& reading, ReadFault& fault) const;
  bool ReadEpoch(const JsonValue& value, Reading& reading, ReadFault& fault) const;
  bool ReadHuge(const JsonValue& value, Reading& reading, ReadFault& fault) const;
  bool ReadFloat(const JsonValue& value, Reading& reading, ReadFault& fault) const;
  bool ReadClock(const JsonValue& value, Reading& reading, ReadFault& fault) const;
  bool ReadUuid(const JsonValue& value, Reading& reading, ReadFault& fault) const;
  bool ReadBlob(const JsonValue& value, Reading& reading, ReadFault& fault);
  bool ReadRare(const JsonValue& value, Reading& reading, ReadFault& fault);

  ColumnDef column_;
  int slot_;
  std::string unescaped_;
  JsonScanner default_scanner_;
  int default_slot_;
  std::unique_ptr<NestedReader> nested_;  // of LIST and STRUCT
};

// Reads the parts of a list or struct.
// Threads: one at a time. Lifetime: as ColumnReader.
class NestedReader {
 public:
  explicit NestedReader(const ColumnDef& column);

  bool Read(const JsonValue& value, Reading& reading, ReadFault& fault);
  // Adds the parts of the last reading to `parts`, and gives `texts` the texts that they point to.
  void Take(std::vector<Reading>& parts, std::list<std::string>& texts);

 private:
  bool ReadList(const JsonValue& value, Reading& reading, ReadFault& fault);
  bool ReadStruct(const JsonValue& value, ReadFault& fault);

  const ColumnKind kind_;
  const std::string type_;
  JsonScanner scanner_;  // of a struct's object
  std::vector<ColumnReader> children_;
  std::vector<Reading> parts_;
  std::list<std::string> texts_;
};

// "$.amount.value"
std::string PathText(const std::vector<std::string>& path);

// `value` as it may be shown: at most 80 bytes, cut between characters.
std::string ShortenedValue(absl::string_view value);

// `bytes` as they are when they are UTF-8, else with `\xHH` for each byte beyond ASCII.
std::string Utf8Text(absl::string_view bytes);

// Whether a `where` term holds: `value` is the scalar `expected`. Strings are equal by characters,
// numbers by value.
bool SameScalar(const JsonValue& value, const JsonValue& expected);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_READING_JSON_READING_H_
