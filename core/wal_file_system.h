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
#ifndef ICEPIE_CORE_WAL_FILE_SYSTEM_H_
#define ICEPIE_CORE_WAL_FILE_SYSTEM_H_

#include <memory>

namespace rocksdb {
class Env;
}

namespace icepie {

// An environment like `env`, which outlives it, with such logs.
std::unique_ptr<rocksdb::Env> WithFinalWalFailures(rocksdb::Env& env);

}  // namespace icepie

#endif  // ICEPIE_CORE_WAL_FILE_SYSTEM_H_
