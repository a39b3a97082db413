#include "core/wal_file_system.h"

#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "core/base/mutex.h"
#include "core/changed_file.h"

namespace icepie {
namespace {

using rocksdb::FSWritableFile;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;

// Threads: any; a sync may run beside an append.
class WalFile final : public ChangedFile {
 public:
  using ChangedFile::ChangedFile;

 private:
  IOStatus Change(absl::FunctionRef<IOStatus()> change) override {
    {
      const MutexLock lock(mutex_);
      if (!failure_.empty()) return IOStatus::IOError("the log failed before", failure_);
    }
    const IOStatus status = change();
    if (status.ok()) return status;
    const MutexLock lock(mutex_);
    failure_ = status.ToString();
    return IOStatus::IOError(failure_);  // without what else the status says
  }

  Mutex mutex_;
  std::string failure_ ABSL_GUARDED_BY(mutex_);
};

// A new log is there for good only when its directory is synced.
class WalDirectory final : public rocksdb::FSDirectoryWrapper {
 public:
  explicit WalDirectory(std::unique_ptr<rocksdb::FSDirectory> directory)
      : FSDirectoryWrapper(std::move(directory)) {}

  IOStatus Fsync(const IOOptions& options, IODebugContext* debug) override {
    return Final(FSDirectoryWrapper::Fsync(options, debug));
  }
  IOStatus FsyncWithDirOptions(const IOOptions& options, IODebugContext* debug,
                               const rocksdb::DirFsyncOptions& how) override {
    return Final(FSDirectoryWrapper::FsyncWithDirOptions(options, debug, how));
  }

 private:
  // Without what else the status says.
  static IOStatus Final(const IOStatus& status) {
    return status.ok() ? status : IOStatus::IOError(status.ToString());
  }
};

class WalFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  using FileSystemWrapper::FileSystemWrapper;
  const char* Name() const override { return "icepie.WalFileSystem"; }

  IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                           std::unique_ptr<FSWritableFile>* file, IODebugContext* debug) override {
    const IOStatus status = target()->NewWritableFile(name, options, file, debug);
    if (!status.ok() || !absl::EndsWith(name, ".log")) return status;
    *file = std::make_unique<WalFile>(std::move(*file));
    return status;
  }
  IOStatus NewDirectory(const std::string& name, const IOOptions& options,
                        std::unique_ptr<rocksdb::FSDirectory>* directory,
                        IODebugContext* debug) override {
    const IOStatus status = target()->NewDirectory(name, options, directory, debug);
    if (status.ok()) *directory = std::make_unique<WalDirectory>(std::move(*directory));
    return status;
  }
};

}  // namespace

std::unique_ptr<rocksdb::Env> WithFinalWalFailures(rocksdb::Env& env) {
  return rocksdb::NewCompositeEnv(std::make_shared<WalFileSystem>(env.GetFileSystem()));
}

}  // namespace icepie
