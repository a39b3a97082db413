// RocksDB's file system, in which an error of the disk that stays is damage.
//
// A sector that cannot be read any more is as lost as one with flipped bits, but to RocksDB an I/O
// error is something else than a corruption: one that may be over when it is tried again. So here
// what the disk refuses to read is tried once more, and refused again it is a corruption, with the
// disk's own words: the core opens read-only and serves the rest, and who asks for the record hears
// of damage with its position. Of a file on which nothing depends it is missing, and RocksDB makes
// another. What the disk does not refuse (permissions, too many open files) stays as it is.
#ifndef ICEPIE_CORE_LOG_READ_FILE_SYSTEM_H_
#define ICEPIE_CORE_LOG_READ_FILE_SYSTEM_H_

#include <memory>

namespace rocksdb {
class Env;
}

namespace icepie {

// An environment on the files of `env`. Unless `also_logs`, write-ahead logs that cannot be read
// stay an I/O error: whoever stops at the first damage of a log drops what stands behind it, and a
// disk may give tomorrow what it refuses today.
std::unique_ptr<rocksdb::Env> WithLastingReadErrors(rocksdb::Env& env, bool also_logs);

}  // namespace icepie

#endif  // ICEPIE_CORE_LOG_READ_FILE_SYSTEM_H_
