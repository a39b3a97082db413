#include "core/segment/sealer.h"

#include <pthread.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "core/base/thread_priority.h"
#include "core/read/block_reader.h"

namespace icepie {
namespace {

constexpr int64_t kCopyBytes = int64_t{1} << 20;
// After a failure: the disk may be full for a while.
constexpr absl::Duration kRetryDelay = absl::Seconds(10);
// A segment takes space before it frees any, and so do RocksDB's compactions that drop what is
// sealed: up to four tables of 64 MiB, beside their log. On a disk that is nearly full nothing is
// sealed.
constexpr int64_t kRoomBytesMin = int64_t{448} << 20;
// So many segments behind, sealing no longer rests between its pieces.
constexpr int64_t kBacklogSegments = 8;

}  // namespace

Sealer::Sealer(const Parts& parts, SealingOptions options)
    : parts_(parts),
      options_(std::move(options)),
      counted_position_(parts.segments->sealed_position()),
      thread_([this] { Run(); }) {
  pthread_setname_np(thread_.native_handle(), "sealer");
}

Sealer::~Sealer() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.Signal();
  thread_.join();
}

bool Sealer::stopping() const {
  const MutexLock lock(mutex_);
  return stopping_;
}

bool Sealer::WaitFor(absl::Duration time) {
  const absl::Time until = SteadyNow() + time;
  const MutexLock lock(mutex_);
  while (!stopping_ && SteadyNow() < until) changed_.WaitFor(mutex_, until - SteadyNow());
  return !stopping_;
}

void Sealer::Run() {
  if (!BeLast()) spdlog::debug("core: sealing runs at normal priority");
  while (WaitFor(options_.look_interval)) {
    absl::Status status = CountHot();
    while (status.ok() && Due() && !stopping()) status = Seal();
    if (status.ok() || stopping()) continue;
    spdlog::warn("core: sealing from position {} failed and will be tried again: {}",
                 parts_.segments->sealed_position(), status.ToString());
    if (!WaitFor(options_.retry_delay.value_or(kRetryDelay))) return;
  }
}

absl::Status Sealer::CountHot() {
  const absl::Time now = SteadyNow();
  samples_.push_back({now, parts_.head->position()});
  while (!samples_.empty() && samples_.front().time <= now - options_.age_min) {
    aged_position_ = samples_.front().head;
    samples_.pop_front();
  }
  if (aged_position_ <= counted_position_) return absl::OkStatus();
  return parts_.store->VisitPlaces(counted_position_, aged_position_, [&](const BlockPlace& place) {
    hot_bytes_ += place.stored_bytes;
    counted_position_ = place.end_position();
    return true;
  });
}

bool Sealer::Due() const {
  return parts_.guard->Check().ok() && HasRoom() &&
         hot_bytes_ >= options_.hot_bytes_min + options_.segment_bytes;
}

bool Sealer::HasRoom() const {
  if (!parts_.space->watched()) return true;
  parts_.space->Update();
  return !parts_.space->full() &&
         parts_.space->room_bytes() >= kRoomBytesMin + 2 * options_.segment_bytes;
}

absl::Status Sealer::Reached(SealStep step) const {
  return options_.on_step ? options_.on_step(step) : absl::OkStatus();
}

// What is appended in small pieces packs so well that its segments would stay small for ever: a
// small last one is taken into the next, unless it has so many blocks that there is no room for
// others, or cannot be read.
int64_t Sealer::FirstPosition() const {
  const int64_t sealed = parts_.segments->sealed_position();
  if (sealed == 0 || !options_.grows_segments) return sealed;
  const std::shared_ptr<const SegmentEntry> last = parts_.segments->List(sealed - 1).front();
  if (last->file_bytes >= options_.segment_bytes / 2) return sealed;
  const auto reader = parts_.segments->Open(sealed - 1);
  if (!reader.ok() || (*reader)->blocks().size() > kSegmentBlocksMax / 4) return sealed;
  for (const SegmentBlock& block : (*reader)->blocks()) {
    if (!(*reader)->ReadBlock(block).ok()) return sealed;
  }
  return last->first_position;
}

