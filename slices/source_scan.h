// Streams as relations: the DuckDB table function `icepie_records`, which decodes JSON payloads
// with simdjson straight into DuckDB's vectors by the reading rules of API.md section 2, and skips
// and lists the records that it cannot read.
#ifndef ICEPIE_SLICES_SOURCE_SCAN_H_
#define ICEPIE_SLICES_SOURCE_SCAN_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/record.h"
#include "slices/definition.h"

namespace icepie::slices {

class DuckConnection;

// Hands records of one stream in position order, piece by piece.
class RecordSupply {
 public:
  virtual ~RecordSupply() = default;
  // The next piece; empty at the end. The views live until the next call.
  virtual absl::StatusOr<absl::Span<const RecordView>> Next() = 0;
};

// A record that could not be read for the columns asked for.
struct BadRecord {
  int64_t position = 0;
  int64_t offset = 0;
  std::string code;    // INVALID_JSON, MISSING, NULL_VALUE, WRONG_TYPE, OUT_OF_RANGE, BAD_FORMAT
  std::string column;  // empty for INVALID_JSON
  std::string path;    // "$.amount.value"
  std::string value;   // the offending value, at most 80 bytes
  std::string message;
};

// What one scan saw. input = rows + filtered + bad.size().
struct ScanCounts {
  int64_t input = 0;
  int64_t rows = 0;
  int64_t filtered = 0;
  std::vector<BadRecord> bad;
  int64_t event_time_max_us = INT64_MIN;
};

// One source of one generation, reading `columns` of `source`. It is an input of statements through
// a view over icepie_records; before each execution it is given the records to show.
//
// Threads: one connection's; not safe for concurrent statements.
class SourceInput {
 public:
  // Makes the temporary view `source.name` on `connection` with the columns read and the hidden
  // columns (slices/plan.h). A dimension (latest_by) shows the newest record per key of what it is
  // given.
  static absl::StatusOr<std::unique_ptr<SourceInput>> Create(DuckConnection& connection,
                                                             const SourceDef& source,
                                                             std::vector<std::string> columns);
  virtual ~SourceInput() = default;

  // The records that the next statements see; each statement that scans the source sees all of them
  // from the start (`open` is called at each scan). Positions in `excluded` (sorted) count as bad
  // without being read: poison that a statement failed on.
  using OpenSupply = std::function<absl::StatusOr<std::unique_ptr<RecordSupply>>()>;
  virtual void SetRecords(OpenSupply open, std::vector<int64_t> excluded) = 0;

  // Counts of the last complete scan since SetRecords. A source that a statement scans twice (a
  // self join) is counted once.
  virtual const ScanCounts& counts() const = 0;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_SOURCE_SCAN_H_
