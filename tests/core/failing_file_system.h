// RocksDB's file system with faults: the k-th change of the disk fails.
#ifndef ICEPIE_TESTS_CORE_FAILING_FILE_SYSTEM_H_
#define ICEPIE_TESTS_CORE_FAILING_FILE_SYSTEM_H_

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

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
  // From now on every change fails, as on a disk that became read-only.
  void BecomeReadOnly() { read_only_ = true; }
  // Every change fails as on a full disk, until somebody makes room.
  void SetFull(bool full) { full_ = full; }
  int64_t changes() const { return changes_; }
  // What was tried since SetFull(true), with the files' names.
  std::vector<std::string> tried() const {
    const MutexLock lock(mutex_);
    return tried_;
  }
  bool failed() const { return fail_at_ > 0 && changes_ >= fail_at_; }
  std::string failed_what() const {
    const MutexLock lock(mutex_);
    return failed_what_;
  }

  IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                           std::unique_ptr<rocksdb::FSWritableFile>* file, Debug* debug) override {
    IOStatus status = Change("create", name);
    if (!status.ok()) return status;
    std::unique_ptr<rocksdb::FSWritableFile> inner;
    status = target()->NewWritableFile(name, options, &inner, debug);
    if (!status.ok()) return status;
    *file = std::make_unique<File>(std::move(inner), name, this);
    return status;
  }
  IOStatus RenameFile(const std::string& from, const std::string& to, const IOOptions& options,
                      Debug* debug) override {
    const IOStatus status = Change("rename", to);
    if (!status.ok()) return status;
    return target()->RenameFile(from, to, options, debug);
  }
  IOStatus DeleteFile(const std::string& name, const IOOptions& options, Debug* debug) override {
    const IOStatus status = Change("delete", name);
    if (!status.ok()) return status;
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
      const IOStatus status = owner_->Change("sync", name_);
      if (!status.ok()) return status;
      return FSWritableFileOwnerWrapper::Sync(options, debug);
    }
    IOStatus Fsync(const IOOptions& options, Debug* debug) override {
      const IOStatus status = owner_->Change("fsync", name_);
      if (!status.ok()) return status;
      return FSWritableFileOwnerWrapper::Fsync(options, debug);
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
      const IOStatus status = owner_->Change("sync directory", name_);
      if (!status.ok()) return status;
      return FSDirectoryWrapper::Fsync(options, debug);
    }
    IOStatus FsyncWithDirOptions(const IOOptions& options, Debug* debug,
                                 const rocksdb::DirFsyncOptions& how) override {
      const IOStatus status = owner_->Change("sync directory", name_);
      if (!status.ok()) return status;
      return FSDirectoryWrapper::FsyncWithDirOptions(options, debug, how);
    }

   private:
    const std::string name_;
    FailingFileSystem* const owner_;
  };

  static bool IsChatter(const std::string& name) {
    return name.find("/LOG") != std::string::npos;  // nobody depends on RocksDB's own log
  }

  IOStatus Change(const char* what, const std::string& name) {
    if (IsChatter(name)) return IOStatus::OK();
    if (read_only_) {
      return IOStatus::IOError("injected EIO: Read-only file system: " + std::string(what), name);
    }
    const bool fails = ++changes_ == fail_at_;
    const bool full = full_;
    if (!fails && !full && tried().empty()) return IOStatus::OK();
    const std::string change = std::string(what) + " " + name.substr(name.rfind('/') + 1);
    const MutexLock lock(mutex_);
    if (fails) failed_what_ = change;
    if (full || !tried_.empty()) tried_.push_back(change);
    if (full) return NoSpace(change);
    return fails ? IOStatus::IOError("injected EIO: " + change) : IOStatus::OK();
  }

  // As RocksDB's own files say it.
  static IOStatus NoSpace(const std::string& change) {
    IOStatus status = IOStatus::NoSpace("injected ENOSPC: " + change);
    status.SetRetryable(true);
    return status;
  }

  std::atomic<int64_t> changes_{0};
  std::atomic<int64_t> fail_at_{0};
  std::atomic<bool> read_only_{false};
  std::atomic<bool> full_{false};
  mutable Mutex mutex_;
  std::string failed_what_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> tried_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace icepie

#endif  // ICEPIE_TESTS_CORE_FAILING_FILE_SYSTEM_H_
