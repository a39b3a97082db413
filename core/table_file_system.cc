#include "core/table_file_system.h"

#include <map>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "core/base/mutex.h"
#include "core/changed_file.h"

namespace icepie {
namespace {

using rocksdb::FSRandomAccessFile;
using rocksdb::FSSequentialFile;
using rocksdb::FSWritableFile;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;

// Which tables are not what was written to them, and why. RocksDB deletes them when it has found
// out, so they are few.
// Threads: any.
class FailedTables {
 public:
  void Add(const std::string& name, const IOStatus& why) {
    const MutexLock lock(mutex_);
    failures_.emplace(name, why);
  }
  void Remove(const std::string& name) {
    const MutexLock lock(mutex_);
    failures_.erase(name);
  }
  IOStatus Check(const std::string& name) const {
    const MutexLock lock(mutex_);
    const auto found = failures_.find(name);
    return found == failures_.end() ? IOStatus::OK() : found->second;
  }

 private:
  mutable Mutex mutex_;
  std::map<std::string, IOStatus> failures_ ABSL_GUARDED_BY(mutex_);
};

// Threads: one at a time, as RocksDB writes tables.
class TableFile final : public ChangedFile {
 public:
  TableFile(std::unique_ptr<FSWritableFile> file, std::string name,
            std::shared_ptr<FailedTables> failed)
      : ChangedFile(std::move(file)), name_(std::move(name)), failed_(std::move(failed)) {}

  // Closed it is in any case.
  IOStatus Close(const IOOptions& options, IODebugContext* debug) override {
    Keep(ChangedFile::Close(options, debug));
    return IOStatus::OK();
  }

 private:
  IOStatus Change(absl::FunctionRef<IOStatus()> change) override {
    if (!has_failed_) Keep(change());
    return IOStatus::OK();
  }
  void Keep(const IOStatus& status) {
    if (status.ok() || has_failed_) return;
    has_failed_ = true;
    failed_->Add(name_, status);
  }

  const std::string name_;
  const std::shared_ptr<FailedTables> failed_;
  bool has_failed_ = false;
};

class TableFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  using FileSystemWrapper::FileSystemWrapper;
  const char* Name() const override { return "icepie.TableFileSystem"; }

  IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                           std::unique_ptr<FSWritableFile>* file, IODebugContext* debug) override {
    const IOStatus status = target()->NewWritableFile(name, options, file, debug);
    if (!status.ok() || !absl::EndsWith(name, ".sst")) return status;
    failed_->Remove(name);
    *file = std::make_unique<TableFile>(std::move(*file), name, failed_);
    return status;
  }
  IOStatus NewRandomAccessFile(const std::string& name, const rocksdb::FileOptions& options,
                               std::unique_ptr<FSRandomAccessFile>* file,
                               IODebugContext* debug) override {
    const IOStatus whole = failed_->Check(name);
    return whole.ok() ? target()->NewRandomAccessFile(name, options, file, debug) : whole;
  }
  IOStatus NewSequentialFile(const std::string& name, const rocksdb::FileOptions& options,
                             std::unique_ptr<FSSequentialFile>* file,
                             IODebugContext* debug) override {
    const IOStatus whole = failed_->Check(name);
    return whole.ok() ? target()->NewSequentialFile(name, options, file, debug) : whole;
  }
  IOStatus DeleteFile(const std::string& name, const IOOptions& options,
                      IODebugContext* debug) override {
    IOStatus status = target()->DeleteFile(name, options, debug);
    if (status.ok()) failed_->Remove(name);
    return status;
  }

 private:
  const std::shared_ptr<FailedTables> failed_ = std::make_shared<FailedTables>();
};

}  // namespace

std::unique_ptr<rocksdb::Env> WithLateTableFailures(rocksdb::Env& env) {
  return rocksdb::NewCompositeEnv(std::make_shared<TableFileSystem>(env.GetFileSystem()));
}

}  // namespace icepie
