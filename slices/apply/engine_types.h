// What the engine is told and what it says: the C++ side of icepie.worker.v1, without gRPC.
// Positions are exclusive ends; times in microseconds since 1970 UTC where a name ends in _us.
#ifndef ICEPIE_SLICES_APPLY_ENGINE_TYPES_H_
#define ICEPIE_SLICES_APPLY_ENGINE_TYPES_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "slices/apply/position_ranges.h"
#include "slices/expectation/expectation.h"
#include "slices/plan/plan.h"
#include "slices/reading/result_json.h"
#include "slices/reading/row_diff.h"

namespace icepie::slices {

// The numbers are those of icepie.v1.SliceState.
enum class SliceState {
  kStarting = 1,
  kBackfilling = 2,
  kRunning = 3,
  kLagging = 4,
  kFrozen = 5,
  kFaulted = 6,
  kHeld = 7,
  kBlocked = 8,
  kSuspended = 9,
};

struct GenerationSpec {
  std::string slice;
  int64_t number = 0;
  std::string file;  // the domain file's text
  std::string definition_hash;
  bool frozen = false;
  std::string start_snapshot;  // relative to the domain's directory; may be empty
  bool serving = false;
  std::vector<ExpectationWaiver> waivers;
  PositionRanges acknowledged;            // of its quarantine
  bool suspended = false;                 // its state is not kept; the last snapshot answers
  int64_t restarts = 0;                   // another number than before: its state is opened anew
  std::vector<int64_t> deadly_positions;  // records that end the process: quarantined untried
  // One of the records in [probe_begin, probe_end) does so: they are applied, or tried in front of
  // a recompute, probe_records at a time. 0: nothing is probed.
  int64_t probe_begin = 0;
  int64_t probe_end = 0;
  int64_t probe_records = 0;

  std::string Id() const { return slice + "/" + std::to_string(number); }
};

struct BuildJob {
  std::string slice;
  int64_t number = 0;
  std::string base_snapshot;
  int64_t base_generation = 0;
  int64_t base_position = 0;
  std::optional<int64_t> end_position;
  std::map<std::string, PositionRanges> acknowledged;  // by slice
  std::map<std::string, std::string> other_snapshots;  // by slice: for their quarantines
  bool continue_base = false;  // try the base's quarantine again, on its state if that will do
};

struct Assignment {
  std::string domain;
  int64_t epoch = 0;
  std::vector<GenerationSpec> generations;
  std::optional<BuildJob> build;
};

// The row of a generation's table __progress.
struct Progress {
  int64_t applied_position = 0;
  int64_t applied_time_us = 0;  // ingest time of the newest applied record; 0: none
  int64_t event_time_max_us = INT64_MIN;
  int64_t input = 0;
  int64_t applied = 0;
  int64_t filtered = 0;
  int64_t quarantined = 0;
  // Equal versions of a generation are equal rows, also over restarts. It is the position behind
  // the last record that could change the rows, or more: they may be made anew where they stand, of
  // other rows of the slices below.
  int64_t content_version = 0;

