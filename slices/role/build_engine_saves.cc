// What a build saves on its way, and where it goes on when its process has ended.
//
// Each generation that is built record by record is saved by itself: its state is a function of its
// position and of the records that are left out for the comparison. So the next process needs no
// word of how far the last one was. It takes of each the newest good state that is not beyond where
// it goes, and that has left out what is to be left out now: the base, and what that has in
// quarantine, may be others by then. A state beyond the base's position waits until the comparison
// is done.
#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "slices/apply/slice_log.h"
#include "slices/plan/sql_binding.h"
#include "slices/role/build_engine.h"

namespace icepie::slices {
namespace {

// A minute, unless the settings say otherwise. Most builds are done sooner and save nothing; of the
// others no more is lost with a process, except where saving itself takes seconds
// (EngineOptions::snapshot_share).
constexpr int kSnapshotIntervalsBetween = 6;

}  // namespace

// How far all are that follow records.
int64_t BuildEngine::Reached() const {
  int64_t reached = std::numeric_limits<int64_t>::max();
  for (const auto& generation : generations_) {
    if (FollowsRecords(*generation)) reached = std::min(reached, generation->position());
  }
  return reached;
}

void BuildEngine::PutOffSaving(absl::Duration last_took) {
  next_save_ = SteadyNow() + std::max(kSnapshotIntervalsBetween * options_.snapshot_interval,
                                      last_took / options_.snapshot_share);
}

// Between two batches. What fails here does not fail the build.
absl::Status BuildEngine::SaveOnTheWay() {
  const absl::Time begin = SteadyNow();
  if (continued_ || begin < next_save_) return absl::OkStatus();
  const SnapshotStore store = store_.OnTheWay(job_.slice, job_.number, stage_);
  const Interruptible saving(*this, [this] { store_.InterruptCopies(); });
  absl::Status status;
  for (const auto& generation : generations_) {
    if (!FollowsRecords(*generation)) continue;
    status = generation->WritePosition();
    if (!status.ok()) break;
    RemoveFurther(store, *generation);
    const ServedSlice& served = generation->served();
    status = store.Save(*instance_, generation->alias(), served.info(), served.result_rows_max())
                 .status();
    if (!status.ok()) break;
  }
  PutOffSaving(SteadyNow() - begin);
  if (absl::IsInternal(status)) return status;  // DuckDB is broken
  if (!status.ok() && !stopping()) {
    SliceWarn(job_.slice, "build of generation {} cannot be saved on its way: {}", job_.number,
              status.ToString());
  }
  return absl::OkStatus();
}

// States of another way, which this one could not take, would be taken for newer ones.
void BuildEngine::RemoveFurther(const SnapshotStore& store, const Generation& generation) {
  const GenerationInfo& info = generation.served().info();
  for (const std::string& path : store.List(info.slice, info.number)) {
    const auto manifest = store.ReadManifest(path);
    const bool further =
        absl::IsDataLoss(manifest.status()) ||
        (manifest.ok() && manifest->progress.applied_position > generation.position());
    if (further) store.Remove(path);
  }
}

// A process that ended while it read one of them would do so again, and a build is not started
// again many times: it begins anew. So it does where the machine stopped just then, which takes
// time and nothing else.
void BuildEngine::ForgetWhatEndedOne() const {
  bool ended = false;
  std::vector<std::pair<SnapshotStore, std::string>> all;
  for (const auto& generation : generations_) {
    const GenerationInfo& info = generation->served().info();
    for (const absl::string_view stage : {kToBase, kAgain, kToHead}) {
      const SnapshotStore store = store_.OnTheWay(job_.slice, job_.number, stage);
      for (const std::string& path : store.List(info.slice, info.number)) {
        ended = ended || !store.IsUsable(path, SnapshotUse::kRestore);
        all.emplace_back(store, path);
      }
    }
  }
  if (!ended) return;
  SliceWarn(job_.slice,
            "build of generation {}: a process ended while it read what had been saved on the way; "
            "begins anew",
            job_.number);
  for (const auto& [store, path] : all) store.Remove(path);
}

// Goes on from what an earlier process has saved, where that is further, up to `position`.
absl::Status BuildEngine::TakeSaved(int64_t position) {
  if (continued_) return absl::OkStatus();
  const int64_t before = Reached();
  bool any = false;
  for (auto& generation : generations_) {
    if (!FollowsRecords(*generation)) continue;
    ICEPIE_ASSIGN_OR_RETURN(auto saved, OpenSaved(*generation, position));
    if (saved == nullptr) continue;
    generation = std::move(saved);
    any = true;
  }
  if (!any) return absl::OkStatus();
  ICEPIE_RETURN_IF_ERROR(ConnectUpstream());
  {
    MutexLock lock(mutex_);
    report_.done_before += Reached() - before;
  }
  Progressed(Reached(), position);
  return absl::OkStatus();
}

// The newest first. What cannot be gone on from, now or later, is removed.
std::vector<BuildEngine::SavedState> BuildEngine::SavedBelow(const Generation& generation,
                                                             int64_t position) const {
  const GenerationInfo& wanted = generation.served().info();
  std::vector<SavedState> states;
  for (const absl::string_view stage : {kToBase, kAgain, kToHead}) {
    // These left out what is not left out now, or the other way round.
    if (stage == kToBase ? stage_ == kAgain : !held_.empty()) continue;
    const SnapshotStore store = store_.OnTheWay(job_.slice, job_.number, stage);
    for (const std::string& path : store.List(wanted.slice, wanted.number)) {
      auto manifest = store.ReadManifest(path);
      // It may be of use the next time.
      if (!manifest.ok() && !absl::IsDataLoss(manifest.status())) continue;
      if (!manifest.ok() || manifest->info.definition_hash != wanted.definition_hash ||
          manifest->info.layout != wanted.layout) {
        SliceWarn(job_.slice, "saved state {} is damaged or of another definition; passed over",
                  path);
        store.Remove(path);
        continue;
      }
      const int64_t at = manifest->progress.applied_position;
      if (at > generation.position() && at <= position) {
        states.push_back({store, *std::move(manifest)});
      }
    }
  }
  std::stable_sort(states.begin(), states.end(), [](const auto& a, const auto& b) {
    return a.manifest.progress.applied_position > b.manifest.progress.applied_position;
  });
  return states;
}

// Null: there is none that is further. What `generation` holds is kept until all of it is read:
// both are in memory together, and where that does not do, `generation` goes on from where it is.
absl::StatusOr<std::shared_ptr<Generation>> BuildEngine::OpenSaved(const Generation& generation,
                                                                   int64_t position) {
  for (const SavedState& saved : SavedBelow(generation, position)) {
    const std::string& path = saved.manifest.path;
    // On a full disk it cannot be noted; reading takes no room, and what is passed over would go.
    const absl::Status noted = saved.store.NoteTried(path);
    if (!noted.ok()) SliceWarn(job_.slice, "saved state {}: {}", path, noted.ToString());
    auto restored = Restore(generation, saved);
    saved.store.ForgetTried(path);
    if (stopping()) return absl::CancelledError("stopping");
    if (restored.ok()) {
      SliceInfo(job_.slice, "build of generation {}: {} goes on from position {}, saved before",
                job_.number, generation.plan().slice, (*restored)->position());
      return restored;
    }
    // Whichever statement DuckDB breaks over, the next process would meet it again.
    const absl::Status why = SnapshotError(restored.status());
    SliceWarn(job_.slice, "saved state {}: {}; passed over", path, why.ToString());
    // Any other may be of use after the comparison, or when there is memory for it.
    const bool unusable =
        absl::IsDataLoss(why) || absl::IsFailedPrecondition(why) || IsUnusableSnapshot(why);
    if (unusable) saved.store.Remove(path);
    if (absl::IsInternal(why)) return restored;  // DuckDB is broken
  }
  return nullptr;
}

absl::StatusOr<std::shared_ptr<Generation>> BuildEngine::Restore(const Generation& generation,
                                                                 const SavedState& saved) {
  ICEPIE_ASSIGN_OR_RETURN(const SnapshotLink file, saved.store.Link(saved.manifest));
  ICEPIE_RETURN_IF_ERROR(
      saved.store.CheckDigest(file.path(), saved.manifest, absl::InfiniteFuture(), given_up()));
  ICEPIE_RETURN_IF_ERROR(CheckLeftOut(file.path(), saved.manifest));
  const GenerationInfo& info = generation.served().info();
  ICEPIE_ASSIGN_OR_RETURN(
      std::shared_ptr<Generation> restored,
      Generation::Open(*instance_, generation.domain_plan(), info.slice, info.number, file.path(),
                       info.definition_hash, [this](DuckConnection& connection) {
                         return std::make_shared<Interruptible>(
                             *this, [&connection] { connection.Interrupt(); });
                       }));
  ICEPIE_RETURN_IF_ERROR(Equip(*restored));
  return restored;
}

// Whether the records that are in its quarantine untried are those that now belong there.
absl::Status BuildEngine::CheckLeftOut(const std::string& file,
                                       const SnapshotManifest& manifest) const {
  const std::string& slice = manifest.info.slice;
  std::vector<std::pair<int64_t, std::string>> expected;
  const auto expect = [&](int64_t position, const char* code) {
    if (position < manifest.progress.applied_position) expected.emplace_back(position, code);
  };
  const auto held = held_.find(slice);
  if (held != held_.end()) {
    for (const int64_t position : held->second) expect(position, "HELD_BACK");
  }
  if (slice == job_.slice) {
    for (const int64_t position : deadly_) expect(position, "WORKER_KILLED");
  }
  std::sort(expected.begin(), expected.end());
  ICEPIE_ASSIGN_OR_RETURN(const auto saved, OpenSnapshot(*instance_, file, manifest));
  ICEPIE_ASSIGN_OR_RETURN(const auto connection, DuckConnection::Connect(*instance_));
  ICEPIE_ASSIGN_OR_RETURN(
      const auto rows,
      connection->QueryCells(absl::StrCat(
          "SELECT DISTINCT position, code FROM ", QuoteIdentifier(saved->storage()->alias()),
          ".main.__quarantine WHERE code IN ('HELD_BACK', 'WORKER_KILLED') ORDER BY position")));
  std::vector<std::pair<int64_t, std::string>> found;
  for (const CellRow& row : rows) {
    found.emplace_back(std::get<int64_t>(row.at(0)), std::get<std::string>(row.at(1)));
  }
  return found == expected
             ? absl::OkStatus()
             : absl::AbortedError("it has left out other records than are left out now");
}

}  // namespace icepie::slices
