#include "core/log/wal_file_system.h"

#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "core/base/mutex.h"
#include "core/log/changed_file.h"

namespace icepie {
namespace {

using rocksdb::FSWritableFile;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;

// Writes on where room can be made.
// Threads: as ChangedFile.
class RoomyFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  RoomyFile(std::unique_ptr<FSWritableFile> file, std::string name,
            std::shared_ptr<rocksdb::FileSystem> files, MakeRoom make_room)
      : FSWritableFileOwnerWrapper(std::move(file)),
        name_(std::move(name)),
        files_(std::move(files)),
        make_room_(std::move(make_room)) {}

  IOStatus Append(const rocksdb::Slice& data, const IOOptions& options,
                  IODebugContext* debug) override {
    return Finish(data, FSWritableFileOwnerWrapper::Append(data, options, debug), options, debug);
  }
  IOStatus Append(const rocksdb::Slice& data, const IOOptions& options,
                  const rocksdb::DataVerificationInfo& info, IODebugContext* debug) override {
    return Finish(data, FSWritableFileOwnerWrapper::Append(data, options, info, debug), options,
                  debug);
  }

 private:
  IOStatus Finish(const rocksdb::Slice& data, const IOStatus& status, const IOOptions& options,
                  IODebugContext* debug) {
    if (!status.ok() && (!status.IsNoSpace() || !make_room_(name_))) return status;
    if (!status.ok()) {
      const IOStatus written = AppendRest(data, options, debug);
      if (!written.ok()) return written;
    }
    bytes_ += data.size();
    return IOStatus::OK();
  }

  IOStatus AppendRest(const rocksdb::Slice& data, const IOOptions& options, IODebugContext* debug) {
    uint64_t there = 0;
    IOStatus status = files_->GetFileSize(name_, options, &there, debug);
    if (!status.ok()) return status;
    if (there < bytes_ || there > bytes_ + data.size()) {
      return IOStatus::IOError("a write on a full disk has left another file", name_);
    }
    const size_t done = there - bytes_;
    status = FSWritableFileOwnerWrapper::Append({data.data() + done, data.size() - done}, options,
                                                debug);
    // RocksDB's file has not counted what the failed write has written, and cuts itself to what it
    // has counted when it is closed. This sets its count; the file is as long already.
    return status.ok() ? Truncate(bytes_ + data.size(), options, debug) : status;
  }

  const std::string name_;
  const std::shared_ptr<rocksdb::FileSystem> files_;
  const MakeRoom make_room_;
  uint64_t bytes_ = 0;
};

// Threads: any; a sync may run beside an append.
class WalFile final : public ChangedFile {
 public:
  WalFile(std::unique_ptr<FSWritableFile> file, std::shared_ptr<std::atomic<int64_t>> bytes)
      : ChangedFile(std::move(file)), bytes_(std::move(bytes)) {}

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
  void Appended(size_t bytes) override { *bytes_ += static_cast<int64_t>(bytes); }

  const std::shared_ptr<std::atomic<int64_t>> bytes_;
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
  WalFileSystem(const std::shared_ptr<rocksdb::FileSystem>& files, std::shared_ptr<LiveWals> live,
                MakeRoom make_room)
      : FileSystemWrapper(files), live_(std::move(live)), make_room_(std::move(make_room)) {}
  const char* Name() const override { return "icepie.WalFileSystem"; }

  IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                           std::unique_ptr<FSWritableFile>* file, IODebugContext* debug) override {
    IOStatus status = target()->NewWritableFile(name, options, file, debug);
    if (!absl::EndsWith(name, ".log")) return status;
    if (status.IsNoSpace() && make_room_(name)) {
      status = target()->NewWritableFile(name, options, file, debug);
    }
    if (!status.ok()) return status;
    auto roomy = std::make_unique<RoomyFile>(std::move(*file), name, target_, make_room_);
    const auto bytes = std::make_shared<std::atomic<int64_t>>(0);
    live_->Add(name, bytes);
    *file = std::make_unique<WalFile>(std::move(roomy), bytes);
    return status;
  }
  IOStatus DeleteFile(const std::string& name, const IOOptions& options,
                      IODebugContext* debug) override {
    live_->Remove(name);  // first: nobody shall miss it
    return target()->DeleteFile(name, options, debug);
  }
  IOStatus RenameFile(const std::string& from, const std::string& to, const IOOptions& options,
                      IODebugContext* debug) override {
    live_->Remove(from);
    return target()->RenameFile(from, to, options, debug);
  }
  // No log is archived. To copy the database RocksDB 7.8 looks all the same, and where it cannot it
  // aborts the process, or goes on as if there were no logs at all, since it judges another status.
  IOStatus FileExists(const std::string& name, const IOOptions& options,
                      IODebugContext* debug) override {
    if (absl::EndsWith(name, "/archive")) return IOStatus::NotFound();
    return target()->FileExists(name, options, debug);
  }
  IOStatus NewDirectory(const std::string& name, const IOOptions& options,
                        std::unique_ptr<rocksdb::FSDirectory>* directory,
                        IODebugContext* debug) override {
    const IOStatus status = target()->NewDirectory(name, options, directory, debug);
    if (status.ok()) *directory = std::make_unique<WalDirectory>(std::move(*directory));
    return status;
  }

 private:
  const std::shared_ptr<LiveWals> live_;
  const MakeRoom make_room_;
};

}  // namespace

void LiveWals::Add(const std::string& path, std::shared_ptr<const std::atomic<int64_t>> bytes) {
  const MutexLock lock(mutex_);
  logs_[path] = std::move(bytes);
}

void LiveWals::Remove(const std::string& path) {
  const MutexLock lock(mutex_);
  logs_.erase(path);
}

std::optional<int64_t> LiveWals::BytesOf(const std::string& path) const {
  const MutexLock lock(mutex_);
  const auto found = logs_.find(path);
  return found == logs_.end() ? std::nullopt : std::optional<int64_t>(found->second->load());
}

std::vector<std::string> LiveWals::Paths() const {
  const MutexLock lock(mutex_);
  std::vector<std::string> paths;
  paths.reserve(logs_.size());
  for (const auto& [path, bytes] : logs_) paths.push_back(path);
  return paths;
}

std::unique_ptr<rocksdb::Env> WithFinalWalFailures(rocksdb::Env& env,
                                                   std::shared_ptr<LiveWals> live,
                                                   MakeRoom make_room) {
  return rocksdb::NewCompositeEnv(
      std::make_shared<WalFileSystem>(env.GetFileSystem(), std::move(live), std::move(make_room)));
}

}  // namespace icepie
