// Records of a stream as rows of a source: JSON payloads, and protobuf ones by their JSON text
// (payload_schema.h), read by the strict rules of json_reading.h into vectors of DuckDB's.
#ifndef ICEPIE_SLICES_READING_RECORD_READER_H_
#define ICEPIE_SLICES_READING_RECORD_READER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/record.h"
#include "slices/definition/definition.h"
#include "slices/reading/json_reading.h"
#include "slices/reading/output_vector.h"
#include "slices/reading/payload_scan.h"
#include "slices/reading/source_scan.h"
#include "slices/reading/where_filter.h"

namespace icepie::slices {

// The columns behind those of a source, in the order of kHiddenColumns (plan.h).
enum HiddenColumn { kPosition, kOffset, kTime, kEventTime, kKey, kPayload, kHiddenCount };
duckdb_type HiddenType(int column);

// What a scan reads: the part of a source that does not change.
struct SourceReading {
  std::string stream;
  std::vector<ColumnDef> columns;
  std::vector<WhereTerm> where;
  bool notes_taken = false;
};

// A value that could not be read, in a record that has become a row nevertheless.
struct ColumnFault {
  int64_t record = 0;  // how many came before it
  int64_t row = 0;
  size_t column = 0;
  BadRecord bad;
};

// Reads records by the source's rules and counts what became of them.
// Threads: one at a time.
class RecordReader {
 public:
  explicit RecordReader(const SourceReading& source);

  // INVALID_ARGUMENT/DEFINITION_INVALID for a default or a `where` value that cannot be read.
  absl::Status Check();

  // Writes the record into `row` of the outputs (one per column, then one per hidden column) and
  // counts it; false when it does not become a row.
  bool Read(const RecordView& record, const std::vector<int64_t>& excluded,
            std::vector<OutputVector>& outputs, idx_t row);

  // The same for several readers at once, who need not read all of the columns: a value that cannot
  // be read is NULL and noted in `faults`, and does not count. `row_number`: of all rows.
  bool ReadForAll(const RecordView& record, std::vector<OutputVector>& outputs, idx_t row,
                  int64_t row_number, std::vector<ColumnFault>& faults);

  size_t output_count() const { return readers_.size() + kHiddenCount; }
  ScanCounts& counts() { return counts_; }

 private:
  bool Take(const RecordView& record, const std::vector<int64_t>& excluded,
            std::vector<OutputVector>& outputs, idx_t row);
  bool IsReadable(const RecordView& record);
  void CountRow(const RecordView& record, std::vector<OutputVector>& outputs, idx_t row);
  bool IsExcluded(const RecordView& record, const std::vector<int64_t>& excluded);
  bool IsWanted(const RecordView& record);
  BadRecord FaultOf(const RecordView& record, const ColumnReader& reader);
  void AddBad(BadRecord bad);

  JsonScanner scanner_;
  PayloadScan payload_;
  std::vector<ColumnReader> readers_;
  WhereFilter where_;
  const bool notes_taken_;
  Reading reading_;
  ReadFault fault_;
  ScanCounts counts_;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_READING_RECORD_READER_H_
