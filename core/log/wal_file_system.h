// RocksDB's file system, with write-ahead logs that take nothing more once they have failed.
//
// RocksDB goes on by itself after a full disk: it forgets that the log failed and writes on behind
// what that left, whatever max_bgerror_resume_count says. After a failed write or sync nobody knows
// what the file holds, so here the first failure of a write-ahead log is final: it loses the mark
// of a full disk, by which RocksDB decides to resume, and every later change of the file fails
// without touching the disk. A failed sync of its directory loses the mark, too: what stands in a
// log that RocksDB did not take over would be replayed for those column families only that had
// nothing to flush when it resumed, so half of a commit. Tables and manifests are written anew
// after a failure, and stay as they are.
//
// What does not fit a full disk is no such failure where room can be made: unlike a failed sync, a
// write that found none has written its beginning and dropped nothing, so the rest is written
// behind that, and the file is made that could not be.
#ifndef ICEPIE_CORE_LOG_WAL_FILE_SYSTEM_H_
#define ICEPIE_CORE_LOG_WAL_FILE_SYSTEM_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/mutex.h"

namespace rocksdb {
class Env;
}

namespace icepie {

// The logs that RocksDB has made since it was opened and needs still: they must be there, with so
// many bytes at least, whatever the disk says.
// Threads: any.
class LiveWals {
 public:
  void Add(const std::string& path, std::shared_ptr<const std::atomic<int64_t>> bytes);
  void Remove(const std::string& path);
  // nullopt: it is none of them.
  std::optional<int64_t> BytesOf(const std::string& path) const;
  std::vector<std::string> Paths() const;

 private:
  mutable Mutex mutex_;
  std::map<std::string, std::shared_ptr<const std::atomic<int64_t>>> logs_ ABSL_GUARDED_BY(mutex_);
};

// Makes room on the full disk of the log `path`, which may be a backup's; false when there is
// nothing to give up. Called by any thread.
using MakeRoom = std::function<bool(const std::string& path)>;

// An environment like `env`, which outlives it, with such logs; `live` knows them.
std::unique_ptr<rocksdb::Env> WithFinalWalFailures(rocksdb::Env& env,
                                                   std::shared_ptr<LiveWals> live,
                                                   MakeRoom make_room);

}  // namespace icepie

#endif  // ICEPIE_CORE_LOG_WAL_FILE_SYSTEM_H_
