// The feed of a domain file's tests, fed with payloads, and with a disk that can be damaged.
#ifndef ICEPIE_TESTS_SLICES_MEMORY_FEED_H_
#define ICEPIE_TESTS_SLICES_MEMORY_FEED_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/mutex.h"
#include "slices/role/fixture_feed.h"

namespace icepie::slices {

class MemoryFeed : public FixtureFeed {
 public:
  // Appends payloads as one block at the next positions; returns the new head.
  int64_t Append(const std::string& stream, const std::vector<std::string>& payloads,
                 int64_t ingest_time_us = 1'000'000) {
    std::vector<NewRecord> records(payloads.size());
    for (size_t i = 0; i < payloads.size(); ++i) {
      records[i].stream = stream;
      records[i].payload = payloads[i];
    }
    return FixtureFeed::Append(stream, records, ingest_time_us);
  }

  // From now on nothing can be read, as when a file is missing; or (OK) it can again.
  void SetDamage(absl::Status damage) {
    const MutexLock lock(mutex_);
    damage_ = std::move(damage);
  }

  std::unique_ptr<FeedReader> Open(const std::vector<std::string>& streams, int64_t from,
                                   std::optional<int64_t> end) override {
    {
      const MutexLock lock(mutex_);
      opened_.push_back(from);
    }
    return std::make_unique<Reader>(*this, FixtureFeed::Open(streams, from, end));
  }

  // Where readers have begun, in the order of their opening.
  std::vector<int64_t> opened() const {
    const MutexLock lock(mutex_);
    return opened_;
  }

 private:
  class Reader : public FeedReader {
   public:
    Reader(const MemoryFeed& feed, std::unique_ptr<FeedReader> reader)
        : feed_(feed), reader_(std::move(reader)) {}

    absl::StatusOr<std::optional<FeedPiece>> Next() override {
      auto piece = reader_->Next();
      const absl::Status damage = feed_.damage();
      if (!damage.ok()) return damage;
      return piece;
    }
    void Cancel() override { reader_->Cancel(); }

   private:
    const MemoryFeed& feed_;
    const std::unique_ptr<FeedReader> reader_;
  };

  absl::Status damage() const {
    const MutexLock lock(mutex_);
    return damage_;
  }

  mutable Mutex mutex_;
  absl::Status damage_ ABSL_GUARDED_BY(mutex_);
  std::vector<int64_t> opened_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace icepie::slices

#endif  // ICEPIE_TESTS_SLICES_MEMORY_FEED_H_
