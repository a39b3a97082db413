// Batches of a feed, read and decoded ahead of the one who applies them: while one is applied,
// threads beside it decompress the blocks of the next ones and read their JSON for the scans that
// they expect (shared_decode.h).
#ifndef ICEPIE_SLICES_APPLY_BATCHES_AHEAD_H_
#define ICEPIE_SLICES_APPLY_BATCHES_AHEAD_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "core/base/mutex.h"
#include "slices/apply/feed.h"
#include "slices/apply/record_batch.h"

namespace icepie::slices {

// Each thread makes one batch while another waits to be taken, so memory holds kThreads + 1 of them
// beside the taker's. Without threads, which the system may refuse, the taker reads them itself.
//
// Threads: one takes the batches; any may cancel the reader.
// Lifetime: within the reader's, which the destructor cancels.
class BatchesAhead {
 public:
  // Of the records of `streams` in [begin, end), which is what the reader was opened for.
  BatchesAhead(FeedReader& reader, int64_t begin, int64_t end, std::set<std::string> streams);
  ~BatchesAhead();
  BatchesAhead(const BatchesAhead&) = delete;
  BatchesAhead& operator=(const BatchesAhead&) = delete;

  // The next batch; nullopt behind the last one. An error, which is the reader's or DATA_LOSS for a
  // damaged block, comes behind what was read before it, and is the last.
  absl::StatusOr<std::optional<RecordBatch>> Next();

  // From now on batches are only read: who takes them in pieces decodes each piece itself.
  void DecodeNoMore() { decodes_ = false; }

 private:
  // More would wait for one another: blocks are read and decompressed by one at a time.
  static constexpr int kThreads = 2;

  using Made = absl::StatusOr<std::optional<RecordBatch>>;

  void Loop();
  // The next batch of the feed, and its place in the order of all; nothing behind the last one.
  std::optional<int64_t> Read(Made& made);
  Made ReadNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(reading_);
  // Waits until the batches before it have been taken. False when the taker is gone.
  bool Hand(int64_t number, Made made);

  FeedReader& reader_;
  const int64_t end_;
  const std::shared_ptr<DecodeSharing> sharing_ = DecodeSharing::Create();
  std::atomic<bool> decodes_{true};

  Mutex reading_;
  BatchDecoder decoder_ ABSL_GUARDED_BY(reading_);
  int64_t position_ ABSL_GUARDED_BY(reading_);
  int64_t read_ ABSL_GUARDED_BY(reading_) = 0;  // batches
  bool read_all_ ABSL_GUARDED_BY(reading_) = false;

  Mutex mutex_;
  CondVar changed_;
  std::optional<Made> waiting_ ABSL_GUARDED_BY(mutex_);
  int64_t handed_ ABSL_GUARDED_BY(mutex_) = 0;  // batches
  int running_ ABSL_GUARDED_BY(mutex_) = kThreads;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_APPLY_BATCHES_AHEAD_H_
