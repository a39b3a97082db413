#include "core/append/sequencer.h"

#include <pthread.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/append/commit_group.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"

namespace icepie {
namespace {

constexpr absl::Duration kMarkSyncInterval = absl::Seconds(1);
constexpr absl::Duration kDiskFullInterval = absl::Milliseconds(100);  // until space is looked for

absl::Status SyncFailed(const absl::Status& status) {
  return MakeError(absl::StatusCode::kUnavailable,
                   absl::StrCat("writing the records to disk failed (", status.message(),
                                "); outcome unknown: once the daemon has been restarted, send the "
                                "batch again with the same request_id or sequence, or compare the "
                                "stream's end offset"),
                   "LOG_SYNC_FAILED");
}

}  // namespace

Sequencer::Sequencer(const Parts& parts, int64_t queue_bytes_max, int64_t last_ingest_time_us)
    : parts_(parts),
      last_ingest_time_us_(last_ingest_time_us),
      mark_sync_time_(SteadyNow()),
      queue_(queue_bytes_max),
      thread_([this] { Run(); }) {
  pthread_setname_np(thread_.native_handle(), "sequencer");
}

Sequencer::~Sequencer() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.Signal();
  thread_.join();
}

absl::Status Sequencer::Submit(PreparedAppend& append) {
  ICEPIE_RETURN_IF_ERROR(parts_.guard->Check());
  // One with an identity may be a retry of what was stored while there was space.
  if (!append.internal && !append.identity) ICEPIE_RETURN_IF_ERROR(parts_.space->CheckAppend());
  {
    const MutexLock lock(mutex_);
    ICEPIE_RETURN_IF_ERROR(queue_.Add(append, SteadyNow()));
  }
  changed_.Signal();
  return absl::OkStatus();
}

std::vector<PreparedAppend> Sequencer::TakeGroup() {
  const MutexLock lock(mutex_);
  while (queue_.empty() && !stopping_) {
    const bool full = parts_.space->full();
    if (mark_is_synced_ && !full) {
      changed_.Wait(mutex_);
    } else if (!changed_.WaitFor(mutex_, full ? kDiskFullInterval : kMarkSyncInterval)) {
      return {};  // time to sync the mark, or to look for space
    }
  }
  return queue_.TakeGroup(SteadyNow());
}

void Sequencer::Run() {
  while (true) {
    std::vector<PreparedAppend> group = TakeGroup();
    const bool idle = group.empty();
    LookAtDisk();
    if (!idle) Commit(std::move(group));
    if (!mark_is_synced_ && (idle || SteadyNow() - mark_sync_time_ >= kMarkSyncInterval)) {
      SyncMark();
    }
    const MutexLock lock(mutex_);
    if (stopping_ && queue_.empty() && mark_is_synced_) return;
  }
}

void Sequencer::Commit(std::vector<PreparedAppend> appends) {
  last_ingest_time_us_ =
      std::max<int64_t>(last_ingest_time_us_, absl::GetCurrentTimeNanos() / 1000);
  CommitGroup group(parts_.head->position(), last_ingest_time_us_, parts_.tree, parts_.requests);
  // Queued before the core became read-only: the tree may have leaves of what was not written, so
  // nothing can be planned any more.
  const absl::Status writable = parts_.guard->Check();
  const absl::Status room = writable.ok() ? parts_.space->CheckAppend() : writable;
  const bool has_own = std::any_of(appends.begin(), appends.end(),
                                   [](const PreparedAppend& append) { return append.internal; });
  const absl::Status reserve = writable.ok() && has_own ? parts_.space->CheckReserve() : writable;
  int64_t bytes = 0;
  for (PreparedAppend& append : appends) {
    bytes += append.memory_bytes;
    const absl::Status& space = append.internal ? reserve : room;
    group.Add(std::move(append), space);
  }
  const absl::Status status = Store(group.TakeEntries(), group.end_position());
  if (status.ok()) {
    group.Publish();
    if (group.end_position() > parts_.head->position()) parts_.head->Advance(group.end_position());
  }
  {
    const MutexLock lock(mutex_);
    queue_.Committed(bytes);
  }
  group.Answer(status);
  Reached(WriteStep::kAnswered);
}

void Sequencer::Reached(WriteStep step) const {
  if (parts_.on_step) parts_.on_step(step);
}

void Sequencer::LookAtDisk() {
  if (!parts_.space->watched()) return;
  parts_.space->Update();
  parts_.store->LimitCompactions(parts_.space->room_bytes());
}

absl::Status Sequencer::Write(const std::vector<LogEntry>& entries) {
  const TileChanges tree = parts_.tree == nullptr ? TileChanges() : parts_.tree->TakeChanges();
  ICEPIE_ASSIGN_OR_RETURN(const std::vector<LogStore::CatalogChange> requests,
                          parts_.requests->TakeChanges());
  return parts_.store->Commit(entries, tree, requests);
}

absl::Status Sequencer::Store(const std::vector<LogEntry>& entries, int64_t end_position) {
  if (entries.empty()) return absl::OkStatus();
  Reached(WriteStep::kPlanned);
  if (const absl::Status status = Write(entries); !status.ok()) {
    // Never retried on the same file: after a failed sync the kernel may call lost pages clean.
    parts_.guard->Trip(absl::StrCat("writing records to disk failed (", status.message(), ")"));
    return SyncFailed(status);
  }
  Reached(WriteStep::kLogSynced);
  mark_is_synced_ = false;
  std::optional<Digest> root;
  if (parts_.tree != nullptr) root = parts_.tree->Root();
  if (const absl::Status status = parts_.mark->WriteRecords(end_position, root); !status.ok()) {
    // These records are safe; without the mark a later loss would go unnoticed.
    parts_.guard->Trip(
        absl::StrCat("the high-water mark cannot be written (", status.message(), ")"));
  }
  Reached(WriteStep::kMarked);
  return absl::OkStatus();
}

void Sequencer::SyncMark() {
  mark_is_synced_ = true;
  mark_sync_time_ = SteadyNow();
  if (const absl::Status status = parts_.mark->Sync(); !status.ok()) {
    parts_.guard->Trip(
        absl::StrCat("the high-water mark cannot be synced (", status.message(), ")"));
  }
}

}  // namespace icepie
