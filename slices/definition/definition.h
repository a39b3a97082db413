// A domain's YAML file, read strictly: what it declares, with the place of every part so that later
// errors can name line and column. Duplicate and unknown keys are refused.
#ifndef ICEPIE_SLICES_DEFINITION_DEFINITION_H_
#define ICEPIE_SLICES_DEFINITION_DEFINITION_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "slices/definition/built_in_limits.h"
#include "slices/definition/definition_tests.h"
#include "slices/definition/file_place.h"

namespace icepie::slices {

// From byte `offset` of a text on, its characters stand one after the other at `place`, up to the
// next run. YAML drops indentation, folds lines and undoes escapes, so a text has several.
struct TextRun {
  size_t offset = 0;
  FilePlace place;
};

enum class ColumnKind {
  kBoolean,
  kTinyInt,
  kSmallInt,
  kInteger,
  kBigInt,
  kDouble,
  kDecimal,
  kVarchar,
  kDate,
  kTimestamp,
  kTimestampTz,
  kJson,  // the value's own text, as VARCHAR
  kUTinyInt,
  kUSmallInt,
  kUInteger,
  kUBigInt,
  kHugeInt,
  kUHugeInt,
  kFloat,
  kTime,
  kUuid,
  kBlob,
  kList,
  kStruct,
};

enum class TimeFormat { kIso8601, kEpochSeconds, kEpochMillis, kEpochMicros };
enum class BlobFormat { kBase64, kHex };
enum class Rounding { kRefuse, kHalfUp };

struct ColumnDef {
  std::string name;
  ColumnKind kind = ColumnKind::kVarchar;
  std::string type;  // as people write it: "DECIMAL(18,2)"; for SQL: SqlType() of column_type.h
  int decimal_width = 0;
  int decimal_scale = 0;
  // LIST: its element; STRUCT: its fields, `path` being the key alone. Format and rounding of the
  // column hold for them too.
  std::vector<ColumnDef> children;
  std::vector<std::string> path;  // $.amount.value → {"amount","value"}
  TimeFormat format = TimeFormat::kIso8601;
  BlobFormat blob_format = BlobFormat::kBase64;
  Rounding rounding = Rounding::kRefuse;
  bool required = false;                    // missing or null is a bad record
  std::optional<std::string> default_json;  // used when missing (not when null)
  FilePlace place;
};

// `where: {$.type: transfer}`: the record counts as filtered unless the value equals.
struct WhereTerm {
  std::vector<std::string> path;
  std::string json;  // the expected scalar, as JSON text
};

struct SourceDef {
  std::string name;
  std::string stream;
  std::vector<ColumnDef> columns;
  std::vector<WhereTerm> where;
  std::vector<std::string> latest_by;  // not empty: a dimension, the newest record per key
  FilePlace place;
};

struct RefreshDef {
  enum class Kind { kContinuous, kEvery, kCron, kAfter };
  Kind kind = Kind::kContinuous;
  absl::Duration every;
  std::string cron;          // five fields
  std::string time_zone;     // IANA name; UTC when empty
  std::string after;         // kAfter: whenever this slice of the domain has been refreshed
  bool skip_missed = false;  // what came due while nobody ran is not made up for
  FilePlace place;
};

enum class BadRecordAction {
  kQuarantine,  // the record is passed over and listed
  kFault,       // the slice stops in front of it
};

// More than so many quarantined records fault the slice. With a window they are those among the
// last `window` records of a stream (by offset), else all.
struct QuarantineBudget {
  int64_t records = 1000;  // with `percent`: at most that part of the window
  int64_t window = 0;      // 0: since the beginning
};

enum class ExpectationSeverity { kWarn, kError };

// One entry of `expect:`, a check on the slice's rows in dbt's vocabulary.
struct ExpectationDef {
  enum class Kind { kNotNull, kUnique, kAcceptedValues, kRelationships, kRowCount, kSql };
  Kind kind = Kind::kSql;
  std::string name;  // given, or made of the check and its columns: not_null_origin_hour
  ExpectationSeverity severity = ExpectationSeverity::kError;
  std::vector<std::string> columns;  // accepted_values, relationships: one; row_count, sql: none
  std::vector<std::string> values;   // accepted_values, as JSON scalars
  std::string to;                    // relationships: a slice of the domain …
  std::string field;                 // … and its column
  std::optional<int64_t> rows_min;   // row_count: one of them or both
  std::optional<int64_t> rows_max;
  std::string sql;  // must return no row; the slice's rows are the relation `slice`
  FilePlace sql_place;
  std::vector<TextRun> sql_runs;
  FilePlace place;
};

// Where byte `offset` of a text with these runs stands in the file; `fallback` without runs.
FilePlace PlaceInRuns(const std::vector<TextRun>& runs, size_t offset, FilePlace fallback);

// When a rebuilt generation begins to serve by itself: `promote: {mode: auto, unless: {…}}`. A
// limit is broken by more than its number.
struct PromoteDef {
  bool automatic = false;
  std::optional<double> changed_rows_percent;  // of the serving generation's rows
  std::optional<int64_t> changed_rows;
  std::optional<int64_t> added_rows;
  std::optional<int64_t> removed_rows;
  std::optional<int64_t> quarantined_records;
  std::optional<absl::Duration> keep_replaced;  // goes on applying for so long
};

// `retain: {column: minute, for: 400d}`: rows whose column lies further back than that before the
// newest ingest time are no part of the slice (retain_plan.h).
struct RetainDef {
  std::string column;
  absl::Duration span;
  FilePlace place;
};

// Named snapshots that are made at set times.
struct SnapshotSchedule {
  std::string name;        // strftime(3) pattern over the scheduled time: "month-%Y-%m"
  std::string cron;        // five fields; empty: there is no schedule
  std::string time_zone;   // IANA name; UTC when empty
  int64_t keep_count = 0;  // the newest so many; 0: however many
  absl::Duration keep_for = absl::InfiniteDuration();
};

// `max_stale: {after: 15m, then: fail}`: an answer that has been stale for longer is an error.
struct MaxStaleDef {
  absl::Duration after;
  bool fail = false;  // else it is served, marked stale
};

struct SliceDef {
  std::string name;
  std::string sql;
  FilePlace sql_place;  // of the first character of the SQL text in the file
  std::vector<TextRun> sql_runs;
  std::vector<std::string> key;
  std::string strategy;  // the one that it must have (plan.h); empty: the planner chooses
  FilePlace strategy_place;
  RefreshDef refresh;
  std::optional<RetainDef> retain;
  BadRecordAction on_bad_record = BadRecordAction::kQuarantine;
  QuarantineBudget budget;
  std::vector<ExpectationDef> expectations;
  SnapshotSchedule snapshots;
  std::map<std::string, double> diff_tolerance;  // relative, per column
  PromoteDef promote;
  std::optional<MaxStaleDef> max_stale;
  std::string renamed_from;  // what it was called before; empty: it has always been called so
  FilePlace place;

