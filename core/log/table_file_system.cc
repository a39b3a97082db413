#include "core/log/table_file_system.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "core/base/mutex.h"
#include "core/log/changed_file.h"

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
  TableFileSystem(const std::shared_ptr<FileSystem>& files, const std::string& directory)
      : FileSystemWrapper(files), prefix_(directory + "/") {}
  const char* Name() const override { return "icepie.TableFileSystem"; }

  IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                           std::unique_ptr<FSWritableFile>* file, IODebugContext* debug) override {
    const IOStatus status = target()->NewWritableFile(name, options, file, debug);
    if (!status.ok() || !absl::EndsWith(name, ".sst") || !absl::StartsWith(name, prefix_)) {
      return status;
    }
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
  const std::string prefix_;
  const std::shared_ptr<FailedTables> failed_ = std::make_shared<FailedTables>();
};

class ProgressFile final : public rocksdb::FSRandomAccessFileOwnerWrapper {
 public:
  ProgressFile(std::unique_ptr<FSRandomAccessFile> file, const CheckProgress& progress)
      : FSRandomAccessFileOwnerWrapper(std::move(file)), progress_(progress) {}

  IOStatus Read(uint64_t offset, size_t bytes, const IOOptions& options, rocksdb::Slice* result,
                char* scratch, IODebugContext* debug) const override {
    size_t done = 0;
    while (done < bytes) {
      if (has_ended_) return IOStatus::Aborted("the reading was ended");
      rocksdb::Slice piece;
      const IOStatus status =
          FSRandomAccessFileOwnerWrapper::Read(offset + done, std::min(bytes - done, kPieceBytes),
                                               options, &piece, scratch + done, debug);
      if (!status.ok()) return status;
      if (piece.empty()) break;  // the file's end
      if (piece.data() != scratch + done) std::memmove(scratch + done, piece.data(), piece.size());
      done += piece.size();
      has_ended_ = !progress_(static_cast<int64_t>(piece.size()));
    }
    *result = rocksdb::Slice(scratch, done);
    return IOStatus::OK();
  }
  // The system would read without asking.
  IOStatus Prefetch(uint64_t, size_t, const IOOptions&, IODebugContext*) override {
    return IOStatus::NotSupported();
  }

 private:
  static constexpr size_t kPieceBytes = size_t{256} << 10;

  const CheckProgress progress_;
  mutable bool has_ended_ = false;
};

class ProgressFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  ProgressFileSystem(const std::shared_ptr<FileSystem>& files, CheckProgress progress)
      : FileSystemWrapper(files), progress_(std::move(progress)) {}
  const char* Name() const override { return "icepie.ProgressFileSystem"; }

  IOStatus NewRandomAccessFile(const std::string& name, const rocksdb::FileOptions& options,
                               std::unique_ptr<FSRandomAccessFile>* file,
                               IODebugContext* debug) override {
    IOStatus status = target()->NewRandomAccessFile(name, options, file, debug);
    if (status.ok()) *file = std::make_unique<ProgressFile>(std::move(*file), progress_);
    return status;
  }

 private:
  const CheckProgress progress_;
};

}  // namespace

std::unique_ptr<rocksdb::Env> WithLateTableFailures(rocksdb::Env& env,
                                                    const std::string& directory) {
  return rocksdb::NewCompositeEnv(
      std::make_shared<TableFileSystem>(env.GetFileSystem(), directory));
}

std::unique_ptr<rocksdb::Env> WithReadProgress(rocksdb::Env& env, const CheckProgress& progress) {
  return rocksdb::NewCompositeEnv(
      std::make_shared<ProgressFileSystem>(env.GetFileSystem(), progress));
}

}  // namespace icepie
