// Streams as relations: the DuckDB table function `icepie_records`, which decodes JSON payloads,
// and protobuf ones by their JSON text (payload_schema.h), straight into DuckDB's vectors by the
// strict rules of slices/reading/json_reading.h, and skips and lists the records that it cannot
// read.
#ifndef ICEPIE_SLICES_READING_SOURCE_SCAN_H_
#define ICEPIE_SLICES_READING_SOURCE_SCAN_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/record.h"
#include "slices/definition/definition.h"

namespace icepie::slices {

class DuckConnection;
class SharedRows;
struct ScanRequest;

// Hands records of one stream in position order, piece by piece.
class RecordSupply {
 public:
  virtual ~RecordSupply() = default;
  // The next piece; empty at the end. The views live until the next call.
  virtual absl::StatusOr<absl::Span<const RecordView>> Next() = 0;
  // All of it as rows that have been decoded for several scans (shared_decode.h), in place of
  // Next(); null: there are none.
  virtual absl::StatusOr<std::shared_ptr<const SharedRows>> Share(const ScanRequest& request);
};

// Records in memory, which must outlive the supply.
std::unique_ptr<RecordSupply> MakeSpanSupply(absl::Span<const RecordView> records);

// A record that could not be read for the columns asked for.
struct BadRecord {
  int64_t position = 0;
  int64_t offset = 0;
  // INVALID_JSON, INVALID_PROTOBUF, MISSING, NULL_VALUE, WRONG_TYPE, OUT_OF_RANGE, BAD_FORMAT,
  // DUPLICATE_KEY, or STATEMENT_FAILED for an excluded one.
  std::string code;
  std::string column;  // empty when no single column is to blame
  std::string path;    // "$.amount.value"
  std::string value;   // the offending value, at most 80 bytes of UTF-8
  std::string message;
};

// Bad records beyond so many are counted, not listed.
inline constexpr int64_t kBadRecordsListedMax = 100'000;

// What one scan saw: input = rows + filtered + bad_count.
struct ScanCounts {
  int64_t input = 0;
  int64_t rows = 0;
  int64_t filtered = 0;
  int64_t bad_count = 0;
  std::vector<BadRecord> bad;             // the first kBadRecordsListedMax
  int64_t event_time_max_us = INT64_MIN;  // of the rows
  int64_t ingest_time_max_us = 0;         // of all records
  std::vector<bool> taken;                // of each record, if asked for: it became a row
};

// One source of one generation, reading `columns` of `source`. It is an input of statements through
// a view over icepie_records; before each execution it is given the records to show.
//
// Every record is validated whole and all of `columns` are read, whatever a statement selects, so
// which records are bad depends on the definition only. Records are scanned in position order by
// one thread.
//
// Threads: one connection's; not safe for concurrent statements.
// Errors: when a statement fails, supply_error() says whether it was the supply that failed; DuckDB
//   itself reports that like a data error (INVALID_ARGUMENT).
// Lifetime: statements prepared over the view may be run again after each SetRecords; run or
//   prepared after the input is gone, they fail. The view stays on the connection.
class SourceInput {
 public:
  // Makes the temporary view `source.name` on `connection` with the columns read and the hidden
  // columns (slices/plan/plan.h). A dimension (latest_by) also reads its key columns, and shows the
  // newest record per key of what it is given. INVALID_ARGUMENT/DEFINITION_INVALID for a column
  // that `source` does not declare or a default that is not of the column's type. With
  // `notes_taken`, counts() say so of each single record.
  static absl::StatusOr<std::unique_ptr<SourceInput>> Create(DuckConnection& connection,
                                                             const SourceDef& source,
                                                             std::vector<std::string> columns,
                                                             bool notes_taken = false);
  virtual ~SourceInput() = default;

  // The records that the next statements see; each statement that scans the source sees all of them
  // from the start (`open` is called at each scan). Positions in `excluded` (sorted) count as bad
  // without being read: poison that a statement failed on.
  using OpenSupply = std::function<absl::StatusOr<std::unique_ptr<RecordSupply>>()>;
  virtual void SetRecords(OpenSupply open, std::vector<int64_t> excluded) = 0;

  // What the last complete scan since SetRecords saw. A source that a statement scans twice (a self
  // join) is counted once. When no statement has scanned to the end (LIMIT, or a join with nothing,
  // for which DuckDB skips the other side), the records are read once more for the counts; should
  // that fail, they are zero and supply_error() says why.
  virtual const ScanCounts& counts() = 0;

  // The error of `open` or the supply that a statement or counts() met since SetRecords.
  virtual absl::Status supply_error() const = 0;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_READING_SOURCE_SCAN_H_
