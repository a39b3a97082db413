// Which generation follows which track: the main one at the head, or one that catches up with it.
#include <algorithm>
#include <set>
#include <vector>

#include "absl/time/clock.h"
#include "core/base/steady_clock.h"
#include "slices/role/live_engine.h"

namespace icepie::slices {
namespace {

// Generations that stand further apart do not share a track.
constexpr int64_t kTrackSpread = 262144;

}  // namespace

TrackStreams LiveEngine::StreamsOf(const Held& held) {
  TrackStreams streams;
  streams.followed = held.generation->streams();
  // Recomputes read raw records again; here it is enough to know that there are new ones.
  if (held.generation->incremental()) streams.decoded = streams.followed;
  return streams;
}

Track* LiveEngine::AddTrack(const TrackStreams& streams, int64_t position) {
  tracks_.push_back(std::make_unique<Track>(feed_, streams, position, [this] { Wake(); }));
  return tracks_.back().get();
}

void LiveEngine::RemoveTrack(Track* track) {
  tracks_.erase(std::remove_if(tracks_.begin(), tracks_.end(),
                               [&](const auto& each) { return each.get() == track; }),
                tracks_.end());
}

// Puts every active generation without a track on one: on the main track when it stands there or
// further, else on one that starts where it stands.
void LiveEngine::PlaceOnTracks() {
  std::vector<Held*> waiting;
  for (auto& held : held_) {
    if (held->active() && held->track == nullptr && SteadyNow() >= held->next_retry) {
      waiting.push_back(held.get());
    }
  }
  if (main_ == nullptr) StartMainTrack(waiting);
  std::vector<Held*> behind;
  for (Held* held : waiting) {
    if (held->track != nullptr) continue;
    const int64_t position = held->generation->position();
    if (held->recompute() || held->over_slices()) {
      held->dirty = true;  // records may have passed while it was not looking
      JoinMain(*held);
    } else if (position > main_->position() + kTrackSpread) {
      LeadWith(*held);
    } else if (position >= main_->position()) {
      JoinMain(*held);
    } else {
      behind.push_back(held);
    }
  }
  if (behind.empty()) return;
  TrackStreams streams;
  int64_t from = INT64_MAX;
  for (Held* held : behind) {
    streams.Add(StreamsOf(*held));
    from = std::min(from, held->generation->position());
  }
  Track* track = AddTrack(streams, from);
  for (Held* held : behind) held->track = track;
}

// The first main track begins at the last of those that stand near the furthest one.
void LiveEngine::StartMainTrack(std::vector<Held*>& waiting) {
  int64_t furthest = 0;
  for (Held* held : waiting) furthest = std::max(furthest, held->generation->position());
  int64_t from = furthest;
  TrackStreams streams;
  std::vector<Held*> near;
  for (Held* held : waiting) {
    const int64_t position = held->generation->position();
    if (position + kTrackSpread < furthest) continue;
    near.push_back(held);
    streams.Add(StreamsOf(*held));
    from = std::min(from, position);
  }
  main_ = AddTrack(streams, from);
  for (Held* held : near) {
    held->track = main_;
    held->looks_from = from;
    // Everything from its position on will be seen, so only its upstream may have changed unseen.
    if (held->complete && held->upstream.empty()) held->dirty = false;
  }
}

// Follows the main track's streams and the generation's; a wider track takes the old one's place.
void LiveEngine::JoinMain(Held& held) {
  const TrackStreams wanted = StreamsOf(held);
  if (!main_->streams().Includes(wanted)) {
    TrackStreams streams = main_->streams();
    streams.Add(wanted);
    Track* old = main_;
    main_ = AddTrack(streams, old->position());
    for (auto& each : held_) {
      if (each->track == old) each->track = main_;
    }
    RemoveTrack(old);
  }
  held.track = main_;
  held.looks_from = main_->position();
}

// One that is far ahead does not wait for the main track: it leads a new one, and what was the main
// track follows until it has caught up.
void LiveEngine::LeadWith(Held& held) {
  TrackStreams streams = main_->streams();
  streams.Add(StreamsOf(held));
  main_ = AddTrack(streams, held.generation->position());
  held.track = main_;
  for (auto& each : held_) {
    const bool led = each->recompute() || each->over_slices();
    if (!led || each->track == nullptr) continue;
    each->track = main_;
    each->looks_from = main_->position();
    each->dirty = true;
  }
}

void LiveEngine::MergeTracks() {
  std::set<Track*> done;
  for (const auto& track : tracks_) {
    if (track.get() != main_ && track->position() >= main_->position()) done.insert(track.get());
  }
  std::set<Track*> used;
  for (auto& held : held_) {
    // A generation ahead of the main track passes over what it has already.
    if (held->track != nullptr && done.count(held->track) > 0) JoinMain(*held);
    used.insert(held->track);
  }
  for (size_t i = tracks_.size(); i-- > 0;) {
    Track* track = tracks_[i].get();
    if (track != main_ && used.count(track) == 0) RemoveTrack(track);
  }
}

void LiveEngine::NoteRecords(const RecordBatch& batch) {
  for (const auto& [stream, blocks] : batch.streams) {
    const std::set<std::string> one = {stream};
    int64_t& end = stream_end_[stream];
    end = std::max(end, batch.LastEnd(one, batch.begin, batch.end));
  }
  for (auto& held : held_) {
    if (!held->recompute() || held->track != main_ || held->in_run) continue;
    const auto first =
        batch.FirstIngestTime(held->generation->streams(), held->generation->position());
    if (first) held->behind_since = std::min(held->behind_since, absl::FromUnixMicros(*first));
  }
}

}  // namespace icepie::slices
