// RocksDB's file system, in which a quota that is used up (EDQUOT) is a full disk.
//
// RocksDB knows ENOSPC alone and takes any other error for one that it does not get over: a flush
// that meets a quota would end all writes until a restart.
#ifndef ICEPIE_CORE_LOG_QUOTA_FILE_SYSTEM_H_
#define ICEPIE_CORE_LOG_QUOTA_FILE_SYSTEM_H_

#include <memory>

namespace rocksdb {
class Env;
}

namespace icepie {

// An environment on the files of `env`.
std::unique_ptr<rocksdb::Env> WithQuotasAsFullDisks(rocksdb::Env& env);

}  // namespace icepie

#endif  // ICEPIE_CORE_LOG_QUOTA_FILE_SYSTEM_H_