absl::Status Sealer::Seal() {
  const int64_t first = FirstPosition();
  const std::string temporary =
      absl::StrCat(parts_.segments->directory(), "/", first, ".temporary");
  ICEPIE_RETURN_IF_ERROR(Reached(SealStep::kBegin));
  ::unlink(temporary.c_str());
  ICEPIE_ASSIGN_OR_RETURN(const auto writer, SegmentWriter::Create(temporary, first));
  ICEPIE_RETURN_IF_ERROR(Fill(*writer));
  ICEPIE_RETURN_IF_ERROR(Reached(SealStep::kFilled));
  ICEPIE_ASSIGN_OR_RETURN(const SegmentFooter footer, writer->Finish());
  SegmentEntry entry;
  entry.first_position = footer.first_position;
  entry.end_position = footer.end_position;
  entry.file_bytes = writer->bytes();
  entry.checksum = footer.checksum;
  entry.last_ingest_time_us = footer.last_ingest_time_us;
  for (const SegmentStream& stream : writer->streams()) {
    entry.stream_ends.emplace_back(stream.id, stream.end_offset());
  }
  if (absl::Status status = Publish(entry, temporary); !status.ok()) {
    ::unlink(temporary.c_str());
    ::unlink(absl::StrCat(parts_.segments->directory(), "/", entry.file_name()).c_str());
    return status;
  }
  return Register(entry, writer->streams());
}

// Copies blocks until the segment is large enough.
absl::Status Sealer::Fill(SegmentWriter& writer) {
  int64_t taken_bytes = 0;
  while (taken_bytes < options_.segment_bytes && writer.end_position() < counted_position_ &&
         !writer.full()) {
    const absl::Time begin = SteadyNow();
    ICEPIE_ASSIGN_OR_RETURN(
        const BlockRange piece,
        ReadBlockRange({parts_.store, parts_.segments, parts_.streams}, parts_.head->position(),
                       {{},
                        writer.end_position(),
                        counted_position_,
                        std::min(kCopyBytes, options_.segment_bytes - taken_bytes)}));
    for (const StoredBlock& block : piece.blocks) {
      if (writer.full()) break;
      ICEPIE_RETURN_IF_ERROR(writer.Add(block.stream, block.data));
      taken_bytes += static_cast<int64_t>(block.data.size());
    }
    Pause(SteadyNow() - begin);
    if (stopping()) return absl::CancelledError("stopping");
  }
  return absl::OkStatus();
}

// Half the time at most, so that the disk has room for appends.
void Sealer::Pause(absl::Duration worked) {
  if (hot_bytes_ > options_.hot_bytes_min + kBacklogSegments * options_.segment_bytes) return;
  WaitFor(worked);
}

absl::Status Sealer::Publish(const SegmentEntry& entry, const std::string& temporary) {
  const std::string path = absl::StrCat(parts_.segments->directory(), "/", entry.file_name());
  ICEPIE_RETURN_IF_ERROR(Reached(SealStep::kSynced));
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    return ErrnoError(errno, absl::StrCat("rename ", temporary, " to ", path));
  }
  ICEPIE_RETURN_IF_ERROR(Reached(SealStep::kRenamed));
  ICEPIE_RETURN_IF_ERROR(SyncDirectory(parts_.segments->directory()));
  ICEPIE_RETURN_IF_ERROR(Reached(SealStep::kDirectorySynced));
  return parts_.guard->Check();
}

// Readers find the segment before the hot copy goes, so there is no moment without either. A
// segment that is taken into this one has its catalog entry overwritten by the same write, and its
// file goes after that.
absl::Status Sealer::Register(const SegmentEntry& entry,
                              const std::vector<SegmentStream>& streams) {
  LogStore::SealedRange sealed;
  sealed.registration = RegistrationOf(entry);
  sealed.first_position = parts_.segments->sealed_position();
  sealed.end_position = entry.end_position;
  for (const SegmentStream& stream : streams) {
    const int64_t first =
        std::max(stream.first_offset, parts_.segments->SealedEndOffset(stream.id));
    if (first < stream.end_offset()) {
      sealed.streams.push_back({stream.id, first, stream.end_offset()});
    }
  }
  int64_t dropped_bytes = 0;
  ICEPIE_RETURN_IF_ERROR(parts_.store->VisitPlaces(sealed.first_position, sealed.end_position,
                                                   [&](const BlockPlace& place) {
                                                     dropped_bytes += place.stored_bytes;
                                                     return true;
                                                   }));
  parts_.segments->Add(entry);
  if (absl::Status status = parts_.store->DropSealed(sealed); !status.ok()) {
    parts_.guard->Trip(absl::StrCat("registering a segment failed (", status.message(), ")"));
    return status;
  }
  parts_.segments->RemoveReplaced();
  hot_bytes_ -= dropped_bytes;
  spdlog::info("core: sealed positions {} to {}: {} bytes of the log are in the segment {}",
               sealed.first_position, sealed.end_position, dropped_bytes, entry.file_name());
  return Reached(SealStep::kRegistered);
}

}  // namespace icepie
