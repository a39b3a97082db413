#include "server/record/stream_ends.h"

#include <algorithm>
#include <cstddef>

#include "core/base/steady_clock.h"
#include "core/block/block.h"

namespace icepie::server {
namespace {

constexpr absl::Duration kNoteInterval = absl::Milliseconds(250);
constexpr size_t kSeenMax = 64;
constexpr size_t kOldestMax = 256;
constexpr absl::Duration kReadAgain = absl::Seconds(5);

}  // namespace

bool StreamEnds::HasBeyond(const std::string& stream, int64_t position) {
  const auto info = core_.GetStream(stream);
  if (!info.ok() || info->end_offset == 0) return false;
  {
    const MutexLock lock(mutex_);
    const End& known = ends_[stream];
    // Streams only grow.
    if (known.position > position) return true;
    if (known.offset == info->end_offset) return false;
  }
  const auto last = core_.PositionOf(stream, info->end_offset - 1);
  if (!last.ok()) return true;
  const MutexLock lock(mutex_);
  End& known = ends_[stream];
  if (info->end_offset > known.offset) {
    known.offset = info->end_offset;
    known.position = *last + 1;
  }
  return *last >= position;
}

absl::Duration StreamEnds::BeyondFor(const std::string& stream, int64_t position) {
  const absl::Time now = SteadyNow();
  bool due = false;
  {
    const MutexLock lock(mutex_);
    const std::vector<Seen>& seen = ends_[stream].seen;
    due = seen.empty() || now - seen.back().time >= kNoteInterval;
  }
  if (due) HasBeyond(stream, INT64_MAX - 1);  // learns where it ends
  const MutexLock lock(mutex_);
  End& end = ends_[stream];
  if (due) Note(end, now);
  const auto first = std::partition_point(end.seen.begin(), end.seen.end(), [&](const Seen& seen) {
    return seen.position <= position;
  });
  return first == end.seen.end() ? absl::ZeroDuration() : now - first->time;
}

absl::Time StreamEnds::OldestBeyond(const std::string& stream, int64_t position) {
  if (!HasBeyond(stream, position)) return absl::InfiniteFuture();
  {
    const MutexLock lock(mutex_);
    const auto& oldest = ends_[stream].oldest;
    const auto known = oldest.find(position);
    const bool found = known != oldest.end();
    if (found && (known->second.time < absl::InfiniteFuture() || SteadyNow() < known->second.again))
      return known->second.time;
  }
  const absl::Time time = ReadOldest(stream, position);
  const MutexLock lock(mutex_);
  auto& oldest = ends_[stream].oldest;
  // What stands at the lowest position has most likely gone on.
  if (oldest.size() >= kOldestMax) oldest.erase(oldest.begin());
  oldest[position] = {time, SteadyNow() + kReadAgain};
  return time;
}

absl::Time StreamEnds::ReadOldest(const std::string& stream, int64_t position) const {
  const auto range = core_.ReadBlocks({stream}, position, core_.head_position(), 1);
  if (!range.ok() || range->blocks.empty()) return absl::InfiniteFuture();
  const std::string& data = range->blocks.front().data;
  const auto header = CheckBlock(data);
  if (!header.ok()) return absl::InfiniteFuture();
  if (header->first_position >= position) return absl::FromUnixMicros(header->ingest_time_us);
  // It may be of several commits.
  const auto block = DecodedBlock::Decode(data, 0);
  const auto index = static_cast<size_t>(position - header->first_position);
  if (!block.ok() || index >= block->records().size()) return absl::InfiniteFuture();
  return absl::FromUnixMicros(block->records()[index].ingest_time_us);
}

// Of an end that has not moved the first look alone counts.
void StreamEnds::Note(End& end, absl::Time now) {
  std::vector<Seen>& seen = end.seen;
  if (!seen.empty() && (seen.back().position >= end.position || seen.back().time > now)) return;
  if (seen.size() >= kSeenMax) {
    // Every other one of the older half goes.
    for (size_t i = 0; i < kSeenMax / 4; ++i) seen.erase(seen.begin() + static_cast<ptrdiff_t>(i));
  }
  seen.push_back({now, end.position});
}

}  // namespace icepie::server
