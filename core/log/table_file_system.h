// RocksDB's file system, with tables whose failed writes are told when they are opened, and one for
// a reader of a table that is to be slow.
//
// A compaction drops what has been sealed, and often nothing is left for its new table. When
// writing that one fails, RocksDB 7.8 keeps it among the outputs though it has no first key, looks
// for that key to fill its statistics, and aborts the process (CompactionState::SmallestUserKey)
// where it should stop taking writes. But it opens every new table before it counts, reading all of
// it back (ColumnFamilyOptions::paranoid_file_checks); it has removed the empty ones by then. So
// here a table takes its first failed write, sync or close silently, and nothing after it touches
// the disk; every attempt to open the table gets the failure. It is never among those that count.
#ifndef ICEPIE_CORE_LOG_TABLE_FILE_SYSTEM_H_
#define ICEPIE_CORE_LOG_TABLE_FILE_SYSTEM_H_

#include <memory>
#include <string>

#include "core/log/wal_check.h"

namespace rocksdb {
class Env;
}

namespace icepie {

// An environment on the files of `env`, with such tables in `directory`. Of those elsewhere, which
// are copies, a failure is told at once: nobody opens them in this environment.
std::unique_ptr<rocksdb::Env> WithLateTableFailures(rocksdb::Env& env,
                                                    const std::string& directory);

// An environment on the files of `env` for whoever reads a table from its begin to its end: after
// each piece of 256 KiB at most it calls `progress`, which may wait, and when that returns false
// every read fails from then on. RocksDB has a rate limiter for reads, too, but SstFileReader opens
// its file without one, and whoever waits in one cannot be told to stop.
// Threads: one, the reader's.
std::unique_ptr<rocksdb::Env> WithReadProgress(rocksdb::Env& env, const CheckProgress& progress);

}  // namespace icepie

#endif  // ICEPIE_CORE_LOG_TABLE_FILE_SYSTEM_H_
