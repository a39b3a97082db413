// Fair time between the slices of a domain: one whose records take long does not hold up those that
// wait for the same batch, and those that are behind take turns.
#include <algorithm>

#include "absl/time/clock.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "core/base/thread_priority.h"
#include "slices/apply/slice_log.h"
#include "slices/role/live_engine.h"

namespace icepie::slices {
namespace {

// While something is behind, its batches are smaller so that those at the head need not wait long.
constexpr int64_t kBehindRecordsMax = 16384;
// All that are behind together, while records wait at the head.
constexpr absl::Duration kBehindTime = absl::Milliseconds(500);

}  // namespace

// One batch of each track that is behind, or as many as there is time for: the next turn goes on
// with the next one. True when more is waiting.
bool LiveEngine::ApplyBehind() {
  bool more = false;
  const absl::Time end = SteadyNow() + kBehindTime;
  const size_t count = tracks_.size();  // one that falls behind now has had its share
  for (size_t i = 0; i < count; ++i) {
    Track& track = *tracks_[(next_behind_ + i) % count];
    if (&track == main_) continue;
    const bool alone = main_ == nullptr || !main_->HasArrived();
    if (!alone && SteadyNow() >= end) {
      next_behind_ = (next_behind_ + i) % count;
      return true;
    }
    const int64_t most = alone ? kBatchRecordsMax : kBehindRecordsMax;
    more = ApplyTrack(track, RecordsAtOnce(track, most)) || more;
  }
  next_behind_ = 0;
  return more;
}

// As many as its slices apply in one transaction each.
int64_t LiveEngine::RecordsAtOnce(const Track& track, int64_t records_max) const {
  for (const auto& held : held_) {
    if (held->track == &track) records_max = std::min(records_max, held->at_once.records());
  }
  return records_max;
}

// Goes on along a track of its own where its share ends, unless nobody else waits. What is left of
// the batch is read again.
absl::Status LiveEngine::ApplyShare(Held& held, const RecordBatch& batch) {
  const absl::Time begin = SteadyNow();
  Generation& generation = *held.generation;
  while (generation.position() < batch.end) {
    const absl::Time from = SteadyNow();
    if (from - begin >= kShareOfBatch && MayFallBehind(held)) {
      FallBehind(held);
      return absl::OkStatus();
    }
    const absl::Duration had = ProcessorTime(ThisThread());
    const int64_t before = generation.progress().input;
    const int64_t most = std::min(held.at_once.records(), held.records_max);
    ICEPIE_RETURN_IF_ERROR(generation.ApplyPart(batch, most));
    held.at_once.Note(generation.progress().input - before, SteadyNow() - from);
    held.unsaved_work += ProcessorTime(ThisThread()) - had;
  }
  return absl::OkStatus();
}

// Not when nobody else waits, nor when somebody who reads it has to meet it and others at one
// position, which may never come.
bool LiveEngine::MayFallBehind(const Held& held) const {
  const bool alone = std::none_of(held_.begin(), held_.end(), [&](const auto& other) {
    return other.get() != &held && other->track != nullptr && other->active();
  });
  return !alone && ReadersFollow(held);
}

// Whether those that read it read nothing else, and so stand wherever it does.
bool LiveEngine::ReadersFollow(const Held& held) const {
  if (!held.spec.serving) return true;
  return std::all_of(held_.begin(), held_.end(), [&](const auto& reader) {
    if (reader->upstream.count(held.spec.slice) == 0) return true;
    return reader->over_slices() && !reader->rebuild && reader->upstream.size() == 1 &&
           reader->generation->streams().empty() && ReadersFollow(*reader);
  });
}

void LiveEngine::FallBehind(Held& held) {
  const int64_t position = held.generation->position();
  LogSlice(spdlog::level::debug, held.spec.slice, "goes on beside the others from position {}",
           position);
  held.track = AddTrack(StreamsOf(held), position);
}

}  // namespace icepie::slices
