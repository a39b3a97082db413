#include "slices/role/fixture_feed.h"

#include <algorithm>
#include <set>
#include <utility>

namespace icepie::slices {

int64_t FixtureFeed::Append(const std::string& stream, const std::vector<NewRecord>& records,
                            int64_t ingest_time_us) {
  std::vector<const NewRecord*> pointers;
  pointers.reserve(records.size());
  for (const NewRecord& record : records) pointers.push_back(&record);
  int64_t head = 0;
  {
    MutexLock lock(mutex_);
    BlockHeader header;
    header.stream_id = 1;
    header.first_position = head_;
    header.first_offset = offsets_[stream];
    header.record_count = static_cast<uint32_t>(records.size());
    header.ingest_time_us = ingest_time_us;
    blocks_.push_back({header, {stream, *ChunkOfBlock(EncodeBlock(header, pointers))}});
    offsets_[stream] += static_cast<int64_t>(records.size());
    head_ += static_cast<int64_t>(records.size());
    head = head_;
  }
  changed_.SignalAll();
  return head;
}

int64_t FixtureFeed::head() const {
  MutexLock lock(mutex_);
  return head_;
}

class FixtureFeed::Reader : public FeedReader {
 public:
  Reader(FixtureFeed& feed, std::set<std::string> streams, int64_t from, std::optional<int64_t> end)
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

  FixtureFeed& feed_;
  const std::set<std::string> streams_;
  int64_t position_;
  const std::optional<int64_t> end_;
  bool told_head_ = false;
  bool cancelled_ = false;
};

std::unique_ptr<FeedReader> FixtureFeed::Open(const std::vector<std::string>& streams, int64_t from,
                                              std::optional<int64_t> end) {
  return std::make_unique<Reader>(*this, std::set<std::string>(streams.begin(), streams.end()),
                                  from, end);
}

}  // namespace icepie::slices
