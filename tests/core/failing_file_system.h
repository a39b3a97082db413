// RocksDB's file system with faults: the k-th change of the disk fails, or the power goes.
#ifndef ICEPIE_TESTS_CORE_FAILING_FILE_SYSTEM_H_
#define ICEPIE_TESTS_CORE_FAILING_FILE_SYSTEM_H_

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "core/base/mutex.h"

namespace icepie {

// Threads: any, as RocksDB's own.
class FailingFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  using IOStatus = rocksdb::IOStatus;
  using IOOptions = rocksdb::IOOptions;
  using Debug = rocksdb::IODebugContext;

  FailingFileSystem() : FileSystemWrapper(rocksdb::FileSystem::Default()) {}
  const char* Name() const override { return "FailingFileSystem"; }

  // Counts changes from now on; the `k`-th (from 1) fails once. 0: none does.
  void FailAt(int64_t k) {
    changes_ = 0;
    fail_at_ = k;
    const MutexLock lock(mutex_);
    failed_what_.clear();
  }
  int64_t changes() const { return changes_; }
  bool failed() const { return fail_at_ > 0 && changes_ >= fail_at_; }
  std::string failed_what() const {
    const MutexLock lock(mutex_);
    return failed_what_;
  }

  // From now on every change fails, as when the machine has stopped.
  void Stop() { stopped_ = true; }

  // What a power loss leaves: files end where they were synced last, and those whose directory was
  // not synced after they were made are gone.
  void LosePower() {
    const MutexLock lock(mutex_);
    for (const auto& [name, synced] : synced_bytes_) {
      struct stat file {};
      if (::stat(name.c_str(), &file) != 0) continue;
      if (new_names_.count(name) > 0) {
        ::unlink(name.c_str());
      } else if (file.st_size > synced) {
        if (::truncate(name.c_str(), synced) != 0) ++lost_errors_;
      }
    }
  }
  int lost_errors() const { return lost_errors_; }

  IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                           std::unique_ptr<rocksdb::FSWritableFile>* file, Debug* debug) override {
    IOStatus status = Change("create", name);
    if (!status.ok()) return status;
    std::unique_ptr<rocksdb::FSWritableFile> inner;
    status = target()->NewWritableFile(name, options, &inner, debug);
    if (!status.ok()) return status;
    {
      const MutexLock lock(mutex_);
      synced_bytes_[name] = 0;
      new_names_.insert(name);
    }
    *file = std::make_unique<File>(std::move(inner), name, this);
    return status;
  }
  IOStatus RenameFile(const std::string& from, const std::string& to, const IOOptions& options,
                      Debug* debug) override {
    IOStatus status = Change("rename", to);
    if (!status.ok()) return status;
    status = target()->RenameFile(from, to, options, debug);
    const MutexLock lock(mutex_);
    if (const auto found = synced_bytes_.find(from); found != synced_bytes_.end()) {
      synced_bytes_[to] = found->second;
      synced_bytes_.erase(from);
    }
    new_names_.erase(from);  // which name a rename leaves is not simulated
    return status;
  }
  IOStatus DeleteFile(const std::string& name, const IOOptions& options, Debug* debug) override {
    const IOStatus status = Change("delete", name);
    if (!status.ok()) return status;
    const MutexLock lock(mutex_);
    synced_bytes_.erase(name);
    new_names_.erase(name);
    return target()->DeleteFile(name, options, debug);
  }
  IOStatus NewDirectory(const std::string& name, const IOOptions& options,
                        std::unique_ptr<rocksdb::FSDirectory>* directory, Debug* debug) override {
    std::unique_ptr<rocksdb::FSDirectory> inner;
    const IOStatus status = target()->NewDirectory(name, options, &inner, debug);
    if (status.ok()) *directory = std::make_unique<Directory>(std::move(inner), name, this);
    return status;
  }

 private:
  class File final : public rocksdb::FSWritableFileOwnerWrapper {
   public:
    File(std::unique_ptr<rocksdb::FSWritableFile> inner, std::string name, FailingFileSystem* owner)
        : FSWritableFileOwnerWrapper(std::move(inner)), name_(std::move(name)), owner_(owner) {}

    IOStatus Append(const rocksdb::Slice& data, const IOOptions& options, Debug* debug) override {
      const IOStatus status = owner_->Change("append", name_);
      if (!status.ok()) return status;
      return FSWritableFileOwnerWrapper::Append(data, options, debug);
    }
    IOStatus Append(const rocksdb::Slice& data, const IOOptions& options,
                    const rocksdb::DataVerificationInfo& info, Debug* debug) override {
      const IOStatus status = owner_->Change("append", name_);
      if (!status.ok()) return status;
      return FSWritableFileOwnerWrapper::Append(data, options, info, debug);
    }
    IOStatus Sync(const IOOptions& options, Debug* debug) override {
      IOStatus status = owner_->Change("sync", name_);
      if (!status.ok()) return status;
      status = FSWritableFileOwnerWrapper::Sync(options, debug);
      if (status.ok()) owner_->Synced(name_);
      return status;
    }
    IOStatus Fsync(const IOOptions& options, Debug* debug) override {
      IOStatus status = owner_->Change("fsync", name_);
      if (!status.ok()) return status;
      status = FSWritableFileOwnerWrapper::Fsync(options, debug);
      if (status.ok()) owner_->Synced(name_);
      return status;
    }
    IOStatus Truncate(uint64_t size, const IOOptions& options, Debug* debug) override {
      const IOStatus status = owner_->Change("truncate", name_);
      if (!status.ok()) return status;
      return FSWritableFileOwnerWrapper::Truncate(size, options, debug);
    }

   private:
    const std::string name_;
    FailingFileSystem* const owner_;
  };

  class Directory final : public rocksdb::FSDirectoryWrapper {
   public:
    Directory(std::unique_ptr<rocksdb::FSDirectory> inner, std::string name,
              FailingFileSystem* owner)
        : FSDirectoryWrapper(std::move(inner)), name_(std::move(name)), owner_(owner) {}

    IOStatus Fsync(const IOOptions& options, Debug* debug) override {
      IOStatus status = owner_->Change("sync directory", name_);
      if (!status.ok()) return status;
      status = FSDirectoryWrapper::Fsync(options, debug);
      if (status.ok()) owner_->DirectorySynced();
      return status;
    }
    IOStatus FsyncWithDirOptions(const IOOptions& options, Debug* debug,
                                 const rocksdb::DirFsyncOptions& how) override {
      IOStatus status = owner_->Change("sync directory", name_);
      if (!status.ok()) return status;
      status = FSDirectoryWrapper::FsyncWithDirOptions(options, debug, how);
      if (status.ok()) owner_->DirectorySynced();
      return status;
    }

   private:
    const std::string name_;
    FailingFileSystem* const owner_;
  };

  static bool IsChatter(const std::string& name) {
    return name.find("/LOG") != std::string::npos;  // nobody depends on RocksDB's own log
  }

  IOStatus Change(const char* what, const std::string& name) {
    if (stopped_) return IOStatus::IOError("the machine has stopped");
    if (IsChatter(name)) return IOStatus::OK();
    if (++changes_ != fail_at_) return IOStatus::OK();
    const MutexLock lock(mutex_);
    failed_what_ = std::string(what) + " " + name.substr(name.rfind('/') + 1);
    return IOStatus::IOError("injected EIO: " + failed_what_);
  }
  void Synced(const std::string& name) {
    struct stat file {};
    if (::stat(name.c_str(), &file) != 0) return;
    const MutexLock lock(mutex_);
    synced_bytes_[name] = file.st_size;
  }
  void DirectorySynced() {
    const MutexLock lock(mutex_);
    new_names_.clear();
  }

  std::atomic<int64_t> changes_{0};
  std::atomic<int64_t> fail_at_{0};
  std::atomic<bool> stopped_{false};
  int lost_errors_ = 0;
  mutable Mutex mutex_;
  std::string failed_what_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, int64_t> synced_bytes_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> new_names_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace icepie

#endif  // ICEPIE_TESTS_CORE_FAILING_FILE_SYSTEM_H_
