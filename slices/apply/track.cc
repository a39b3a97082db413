#include "slices/apply/track.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "core/base/steady_clock.h"
#include "core/base/thread_priority.h"
#include "spdlog/spdlog.h"

namespace icepie::slices {
namespace {

// Two batches of records ahead of the apply thread.
constexpr int64_t kQueuedRecordsMax = 131072;

}  // namespace

bool TrackStreams::Includes(const TrackStreams& other) const {
  return std::includes(followed.begin(), followed.end(), other.followed.begin(),
                       other.followed.end()) &&
         std::includes(decoded.begin(), decoded.end(), other.decoded.begin(), other.decoded.end());
}

void TrackStreams::Add(const TrackStreams& other) {
  followed.insert(other.followed.begin(), other.followed.end());
  decoded.insert(other.decoded.begin(), other.decoded.end());
}

Track::Track(Feed& feed, TrackStreams streams, int64_t position, std::function<void()> on_arrival)
    : feed_(feed),
      streams_(std::move(streams)),
      on_arrival_(std::move(on_arrival)),
      position_(position),
      read_position_(position),
      thread_([this] { Loop(); }) {}

Track::~Track() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    if (reader_ != nullptr) reader_->Cancel();
  }
  changed_.SignalAll();
  thread_.join();
}

std::optional<RecordBatch> Track::Take(int64_t records_max) {
  std::optional<RecordBatch> taken;
  {
    MutexLock lock(mutex_);
    int64_t records = 0;
    while (!queue_.empty()) {
      const int64_t next = queue_.front().RecordCount();
      if (taken && records + next > records_max) break;
      records += next;
      if (taken) {
        taken->Append(queue_.front());
      } else {
        taken = std::move(queue_.front());
      }
      queue_.pop_front();
    }
    queued_records_ -= records;
  }
  changed_.SignalAll();
  if (taken) {
    position_ = taken->end;
    taken->decoded = DecodeSharing::NextBatch(sharing_);
  }
  return taken;
}

bool Track::HasArrived() const {
  MutexLock lock(mutex_);
  return !queue_.empty();
}

std::optional<int64_t> Track::first_head() const {
  MutexLock lock(mutex_);
  return first_head_;
}

int64_t Track::head() const {
  MutexLock lock(mutex_);
  return head_;
}

Track::Damage Track::damage() const {
  MutexLock lock(mutex_);
  return damage_;
}

absl::Time Track::OldestWaiting(const std::set<std::string>& streams, int64_t from) const {
  MutexLock lock(mutex_);
  for (const RecordBatch& batch : queue_) {
    const std::optional<int64_t> oldest = batch.FirstIngestTime(streams, from);
    if (oldest) return absl::FromUnixMicros(*oldest);
  }
  return absl::InfiniteFuture();
}

bool Track::Push(RecordBatch batch, int64_t head) {
  {
    MutexLock lock(mutex_);
    while (queued_records_ >= kQueuedRecordsMax && !stopping_) changed_.Wait(mutex_);
    if (stopping_) return false;
    if (!first_head_) first_head_ = head;
    head_ = std::max(head_, head);
    damage_ = {};
    read_position_ = batch.end;
    queued_records_ += batch.RecordCount();
    // News of the head alone adds to what waits already.
    if (!queue_.empty() && batch.streams.empty()) {
      queue_.back().Append(batch);
    } else {
      queue_.push_back(std::move(batch));
    }
  }
  on_arrival_();
  return true;
}

absl::Status Track::Follow(FeedReader& reader) {
  int64_t from = 0;
  {
    MutexLock lock(mutex_);
    from = read_position_;
  }
  BatchDecoder decoder(from, streams_.decoded);
  while (true) {
    absl::StatusOr<std::optional<FeedPiece>> piece = reader.Next();
    if (piece.ok() && !piece->has_value()) return absl::OkStatus();
    absl::StatusOr<RecordBatch> batch = piece.ok() ? decoder.Decode(**piece) : piece.status();
    if (!batch.ok()) return batch.status();
    if (!Push(std::move(*batch), (*piece)->head_position)) return absl::OkStatus();
  }
}

void Track::Failed(const absl::Status& status, absl::Duration retry_delay) {
  {
    MutexLock lock(mutex_);
    if (stopping_) return;
    spdlog::warn("tail from {}: {}", read_position_, status.ToString());
    if (!absl::IsDataLoss(status)) return;
    const absl::Time now = absl::Now();
    damage_ = {status, now, now + retry_delay};
  }
  on_arrival_();
}

void Track::WaitBeforeRetry(absl::Duration delay) {
  const absl::Time until = SteadyNow() + delay;
  MutexLock lock(mutex_);
  while (!stopping_ && SteadyNow() < until) changed_.WaitFor(mutex_, until - SteadyNow());
}

void Track::Loop() {
  AskForNormalSlices();
  const std::vector<std::string> streams(streams_.followed.begin(), streams_.followed.end());
  for (int failures = 0;; ++failures) {
    int64_t from = 0;
    {
      MutexLock lock(mutex_);
      if (stopping_) return;
      from = read_position_;
    }
    const std::unique_ptr<FeedReader> reader = feed_.Open(streams, from, std::nullopt);
    {
      MutexLock lock(mutex_);
      if (stopping_) return;
      reader_ = reader.get();
    }
    const absl::Status followed = Follow(*reader);
    {
      MutexLock lock(mutex_);
      reader_ = nullptr;
      if (read_position_ > from) failures = 0;
    }
    const absl::Duration delay =
        std::min(absl::Seconds(2), absl::Milliseconds(50) * (1 << std::min(failures, 6)));
    if (!followed.ok()) Failed(followed, delay);
    WaitBeforeRetry(delay);
  }
}

}  // namespace icepie::slices
