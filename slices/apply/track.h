// One tail of the core: a thread reads and decodes ahead into a bounded queue, from which the apply
// thread takes batches. Generations that stand at about the same position share a track.
#ifndef ICEPIE_SLICES_APPLY_TRACK_H_
#define ICEPIE_SLICES_APPLY_TRACK_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "slices/apply/feed.h"
#include "slices/apply/record_batch.h"

namespace icepie::slices {

// Which streams a track follows, and of which it needs the records and not only their positions.
struct TrackStreams {
  std::set<std::string> followed;
  std::set<std::string> decoded;  // part of `followed`

  bool Includes(const TrackStreams& other) const;
  void Add(const TrackStreams& other);
};

// Threads: the public methods any; Take() one.
class Track {
 public:
  // Follows from `position`. `on_arrival` is called from the track's thread and must not block.
  Track(Feed& feed, TrackStreams streams, int64_t position, std::function<void()> on_arrival);
  ~Track();
  Track(const Track&) = delete;
  Track& operator=(const Track&) = delete;

  const TrackStreams& streams() const { return streams_; }

  // What has arrived, at most about `records_max` records; nullopt: nothing.
  std::optional<RecordBatch> Take(int64_t records_max);
  bool HasArrived() const;

  // End of what has been taken.
  int64_t position() const { return position_; }
  // The head as heard first, which a backfill has to reach; nullopt: nothing heard yet.
  std::optional<int64_t> first_head() const;
  int64_t head() const;
  // DATA_LOSS while the records that come next cannot be read; it is tried again and again.
  struct Damage {
    absl::Status status;
    absl::Time time;  // of the last try
    absl::Time next_try;
  };
  Damage damage() const;
  // Ingest time of the oldest record of `streams` at or after `from` in the queue; InfiniteFuture
  // when none waits.
  absl::Time OldestWaiting(const std::set<std::string>& streams, int64_t from) const;

 private:
  void Loop();
  absl::Status Follow(FeedReader& reader);
  void Failed(const absl::Status& status, absl::Duration retry_delay);
  bool Push(RecordBatch batch, int64_t head);
  void WaitBeforeRetry(absl::Duration delay);

  Feed& feed_;
  const TrackStreams streams_;
  const std::function<void()> on_arrival_;
  int64_t position_;
  const std::shared_ptr<DecodeSharing> sharing_ = DecodeSharing::Create();
  mutable Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  FeedReader* reader_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::deque<RecordBatch> queue_ ABSL_GUARDED_BY(mutex_);
  int64_t queued_records_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t read_position_ ABSL_GUARDED_BY(mutex_);
  std::optional<int64_t> first_head_ ABSL_GUARDED_BY(mutex_);
  int64_t head_ ABSL_GUARDED_BY(mutex_) = 0;
  Damage damage_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_APPLY_TRACK_H_
