#include "core/append_queue.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"

namespace icepie {
namespace {

// A part of the queue for lines that have less than that.
constexpr int kReserveShare = 8;
constexpr int64_t kTurnBytes = int64_t{64} << 10;
// A line that was used so lately is reckoned with.
constexpr absl::Duration kUseRemembered = absl::Seconds(1);
constexpr int64_t kQueueFullRetryMs = 200;

// Where it waits. A chain goes where it began, so that it is not overtaken by itself.
const Stream* LineOf(const PreparedAppend& append) {
  const Stream* stream = append.runs.empty() ? nullptr : append.runs.front().stream;
  if (append.chain == nullptr) return stream;
  const Stream* none = nullptr;
  return append.chain->line.compare_exchange_strong(none, stream) ? stream : none;
}

absl::Status QueueFull(size_t appends, int64_t bytes) {
  return MakeError(absl::StatusCode::kResourceExhausted,
                   absl::StrCat(appends, " appends of ", bytes,
                                " bytes are waiting for the disk; send the batch again later"),
                   ErrorDetail{"APPEND_QUEUE_FULL", {}, {}, kQueueFullRetryMs});
}

}  // namespace

void AppendQueue::NoteUse(Key key, absl::Time now) {
  if (last_use_[0].key != key) std::swap(last_use_[0], last_use_[1]);
  last_use_[0] = {key, now};
}

bool AppendQueue::Shared(absl::Time now) const {
  return now - last_use_[0].time < kUseRemembered && now - last_use_[1].time < kUseRemembered;
}

bool AppendQueue::HasRoom(Key key, const PreparedAppend& append) const {
  if (append.internal) return true;  // the daemon's own are few
  const auto found = lines_.find(key);
  const int64_t line_bytes = found == lines_.end() ? 0 : found->second.bytes;
  const size_t line_count = found == lines_.end() ? 0 : found->second.appends.size();
  const bool small = line_bytes < bytes_max_ / kReserveShare;
  const int64_t bytes_max = small ? bytes_max_ : bytes_max_ - bytes_max_ / kReserveShare;
  const bool few = line_count < kAppendsMax / kReserveShare;
  const size_t count_max = few ? kAppendsMax + kAppendsMax / kReserveShare : kAppendsMax;
  // One append may be larger than the whole queue.
  return (bytes_ == 0 || bytes_ + append.memory_bytes <= bytes_max) && count_ < count_max;
}

absl::Status AppendQueue::Add(PreparedAppend& append, absl::Time now) {
  const Key key = LineOf(append);
  if (!HasRoom(key, append)) return QueueFull(count_, bytes_);
  NoteUse(key, now);
  Line& line = lines_[key];
  if (line.appends.empty()) turns_.push_back(key);
  bytes_ += append.memory_bytes;
  line.bytes += append.memory_bytes;
  line.appends.push_back(std::move(append));
  ++count_;
  return absl::OkStatus();
}

void AppendQueue::TakeTurn(int64_t group_bytes_max, std::vector<PreparedAppend>& group,
                           int64_t& group_bytes) {
  const Key key = turns_.front();
  turns_.pop_front();
  Line& line = lines_[key];
  line.credit += kTurnBytes;
  while (!line.appends.empty() && line.appends.front().memory_bytes <= line.credit &&
         group.size() < kGroupAppendsMax && group_bytes < group_bytes_max) {
    PreparedAppend& next = line.appends.front();
    line.credit -= next.memory_bytes;
    line.bytes -= next.memory_bytes;
    group_bytes += next.memory_bytes;
    group.push_back(std::move(next));
    line.appends.pop_front();
    --count_;
  }
  if (line.appends.empty()) {
    lines_.erase(key);
  } else {
    turns_.push_back(key);
  }
}

std::vector<PreparedAppend> AppendQueue::TakeGroup(absl::Time now) {
  std::vector<PreparedAppend> group;
  const int64_t bytes_max = Shared(now) ? kSharedGroupBytesMax : kGroupBytesMax;
  int64_t bytes = 0;
  while (!turns_.empty() && group.size() < kGroupAppendsMax && bytes < bytes_max) {
    TakeTurn(bytes_max, group, bytes);
  }
  return group;
}

}  // namespace icepie
