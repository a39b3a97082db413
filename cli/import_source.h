// Files as sequences of JSON records, in the file's order: lines of JSONL, rows of CSV and Parquet.
// JSON has no NaN and no infinity: such numbers of a column become null.
#ifndef ICEPIE_CLI_IMPORT_SOURCE_H_
#define ICEPIE_CLI_IMPORT_SOURCE_H_

#include <cstdint>
#include <limits>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "icepie/v1/core.pb.h"

namespace icepie::cli {

struct ImportFile {
  std::string path;    // "-": standard input, as JSONL
  std::string format;  // jsonl, csv or parquet; empty: by the file's ending
  int64_t skip = 0;    // records passed over at the beginning
  int64_t limit = std::numeric_limits<int64_t>::max();  // records of the file, the skipped counted
  std::string event_time;  // the column, or the member of a line's object, that is the event time
  bool envelope = false;   // JSONL: lines of cli/record_envelope.h
  bool check_json = true;  // JSONL: refuse a line that is not well-formed JSON, by its number
};

struct BatchLimits {
  int64_t records_max = 16384;
  int64_t bytes_max = 2 * 1024 * 1024;  // of payloads, unless one record is larger
};

// Threads: one at a time.
class ImportSource {
 public:
  // NOT_FOUND and INVALID_ARGUMENT name the file and what is wrong with it.
  static absl::StatusOr<std::unique_ptr<ImportSource>> Open(const ImportFile& file);
  virtual ~ImportSource() = default;

  // Adds the next records (payload and event time) to `batch`; none at the end of the file.
  // INVALID_ARGUMENT names the line or row of a bad record; `batch` then holds the good ones before
  // it.
  virtual absl::Status Fill(const BatchLimits& limits, icepie::v1::AppendRecordsRequest* batch) = 0;

  // Records in the whole file within `limit`, the skipped counted: exact for Parquet, counted
  // beforehand for CSV, an estimate by bytes for JSONL, -1 when it cannot be known.
  virtual int64_t TotalRecords() const = 0;

  // Records in the whole file within `limit`, exactly. To be called when Fill has found the end.
  virtual absl::StatusOr<int64_t> CountRecords() = 0;
};

// Since 1970.
void SetEventTime(int64_t micros, icepie::v1::Record* record);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_IMPORT_SOURCE_H_