  // No record from here on has changed the rows.
  int64_t changed_to() const { return std::min(content_version, applied_position); }
  // As far as `to`, with other rows.
  void Change(int64_t to) { content_version = std::max(content_version + 1, to); }
};

struct SliceFault {
  std::string reason;
  std::string message;
  absl::Time time;
};

struct SnapshotInfo {
  std::string path;  // relative to the domain's directory
  int64_t position = 0;
  absl::Time time;
  std::string sha256;
  int64_t content_version = 0;
  int64_t rows = 0;  // of the result
};

// What does not change during a generation's life.
struct GenerationInfo {
  std::string slice;
  int64_t number = 0;
  std::string definition_hash;
  std::string strategy;
  std::vector<OutputColumn> columns;
  std::vector<std::string> key;
  std::string sql;
  std::vector<std::string> reads;  // streams and slices
  std::string overridden;          // why it is recomputed against the planner's choice
  std::string layout;              // hash of its tables: another planner may keep others
};

struct SliceReport {
  GenerationInfo info;
  SliceState state = SliceState::kStarting;
  absl::Time state_since;
  std::optional<SliceFault> last_error;
  std::optional<absl::Time> next_retry_time;
  std::optional<absl::Time> next_refresh_time;
  std::optional<absl::Time> oldest_unapplied;  // ingest time of the oldest record that waits
  Progress progress;                           // with the position that was passed over to
  int64_t unacknowledged = 0;                  // of the quarantined
  std::optional<SnapshotInfo> snapshot;
  std::optional<SliceFault> not_saved;  // why, and since when, the last attempt has failed
  bool serving = false;
  bool no_rows = false;                         // there is no state to answer from
  std::vector<ExpectationResult> expectations;  // as last checked
};

// What a new generation makes of records that the serving one has in quarantine.
struct FromQuarantine {
  int64_t records = 0;  // that it takes
  RowChanges rows;      // that would not differ without them
};

struct GenerationDiff {
  int64_t base_generation = 0;
  int64_t base_position = 0;
  int64_t position = 0;
  int64_t base_rows = 0;
  int64_t rows = 0;
  int64_t added = 0;
  int64_t removed = 0;
  int64_t changed = 0;
  std::vector<std::string> samples;
  std::string unavailable;
  std::vector<ColumnChange> columns;
  std::string not_by_key;
  std::optional<FromQuarantine> from_quarantine;
};

struct BuildReport {
  std::string slice;
  int64_t number = 0;
  std::string phase;  // building, comparing, catching_up, ready, failed
  int64_t done_records = 0;
  int64_t total_records = 0;
  int64_t quarantined = 0;
  std::optional<GenerationDiff> diff;
  std::optional<SnapshotInfo> snapshot;
  std::optional<SliceFault> error;
  std::vector<ExpectationResult> expectations;  // of `snapshot`
  bool continues_base = false;  // it is the base's state with its quarantine tried again
  int64_t done_before = 0;      // of done_records: taken from what an earlier run had saved
};

struct EngineReport {
  int64_t epoch = 0;
  std::vector<SliceReport> slices;
  std::optional<BuildReport> build;
  int64_t head_position = 0;
  bool hangs = false;  // it has not answered itself for long (QueryService::HeartbeatAge)
};

// A bound value. The wrappers keep apart what would be one C++ type.
struct DecimalValue {
  std::string digits;  // "120.55"
};
struct BlobValue {
  std::string bytes;
};
using QueryValue = std::variant<std::monostate, bool, int64_t, double, DecimalValue, std::string,
                                BlobValue, absl::Time>;

struct SelectFilter {
  enum class Operator { kEq, kNeq, kLt, kLte, kGt, kGte, kIn, kIsNull, kIsNotNull };
  std::string column;
  Operator op = Operator::kEq;
  std::vector<QueryValue> values;
};

struct SelectOrder {
  std::string column;
  bool descending = false;
};

struct SelectQuestion {
  std::string slice;
  std::vector<std::string> columns;
  std::vector<SelectFilter> filters;
  std::vector<SelectOrder> order_by;
  std::optional<int64_t> limit;
};

struct KnownVersion {
  std::string slice;
  int64_t generation = 0;
  int64_t content_version = 0;
};

// A moment of the past: one of them.
struct AsOf {
  std::optional<int64_t> position;
  std::optional<absl::Time> time;
  std::string snapshot;  // its name
};

struct Question {
  std::variant<std::string, SelectQuestion> text;
  std::map<std::string, QueryValue> parameters;
  std::optional<AsOf> as_of;
  std::optional<int64_t> min_position;
  absl::Duration max_wait;
  int64_t rows_max = 0;  // 0: the domain's limit
  RowStyle style;
  std::vector<KnownVersion> known;
  absl::Time deadline = absl::InfiniteFuture();
  std::string fingerprint;  // what the flight record calls it
  bool heartbeat = false;   // only the position is read, no rows
  // Set when nobody waits for the answer any more: it ends, with whatever error.
  std::shared_ptr<const std::atomic<bool>> given_up;

  bool GivenUp() const { return given_up != nullptr && *given_up; }
};

struct Answer {
  std::vector<SliceReport> slices;  // those it read, as its transaction saw them
  std::vector<OutputColumn> columns;
  bool not_modified = false;
  bool varies = false;  // it shows what is not in the slices: the clock, random numbers
  JsonRows rows;
};

struct QuarantinedRecord {
  int64_t position = 0;
  std::string stream;
  int64_t offset = 0;
  std::string code;
  std::string column;
  std::string path;
  std::string value;
  std::string message;
  bool acknowledged = false;
};

struct QuarantineGroup {
  std::string code;
  std::string column;
  std::string path;
  std::string sample;
  int64_t count = 0;
  int64_t first_position = 0;
  int64_t last_position = 0;
  int64_t unacknowledged = 0;
};

struct QuarantinePage {
  std::vector<QuarantineGroup> groups;  // on the first page
  std::vector<QuarantinedRecord> records;
  int64_t total = 0;
  bool more = false;
};

// What a definition says of one record.
struct RecordJudgement {
  enum class Verdict { kReadable = 1, kFiltered = 2, kBad = 3 };  // as icepie.v1.RecordJudgement
  Verdict verdict = Verdict::kFiltered;
  std::string code;  // of a bad one
  std::string column;
  std::string message;
  std::optional<size_t> offset;  // of the bad part in the payload, if it can be named
  size_t size = 0;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_APPLY_ENGINE_TYPES_H_
