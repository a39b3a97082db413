#include "slices/snapshot/past_snapshots.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "slices/apply/slice_log.h"
#include "slices/definition/definition_values.h"
#include "slices/role/engine.h"

namespace icepie::slices {
namespace {

constexpr absl::Duration kIdleMax = absl::Seconds(30);

bool IsWithin(const SnapshotManifest& manifest, const AsOf& as_of) {
  if (as_of.position) return manifest.progress.applied_position <= *as_of.position;
  return absl::FromUnixMicros(manifest.time_us) <= *as_of.time;
}

std::string Shown(const AsOf& as_of) {
  return as_of.position ? absl::StrCat("position ", *as_of.position)
                        : absl::FormatTime(*as_of.time, absl::UTCTimeZone());
}

}  // namespace

// Newest state first.
std::vector<SnapshotManifest> PastSnapshots::Candidates(const GenerationInfo& serving) const {
  std::vector<std::string> paths = store_.List(serving.slice, serving.number);
  const std::vector<std::string> named = named_.List(serving.slice);
  paths.insert(paths.end(), named.begin(), named.end());
  std::vector<SnapshotManifest> manifests;
  for (const std::string& path : paths) {
    auto manifest = store_.ReadManifest(path);
    // One that was cleaned up since, or of another generation.
    if (!manifest.ok() || manifest->info.number != serving.number) continue;
    if (!store_.IsUsable(path, SnapshotUse::kServe)) continue;
    manifests.push_back(*std::move(manifest));
  }
  std::stable_sort(manifests.begin(), manifests.end(), [](const auto& a, const auto& b) {
    return std::pair(a.progress.applied_position, a.time_us) >
           std::pair(b.progress.applied_position, b.time_us);
  });
  return manifests;
}

absl::Status PastSnapshots::NotKept(const GenerationInfo& serving, const AsOf& as_of,
                                    const std::vector<SnapshotManifest>& candidates) const {
  ErrorDetail detail;
  detail.reason = "AS_OF_EXPIRED";
  detail.metadata = {{"slice", serving.slice}};
  std::string oldest = "it has none yet";
  if (!candidates.empty()) {
    const SnapshotManifest& last = candidates.back();
    const std::string time =
        absl::FormatTime(absl::FromUnixMicros(last.time_us), absl::UTCTimeZone());
    detail.metadata["oldest_position"] = absl::StrCat(last.progress.applied_position);
    detail.metadata["oldest_time"] = time;
    oldest = absl::StrCat("the oldest kept stands at position ", last.progress.applied_position,
                          ", made ", time);
  }
  return MakeError(
      absl::StatusCode::kOutOfRange,
      absl::StrCat("slice ", serving.slice, " has no snapshot of generation ", serving.number,
                   ", which is the serving one, at or before ", Shown(as_of), "; ", oldest,
                   ". Named snapshots are kept: `icepie slice snapshots`"),
      detail);
}

absl::StatusOr<std::shared_ptr<ServedSlice>> PastSnapshots::FindNamed(const GenerationInfo& serving,
                                                                      const std::string& name,
                                                                      absl::Time deadline) {
  // A bad name is none: it must not lead to another place.
  const auto manifest = CheckSnapshotName(name).ok()
                            ? store_.ReadManifest(NamedSnapshots::PathOf(serving.slice, name))
                            : absl::NotFoundError(name);
  if (absl::IsNotFound(manifest.status())) {
    return MakeError(absl::StatusCode::kNotFound,
                     absl::StrCat("slice ", serving.slice, " has no snapshot ", name,
                                  "; `icepie slice snapshots` lists them"),
                     "SNAPSHOT_NOT_FOUND", {{"slice", serving.slice}, {"name", name}});
  }
  ICEPIE_RETURN_IF_ERROR(manifest.status());
  MutexLock lock(mutex_);
  return Attach(*manifest, deadline);
}

absl::StatusOr<std::shared_ptr<ServedSlice>> PastSnapshots::Find(const GenerationInfo& serving,
                                                                 const AsOf& as_of,
                                                                 absl::Time deadline) {
  if (!as_of.snapshot.empty()) return FindNamed(serving, as_of.snapshot, deadline);
  const std::vector<SnapshotManifest> candidates = Candidates(serving);
  MutexLock lock(mutex_);
  for (const SnapshotManifest& manifest : candidates) {
    if (!IsWithin(manifest, as_of)) continue;
    auto attached = Attach(manifest, deadline);
    // A damaged one, or one that has just been cleaned up: the one before it is as good an answer.
    const bool passed_over =
        absl::IsDataLoss(attached.status()) || absl::IsNotFound(attached.status());
    if (!passed_over) return attached;
    SliceWarn(serving.slice, "{}; an older one is used", attached.status().ToString());
  }
  return NotKept(serving, as_of, candidates);
}

absl::Status PastSnapshots::MakeRoom() {
  if (attached_.size() < attached_max_) return absl::OkStatus();
  auto oldest = attached_.end();
  for (auto it = attached_.begin(); it != attached_.end(); ++it) {
    if (it->second.served.use_count() > 1) continue;
    if (oldest == attached_.end() || it->second.last_used < oldest->second.last_used) oldest = it;
  }
  if (oldest == attached_.end()) {
    return MakeError(absl::StatusCode::kResourceExhausted,
                     absl::StrCat(attached_.size(),
                                  " snapshots of the past are being read already; try again later"),
                     ErrorDetail{"TOO_MANY_QUERIES", {}, {}, 1000});
  }
  attached_.erase(oldest);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<ServedSlice>> PastSnapshots::Attach(const SnapshotManifest& manifest,
                                                                   absl::Time deadline) {
  const std::string key = absl::StrCat(manifest.path, " ", manifest.sha256);
  const auto present = attached_.find(key);
  if (present != attached_.end()) {
    present->second.last_used = SteadyNow();
    return present->second.served;
  }
  ICEPIE_RETURN_IF_ERROR(MakeRoom());
  ICEPIE_ASSIGN_OR_RETURN(const SnapshotLink link, store_.Link(manifest));
  ICEPIE_RETURN_IF_ERROR(store_.CheckDigest(link.path(), manifest, deadline));
  ICEPIE_ASSIGN_OR_RETURN(std::shared_ptr<ServedSlice> served,
                          OpenSnapshot(instance_, link.path(), manifest));
  served->SetServing(true);
  served->SetState(SliceState::kRunning);
  attached_[key] = {served, SteadyNow()};
  return served;
}

void PastSnapshots::DetachIdle(absl::Time now) {
  MutexLock lock(mutex_);
  for (auto it = attached_.begin(); it != attached_.end();) {
    const bool idle = it->second.served.use_count() == 1 && now - it->second.last_used > kIdleMax;
    it = idle ? attached_.erase(it) : std::next(it);
  }
}

size_t PastSnapshots::attached() const {
  MutexLock lock(mutex_);
  return attached_.size();
}

}  // namespace icepie::slices
