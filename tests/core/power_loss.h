// A machine that loses its power: a directory goes back to what was synced. A program that links
// this has its own fsync and fdatasync, which also RocksDB calls.
//
// What is durable: a file's bytes at its last sync, a directory's entries at its last sync (without
// one: none). So new names, renames and removals whose directory was not synced are undone, more
// strictly than most file systems do it.
#ifndef ICEPIE_TESTS_CORE_POWER_LOSS_H_
#define ICEPIE_TESTS_CORE_POWER_LOSS_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>

#include "core/base/mutex.h"

namespace icepie {

// Threads: any. One object at a time in a program.
class PowerLoss {
 public:
  // `root` exists and is durable itself. `vault` is an empty directory on the same file system; it
  // keeps what was synced.
  PowerLoss(std::string root, std::string vault);
  ~PowerLoss();
  PowerLoss(const PowerLoss&) = delete;
  PowerLoss& operator=(const PowerLoss&) = delete;

  // From now on every sync fails and nothing becomes durable any more.
  void Stop();
  // The n-th sync (from 1) from now on of a path for which `matches` holds fails, and only that. As
  // the kernel does it, a file's later syncs succeed, and what it should have made durable is lost
  // all the same.
  void FailSync(std::function<bool(const std::string& path)> matches, int n);
  // The path of which one has failed; empty: none yet.
  std::string failed_path() const;
  // What the disk holds of a small file (4 KiB) that stands at `path` now; empty: nothing yet.
  std::string Durable(const std::string& path) const;
  // Makes `root` what the disk holds. Nobody has files in it open. Syncs work again. With `random`,
  // some pages of what was written to RocksDB's logs and not synced have come to the disk, too.
  void Lose(std::mt19937* random = nullptr);

  // For fsync: its result, or nullopt when the descriptor is not under `root`.
  static std::optional<int> OnSync(int fd);

 private:
  struct Synced {
    int64_t bytes = 0;
    std::string content;  // of small files, which may be overwritten in place; else empty
  };
  struct Entry {
    bool is_directory = false;
    ino_t inode = 0;
  };
  using Entries = std::map<std::string, Entry>;

  int Sync(int fd, const std::string& path);
  bool Fails(const std::string& path) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SyncFile(int fd, ino_t inode, int64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SyncDirectory(const std::string& path) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Restore(const std::string& directory) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RestoreFile(const std::string& path, ino_t inode) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static void LosePages(const std::string& path, int64_t synced, std::mt19937& random);
  std::string Kept(ino_t inode) const { return vault_ + "/" + std::to_string(inode); }

  const std::string root_;
  const std::string vault_;
  mutable Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::mt19937* random_ ABSL_GUARDED_BY(mutex_) = nullptr;                      // during Lose()
  std::function<bool(const std::string& path)> fails_ ABSL_GUARDED_BY(mutex_);  // empty: none
  int fails_in_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string failed_path_ ABSL_GUARDED_BY(mutex_);
  std::set<ino_t> failed_files_ ABSL_GUARDED_BY(mutex_);
  std::map<ino_t, Synced> files_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Entries> directories_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace icepie

#endif  // ICEPIE_TESTS_CORE_POWER_LOSS_H_