  // Where byte `offset` of `sql` stands in the file.
  FilePlace SqlPlaceAt(size_t offset) const;
};

struct LimitsDef {
  int64_t memory_bytes = 0;  // 0: the daemon's default
  int64_t disk_bytes = 0;    // likewise
  absl::Duration query_timeout = absl::ZeroDuration();
  int64_t max_result_rows = kResultRowsDefault;
  int64_t kept_rows = kKeptRowsDefault;  // source records a slice may keep to stay incremental
  bool states_max_result_rows = false;   // the file does
  bool states_kept_rows = false;
};

struct DomainDef {
  std::string domain;
  std::string team;
  std::string contact;
  std::string runbook;
  std::vector<SourceDef> sources;
  std::vector<SliceDef> slices;
  LimitsDef limits;
  std::optional<absl::Duration>
      idle_after;  // hibernates then; 0: never; absent: as the daemon says
  std::vector<TestDef> tests;
  std::string file_name;

  const SourceDef* FindSource(absl::string_view name) const;
  const SliceDef* FindSlice(absl::string_view name) const;
};

// Parses one domain file. INVALID_ARGUMENT/DEFINITION_INVALID with one violation per bad field; the
// message of each begins with `file_name:line:column: `. At most 1 MiB.
absl::StatusOr<DomainDef> ParseDomain(absl::string_view yaml, absl::string_view file_name);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_DEFINITION_DEFINITION_H_
