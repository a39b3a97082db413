// Snapshots of generations on disk. In the domain's directory:
//   snapshots/<slice>/g<generation>-p<position, 20 digits>.duckdb   a copy of the generation
//   the same name .json                                             its manifest
//   the same name .unrestorable, .unservable                        DuckDB cannot read it; says why
//   unfinished/<slice>/g<generation>/<stage>/<slice>/…              the same of a build on its way
//   tmp/                                                            copies under way
//   (process_mark.h)
// A snapshot exists once its manifest does, and is good while its bytes have the manifest's
// SHA-256 (attaching alone does not notice a flipped bit).
#ifndef ICEPIE_SLICES_SNAPSHOT_SNAPSHOT_STORE_H_
#define ICEPIE_SLICES_SNAPSHOT_SNAPSHOT_STORE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "slices/apply/engine_types.h"
#include "slices/snapshot/storage_budget.h"

namespace icepie::slices {

class DuckConnection;
class DuckDatabase;

struct SnapshotManifest {
  GenerationInfo info;
  Progress progress;
  std::string sha256;
  int64_t time_us = 0;
  int64_t rows = 0;                             // of the result
  int64_t rows_max = 0;                         // the domain's limit for results
  std::vector<ExpectationResult> expectations;  // of these rows
  std::string path;  // relative to the domain's directory; not in the file

  SnapshotInfo Info() const;
};

// Looks at a copy, attached to `connection` as `alias`, before it becomes a snapshot; may add to
// its manifest. An error: it must not become one.
using SnapshotCheck = std::function<absl::Status(
    DuckConnection& connection, const std::string& alias, SnapshotManifest& manifest)>;

// `status` of reading a snapshot with DuckDB, with reason SNAPSHOT_UNUSABLE when that fails for
// what is in the file, or breaks DuckDB (INTERNAL), and would again.
absl::Status SnapshotError(const absl::Status& status);
bool IsUnusableSnapshot(const absl::Status& status);

enum class SnapshotUse {
  kServe,    // attached and asked where it lies
  kRestore,  // copied into a state that goes on from there
};

// A second name of a snapshot's file, for one reader of its own: cleaning up does not take it away,
// and DuckDB, which attaches a path only once, knows no other reader's. The name goes with this
// object, the bytes when the last one who has the file open has closed it.
class SnapshotLink {
 public:
  explicit SnapshotLink(std::string path) : path_(std::move(path)) {}
  ~SnapshotLink();
  SnapshotLink(SnapshotLink&& other) noexcept : path_(std::exchange(other.path_, "")) {}

  const std::string& path() const { return path_; }  // absolute

 private:
  std::string path_;
};

// Threads: any; one Save() of a generation at a time.
class SnapshotStore {
 public:
  SnapshotStore(std::string domain_directory, SnapshotKeeping keeping, StorageBudget budget = {})
      : directory_(std::move(domain_directory)),
        folder_("snapshots"),
        keeping_(keeping),
        budget_(std::move(budget)),
        pace_(PaceOf(budget_)) {}

  // Makes the directories and removes copies that ended processes left behind. For processes that
  // write; several of a domain may do so at a time.
  absl::Status Prepare() const;

  // A store of the same files elsewhere, for what the build of a generation saves on its way: half
  // a generation is nobody else's business. It keeps the newest two of each slice. Hurry() and
  // InterruptCopies() of one are both's.
  SnapshotStore OnTheWay(const std::string& slice, int64_t generation,
                         absl::string_view stage) const;

  // Copies the database `alias`, which others may go on writing, and publishes the copy. Cleans up
  // after it. A snapshot of this position that is there already is returned when it has the same
  // content version, and replaced when not. Nothing is published when `check` (may be null) refuses
  // the copy; its error is returned as it is. When it does not fit the domain's part of the disk,
  // all that builds have saved on their way makes room (for which only its own older ones do), and
  // then older snapshots than the newest of each generation, the oldest first; if that is not
  // enough: RESOURCE_EXHAUSTED/DOMAIN_DISK_FULL.
  absl::StatusOr<SnapshotManifest> Save(DuckDatabase& instance, const std::string& alias,
                                        const GenerationInfo& info, int64_t rows_max,
                                        const SnapshotCheck& check = nullptr) const;

  // Removes what SnapshotKeeping does not keep: by number and age of this generation, by size of
  // the domain. Never the newest of a generation, nor an older one that is the newest good.
  void CleanUp(const std::string& slice, int64_t generation) const {
    CleanUp(slice, generation, {});
  }
  // The same of every generation: those that do not change any more age, too.
  void CleanUpAll() const;

  // From now on snapshots are written as fast as the disk can: the process ends.
  void Hurry() const { copying_->hurry = true; }
  // Lets what Save() copies now end with DEADLINE_EXCEEDED, unless it is about to be published.
  void InterruptCopies() const;

