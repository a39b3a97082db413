// A feed over records in memory: what a domain file's tests are given, and what the engine's own
// tests read.
#ifndef ICEPIE_SLICES_ROLE_FIXTURE_FEED_H_
#define ICEPIE_SLICES_ROLE_FIXTURE_FEED_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/mutex.h"
#include "core/block/block.h"
#include "slices/apply/feed.h"

namespace icepie::slices {

// Threads: any.
// Lifetime: outlives its readers.
class FixtureFeed : public Feed {
 public:
  // Appends records of one stream as one block at the next positions; returns the new head.
  int64_t Append(const std::string& stream, const std::vector<NewRecord>& records,
                 int64_t ingest_time_us);

  int64_t head() const;

  // Readers hand out at most so many blocks a piece. Before the first Open().
  void set_blocks_per_piece(size_t blocks) { blocks_per_piece_ = blocks; }

  std::unique_ptr<FeedReader> Open(const std::vector<std::string>& streams, int64_t from,
                                   std::optional<int64_t> end) override;

 private:
  class Reader;
  struct Stored {
    BlockHeader header;
    FeedBlock block;
  };

  mutable Mutex mutex_;
  CondVar changed_;
  int64_t head_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, int64_t> offsets_ ABSL_GUARDED_BY(mutex_);
  std::vector<Stored> blocks_ ABSL_GUARDED_BY(mutex_);
  size_t blocks_per_piece_ = 4;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_ROLE_FIXTURE_FEED_H_
