// A file that RocksDB writes, with one place through which everything passes that changes it: what
// shall happen when a change fails (wal_file_system, table_file_system) is said there once.
#ifndef ICEPIE_CORE_LOG_CHANGED_FILE_H_
#define ICEPIE_CORE_LOG_CHANGED_FILE_H_

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/functional/function_ref.h"

namespace icepie {

// Closing is no change: it is done whatever happened, so who cares about its failure says so.
// Threads: as RocksDB uses the file; a log is synced beside an append.
// Lifetime: owns the file that it wraps.
class ChangedFile : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  using IOStatus = rocksdb::IOStatus;
  using IOOptions = rocksdb::IOOptions;
  using Debug = rocksdb::IODebugContext;

  explicit ChangedFile(std::unique_ptr<rocksdb::FSWritableFile> file)
      : FSWritableFileOwnerWrapper(std::move(file)) {}

  IOStatus Append(const rocksdb::Slice& data, const IOOptions& options, Debug* debug) final {
    const IOStatus status =
        Change([&] { return FSWritableFileOwnerWrapper::Append(data, options, debug); });
    if (status.ok()) Appended(data.size());
    return status;
  }
  IOStatus Append(const rocksdb::Slice& data, const IOOptions& options,
                  const rocksdb::DataVerificationInfo& info, Debug* debug) final {
    const IOStatus status =
        Change([&] { return FSWritableFileOwnerWrapper::Append(data, options, info, debug); });
    if (status.ok()) Appended(data.size());
    return status;
  }
  IOStatus Truncate(uint64_t size, const IOOptions& options, Debug* debug) final {
    return Change([&] { return FSWritableFileOwnerWrapper::Truncate(size, options, debug); });
  }
  IOStatus Flush(const IOOptions& options, Debug* debug) final {
    return Change([&] { return FSWritableFileOwnerWrapper::Flush(options, debug); });
  }
  IOStatus Sync(const IOOptions& options, Debug* debug) final {
    return Change([&] { return FSWritableFileOwnerWrapper::Sync(options, debug); });
  }
  IOStatus Fsync(const IOOptions& options, Debug* debug) final {
    return Change([&] { return FSWritableFileOwnerWrapper::Fsync(options, debug); });
  }
  IOStatus RangeSync(uint64_t offset, uint64_t bytes, const IOOptions& options,
                     Debug* debug) final {
    return Change(
        [&] { return FSWritableFileOwnerWrapper::RangeSync(offset, bytes, options, debug); });
  }

 protected:
  // Does `change`, or does not; what it returns is what RocksDB hears.
  virtual IOStatus Change(absl::FunctionRef<IOStatus()> change) = 0;
  virtual void Appended(size_t /*bytes*/) {}
};

}  // namespace icepie

#endif  // ICEPIE_CORE_LOG_CHANGED_FILE_H_