  // The newest good snapshot; damaged ones, those of another definition and those that DuckDB
  // cannot read for `use` are passed over with a warning. When none is left to be served, one that
  // was not to be read some time ago is tried once more. NOT_FOUND when there is none.
  absl::StatusOr<SnapshotManifest> NewestGood(const std::string& slice, int64_t generation,
                                              const std::string& definition_hash,
                                              SnapshotUse use = SnapshotUse::kServe) const;

  // The newest good one of the newest generation before `generation` that has one. NOT_FOUND.
  absl::StatusOr<SnapshotManifest> NewestOfEarlier(const std::string& slice,
                                                   int64_t generation) const;

  // `why`: an IsUnusableSnapshot() of reading a file whose bytes are as they were written. From now
  // on it is passed over where it was to be used, as long as DuckDB stays the same version: the
  // fault may be DuckDB's, so the file stays. One that cannot be served is not restored either;
  // where DuckDB broke over restoring it, it may still be served.
  absl::Status NoteUnusable(const std::string& path, SnapshotUse use,
                            const absl::Status& why) const;
  bool IsUsable(const std::string& path, SnapshotUse use) const;
  // The same of one that is about to be read, in case that ends the process; and that it did not.
  absl::Status NoteTried(const std::string& path) const;
  void ForgetTried(const std::string& path) const;
  // Another text when the snapshot is another one, or can be served no more.
  std::string Edition(const std::string& path) const;

  // Reads a manifest and checks the file against it. DATA_LOSS when they do not agree.
  absl::StatusOr<SnapshotManifest> Check(const std::string& path,
                                         const std::function<bool()>& given_up = nullptr) const;

  // The manifest alone; its file is not looked at. NOT_FOUND; DATA_LOSS when it cannot be read.
  absl::StatusOr<SnapshotManifest> ReadManifest(const std::string& path) const;

  // NOT_FOUND when the snapshot has been cleaned up.
  absl::StatusOr<SnapshotLink> Link(const SnapshotManifest& manifest) const;

  // DATA_LOSS/SNAPSHOT_DAMAGED unless the bytes of `file` are what the manifest says;
  // DEADLINE_EXCEEDED; CANCELLED when `given_up` (may be null) says so, which is asked again and
  // again.
  absl::Status CheckDigest(const std::string& file, const SnapshotManifest& manifest,
                           absl::Time deadline,
                           const std::function<bool()>& given_up = nullptr) const;

  void Remove(const std::string& path) const;

  // Paths of a generation's snapshots, newest first; not checked.
  std::vector<std::string> List(const std::string& slice, int64_t generation) const;

  const std::string& directory() const { return directory_; }
  std::string AbsolutePath(const std::string& path) const { return directory_ + "/" + path; }

 private:
  // `gone` is set when one of them was not there any more.
  absl::StatusOr<SnapshotManifest> NewestGood(const std::string& slice, int64_t generation,
                                              const std::string& definition_hash, SnapshotUse use,
                                              bool& gone) const;
  absl::StatusOr<SnapshotManifest> Copy(DuckDatabase& instance, const std::string& alias,
                                        const std::string& file, const SnapshotCheck& check) const;
  absl::Status Publish(const std::string& temporary, SnapshotManifest& manifest) const;
  std::string NewTemporary() const;
  struct Stored {
    std::string path;  // relative
    absl::Time time;
    int64_t bytes = 0;
    bool spare = false;  // an older one than the newest of its generation
  };
  std::vector<Stored> AllStored() const;
  // `good`: snapshots that are known to be good; grows.
  using Good = std::set<std::string>;
  bool MayGo(const std::string& path, Good& good) const;
  void CleanUp(const std::string& slice, int64_t generation, Good good) const;
  void RemoveOldest(int64_t bytes, Good good) const;
  absl::Status MakeRoom(int64_t bytes) const;
  std::string PathOf(const std::string& slice, int64_t generation, int64_t position) const;
  // Those at the position of `plain`: one, unless a process ended between two steps of a save.
  std::vector<std::string> At(const GenerationInfo& info, const std::string& plain) const;
  int64_t NewestBytes(const std::vector<std::string>& paths) const;
  int64_t ExpectedBytes(DuckDatabase& instance, const std::string& alias,
                        const GenerationInfo& info) const;
  int64_t LargestBytes() const;  // of the snapshots that slices answer from
  void RemoveUnfinished(int64_t bytes) const;

  std::string directory_;
  std::string folder_;  // relative to it
  SnapshotKeeping keeping_;
  StorageBudget budget_;
  WritePace pace_;
  struct Copying {
    std::atomic<bool> hurry{false};
    Mutex mutex;
    std::set<DuckConnection*> connections ABSL_GUARDED_BY(mutex);
  };
  std::shared_ptr<Copying> copying_ = std::make_shared<Copying>();
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_SNAPSHOT_SNAPSHOT_STORE_H_
