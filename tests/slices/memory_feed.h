// A feed over records in memory, for tests of the engine.
#ifndef ICEPIE_TESTS_SLICES_MEMORY_FEED_H_
#define ICEPIE_TESTS_SLICES_MEMORY_FEED_H_

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/base/mutex.h"
#include "core/block.h"
#include "slices/feed.h"

namespace icepie::slices {

class MemoryFeed : public Feed {
 public:
  // Appends payloads as one block at the next positions; returns the new head.
  int64_t Append(const std::string& stream, const std::vector<std::string>& payloads,
                 int64_t ingest_time_us = 1'000'000) {
    std::vector<NewRecord> records(payloads.size());
    std::vector<const NewRecord*> pointers;
    for (size_t i = 0; i < payloads.size(); ++i) {
      records[i].stream = stream;
      records[i].payload = payloads[i];
      pointers.push_back(&records[i]);
    }
    {
      MutexLock lock(mutex_);
      BlockHeader header;
      header.stream_id = 1;
      header.first_position = head_;
      header.first_offset = offsets_[stream];
      header.record_count = static_cast<uint32_t>(payloads.size());
      header.ingest_time_us = ingest_time_us;
      blocks_.push_back({header, {stream, *ChunkOfBlock(EncodeBlock(header, pointers))}});
      offsets_[stream] += static_cast<int64_t>(payloads.size());
      head_ += static_cast<int64_t>(payloads.size());
    }
    changed_.SignalAll();
    return head();
  }

  int64_t head() const {
    MutexLock lock(mutex_);
    return head_;
  }

  // Readers hand out at most so many blocks a piece.
  void set_blocks_per_piece(size_t blocks) { blocks_per_piece_ = blocks; }

  std::unique_ptr<FeedReader> Open(const std::vector<std::string>& streams, int64_t from,
                                   std::optional<int64_t> end) override {
    return std::make_unique<Reader>(*this, std::set<std::string>(streams.begin(), streams.end()),
                                    from, end);
  }

 private:
  struct Stored {
    BlockHeader header;
    FeedBlock block;
  };

  class Reader : public FeedReader {
   public:
    Reader(MemoryFeed& feed, std::set<std::string> streams, int64_t from,
           std::optional<int64_t> end)
        : feed_(feed), streams_(std::move(streams)), position_(from), end_(end) {}

    absl::StatusOr<std::optional<FeedPiece>> Next() override {
      MutexLock lock(feed_.mutex_);
      while (told_head_ && position_ >= Limit() && !cancelled_ && !Ended()) {
        feed_.changed_.Wait(feed_.mutex_);
      }
      if (cancelled_) return absl::UnavailableError("cancelled");
      if (Ended()) return std::optional<FeedPiece>();
      told_head_ = true;
      return Read();
    }

    void Cancel() override {
      MutexLock lock(feed_.mutex_);
      cancelled_ = true;
      feed_.changed_.SignalAll();
    }

   private:
    int64_t Limit() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(feed_.mutex_) {
      return std::min(end_.value_or(INT64_MAX), feed_.head_);
    }
    bool Ended() const { return end_ && position_ >= *end_; }

    std::optional<FeedPiece> Read() ABSL_EXCLUSIVE_LOCKS_REQUIRED(feed_.mutex_) {
      FeedPiece piece;
      piece.head_position = feed_.head_;
      piece.complete_position = std::max(position_, Limit());
      for (const Stored& stored : feed_.blocks_) {
        if (streams_.count(stored.block.stream) == 0) continue;
        if (stored.header.end_position() <= position_) continue;
        if (stored.header.first_position >= piece.complete_position) break;
        piece.blocks.push_back(stored.block);
        if (piece.blocks.size() < feed_.blocks_per_piece_) continue;
        piece.complete_position = std::min(piece.complete_position, stored.header.end_position());
        break;
      }
      position_ = piece.complete_position;
      return piece;
    }

    MemoryFeed& feed_;
    std::set<std::string> streams_;
    int64_t position_;
    std::optional<int64_t> end_;
    bool told_head_ = false;
    bool cancelled_ = false;
  };

  mutable Mutex mutex_;
  CondVar changed_;
  int64_t head_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, int64_t> offsets_ ABSL_GUARDED_BY(mutex_);
  std::vector<Stored> blocks_ ABSL_GUARDED_BY(mutex_);
  size_t blocks_per_piece_ = 4;
};

}  // namespace icepie::slices

#endif  // ICEPIE_TESTS_SLICES_MEMORY_FEED_H_
