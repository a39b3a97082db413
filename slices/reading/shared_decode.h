// One decoding of records for all that read them: the scans of a batch by several slices, or by
// several statements of one, are given the same vectors instead of reading the JSON each.
//
// What is decoded together is a stream under one `where`, in one range of positions, with all the
// columns that scans of the last batches asked for, each by its own definition. A value that cannot
// be read is kept apart for its column: the record is bad for the scans that read this column, and
// a row for the others. Who asks for a column that was not foreseen, for another range, or passes
// over records by position, decodes alone, as all do while only one scan a batch asks, unless the
// batch has been decoded ahead of them.
#ifndef ICEPIE_SLICES_READING_SHARED_DECODE_H_
#define ICEPIE_SLICES_READING_SHARED_DECODE_H_

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/statusor.h"
#include "core/base/mutex.h"
#include "slices/reading/record_reader.h"
#include "slices/reading/source_scan.h"

namespace icepie::slices {

// What one scan wants.
struct ScanRequest {
  const SourceReading* reading = nullptr;
  // Who shares: equal for equal streams and `where`; and of each column, equal for equal readings.
  const std::string* group = nullptr;
  const std::vector<std::string>* column_keys = nullptr;
  std::vector<bool> shown;  // of the columns and the hidden ones: not only read, but shown
};

std::string ShareGroup(const SourceReading& reading);
std::string ColumnKey(const ColumnDef& column);

// Rows as vectors, which are not changed any more.
// Threads: any.
class SharedRows {
 public:
  SharedRows() = default;
  ~SharedRows();
  SharedRows(const SharedRows&) = delete;
  SharedRows& operator=(const SharedRows&) = delete;

  std::vector<duckdb_data_chunk> chunks;  // all but the last one are full
  std::map<std::string, size_t> columns;  // by their keys
  std::vector<int> vectors;  // of each column, hidden ones behind them: in the chunks; -1: none
  std::vector<ColumnFault> faults;   // by row
  std::vector<int64_t> event_times;  // of the rows; INT64_MIN: none
  ScanCounts counts;                 // without the faults

  size_t column_count() const { return vectors.size() - kHiddenCount; }
  bool Covers(const ScanRequest& request) const;
};

// The part of shared rows that a scan sees.
// Threads: one at a time.
class SharedScan {
 public:
  SharedScan(std::shared_ptr<const SharedRows> rows, const ScanRequest& request);

  // As if the scan had read the records by itself.
  ScanCounts Counts(bool notes_taken) const;

  // Shows the next rows: output i of the request is column chunk_columns[i] of `chunk`, -1: of
  // none. The number of rows; 0 at the end.
  idx_t Fill(duckdb_data_chunk chunk, const std::vector<int>& chunk_columns);

 private:
  void Show(duckdb_data_chunk from, duckdb_data_chunk to, const std::vector<int>& chunk_columns,
            duckdb_selection_vector kept, idx_t count) const;

  std::shared_ptr<const SharedRows> rows_;
  std::vector<int> vectors_;             // of each output, in the shared chunks
  std::vector<const ColumnFault*> bad_;  // of each row that is none for this scan, by row
  size_t next_ = 0;                      // chunk
  size_t next_bad_ = 0;
};

// What scans of one sequence of batches ask for. A column is decoded for all until so many batches
// have gone by in which none asked for it.
// Threads: any.
class DecodeSharing {
 public:
  static constexpr int64_t kForgetBatches = 16;
  static constexpr int64_t kBytesMax = int64_t{32} << 20;
  static constexpr size_t kFaultsMax = 4096;

  // Of one batch: keeps what its scans have decoded.
  // Threads: any. Lifetime: that of the batch.
  class Batch {
   public:
    Batch(std::shared_ptr<DecodeSharing> sharing, int64_t number);

    // The rows of the records in [from, to), which `open` gives; null: to be decoded alone. Who
    // asks for what another one is decoding waits for that, and for nobody else.
    absl::StatusOr<std::shared_ptr<const SharedRows>> Find(const ScanRequest& request, int64_t from,
                                                           int64_t to,
                                                           const SourceInput::OpenSupply& open);

    // Decodes the records in [from, to) for the scans that will ask for them, as those of the last
    // batches did, while the one who runs the scans is busy with the batch before. `open` gives the
    // records of a stream. What cannot be had is left to the scans.
    void Prepare(int64_t from, int64_t to,
                 const std::function<SourceInput::OpenSupply(const std::string& stream)>& open);

   private:
    struct Entry {
      int64_t scans = 0;
      bool tried = false;
      bool under_way = false;  // one of those who ask decodes it
      std::shared_ptr<const SharedRows> rows;
    };
    class Turn;

    void Keep(const std::string& group, Entry& entry, std::shared_ptr<const SharedRows> rows,
              int64_t bytes);

    const std::shared_ptr<DecodeSharing> sharing_;
    const int64_t number_;
    std::map<std::tuple<std::string, int64_t, int64_t>, Entry> entries_;  // under sharing_->mutex_
    int64_t bytes_ = 0;                                                   // likewise
  };

  // `bytes_max`: of one batch, as it is estimated. What goes beyond is decoded by each scan, and so
  // are the next batches.
  explicit DecodeSharing(int64_t bytes_max) : bytes_max_(bytes_max) {}
  static std::shared_ptr<DecodeSharing> Create(int64_t bytes_max = kBytesMax) {
    return std::make_shared<DecodeSharing>(bytes_max);
  }
  static std::shared_ptr<Batch> NextBatch(const std::shared_ptr<DecodeSharing>& sharing);

 private:
  struct Wish {
    ColumnDef column;
    int64_t read = 0;   // the last batch that asked for it
    int64_t shown = 0;  // likewise, to show it
  };
  struct Demand {
    std::string stream;
    std::vector<WhereTerm> where;
    int64_t batch_number = 0;  // of all batches, the last with a scan
    int64_t batches = 0;       // with a scan
    int64_t scans = 0;         // of one range of that batch, the most
    int64_t scans_before = 0;  // of the batch before
    int64_t try_again = 0;     // the number in `batches`, after one that was too much to keep
    std::map<std::string, Wish> columns;
    std::array<int64_t, kHiddenCount> hidden_shown{};
  };

  // What is decoded for all.
  struct Foreseen {
    SourceReading reading;
    std::map<std::string, size_t> columns;  // by their keys
    std::vector<bool> shown;
  };

  Demand& Note(const ScanRequest& request, int64_t batch_number)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TryLater(const std::string& group) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static Foreseen Foresee(const Demand& demand);
  // Null when it would be more than `bytes_max`; `bytes` says how much it is.
  static absl::StatusOr<std::shared_ptr<SharedRows>> Decode(Foreseen foreseen, int64_t bytes_max,
                                                            const SourceInput::OpenSupply& open,
                                                            int64_t& bytes);

  const int64_t bytes_max_;
  Mutex mutex_;
  CondVar decoded_;  // what was under way
  int64_t batches_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, Demand> demands_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_READING_SHARED_DECODE_H_
