#include "core/append/append_queue.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"

namespace icepie {
namespace {

// A stream that was used so lately is reckoned with.
constexpr absl::Duration kUseRemembered = absl::Seconds(1);
constexpr int64_t kQueueFullRetryMs = 200;

// Where it waits. A chain goes where it began, so that it is not overtaken by itself.
LinePlace PlaceOf(const PreparedAppend& append) {
  const Stream* stream = append.runs.empty() ? nullptr : append.runs.front().stream;
  const Stream* none = nullptr;
  if (append.chain != nullptr && !append.chain->line.compare_exchange_strong(none, stream)) {
    stream = none;
  }
  return {append.peer, reinterpret_cast<uintptr_t>(stream)};
}

absl::Status QueueFull(size_t appends, int64_t bytes) {
  return MakeError(absl::StatusCode::kResourceExhausted,
                   absl::StrCat(appends, " appends of ", bytes,
                                " bytes are waiting for the disk; send the batch again later"),
                   ErrorDetail{"APPEND_QUEUE_FULL", {}, {}, kQueueFullRetryMs});
}

}  // namespace

void AppendQueue::NoteUse(uint64_t stream, absl::Time now) {
  if (last_use_[0].stream != stream) std::swap(last_use_[0], last_use_[1]);
  last_use_[0] = {stream, now};
}

bool AppendQueue::Shared(absl::Time now) const {
  return now - last_use_[0].time < kUseRemembered && now - last_use_[1].time < kUseRemembered;
}

bool AppendQueue::HasRoom(const LinePlace& at, const PreparedAppend& append) const {
  if (append.internal) return true;  // the daemon's own are few
  using Waiting = FairLines<PreparedAppend>::Waiting;
  const int64_t bytes_max = lines_.RoomAt(at, bytes_max_, &Waiting::bytes);
  const size_t count_max = lines_.RoomAt(at, kAppendsMax, &Waiting::count);
  // One append may be larger than the whole queue.
  return (bytes_ == 0 || bytes_ + append.memory_bytes <= bytes_max) && lines_.count() < count_max;
}

absl::Status AppendQueue::Add(PreparedAppend& append, absl::Time now) {
  const LinePlace at = PlaceOf(append);
  if (!HasRoom(at, append)) return QueueFull(lines_.count(), bytes_);
  NoteUse(at.place, now);
  const int64_t bytes = append.memory_bytes;
  bytes_ += bytes;
  lines_.Add(at, bytes, std::move(append));
  return absl::OkStatus();
}

std::vector<PreparedAppend> AppendQueue::TakeGroup(absl::Time now) {
  std::vector<PreparedAppend> group;
  const int64_t bytes_max = Shared(now) ? kSharedGroupBytesMax : kGroupBytesMax;
  int64_t bytes = 0;
  while (!lines_.empty() && group.size() < kGroupAppendsMax && bytes < bytes_max) {
    group.push_back(lines_.Take());
    bytes += group.back().memory_bytes;
  }
  return group;
}

}  // namespace icepie
