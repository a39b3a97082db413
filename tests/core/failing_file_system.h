// RocksDB's file system with faults: the k-th change of the disk, or the k-th call of a kind, which
// may be a read, fails. Every call is counted that changes or reads something or looks at it, of
// every kind of file but RocksDB's own chatter (LOG).
#ifndef ICEPIE_TESTS_CORE_FAILING_FILE_SYSTEM_H_
#define ICEPIE_TESTS_CORE_FAILING_FILE_SYSTEM_H_

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
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
  void FailAt(int64_t k) { FailKind("", k, /*full=*/false); }
  // The same for calls of one kind, e.g. "delete .sst", "read MANIFEST": the call, and what the
  // file's name begins or ends with. It fails as on a full disk if `full`, and an append has
  // written half by then if `in_part`. A read that fails does so once, or KeepFailing() is called.
  void FailKind(const std::string& kind, int64_t k, bool full, bool in_part = false) {
    const MutexLock lock(mutex_);
    changes_ = 0;
    fail_at_ = k;
    fail_kind_ = kind;
    fails_full_ = full;
    fails_in_part_ = in_part;
    fails_more_ = 0;
    failed_ = false;
    made_.clear();
    failed_what_.clear();
    failing_name_.clear();
  }
  // After FailKind: reads of that kind and of the file where one has failed fail `times` more,
  // until Heal(), or it is made anew.
  void KeepFailing(int64_t times = INT64_MAX) {
    const MutexLock lock(mutex_);
    fails_more_ = times;
  }
  // No read fails any more; failed() stays.
  void Heal() {
    const MutexLock lock(mutex_);
    fails_more_ = 0;
  }
  // How many calls of each kind there were since then.
  std::map<std::string, int64_t> made() const {
    const MutexLock lock(mutex_);
    return made_;
  }
  // From now on every read fails that goes beyond byte `from` of files whose path has `name` in it
  // ("": none does): of sectors that the disk has lost.
  void LoseSectors(const std::string& name, uint64_t from) {
    const MutexLock lock(mutex_);
    lost_name_ = name;
    lost_from_ = from;
  }
  // From now on every change fails, as on a disk that became read-only.
  void BecomeReadOnly() { read_only_ = true; }
  // Every change fails as on a full disk, until somebody makes room.
  void SetFull(bool full) { full_ = full; }
  // From now on what is full is so by a quota (EDQUOT), not by the disk's size.
  void SayQuota(bool quota) { says_quota_ = quota; }
  int64_t changes() const { return changes_; }
  // What was tried since SetFull(true), with the files' names.
  std::vector<std::string> tried() const {
    const MutexLock lock(mutex_);
    return tried_;
  }
  bool failed() const { return failed_; }
  std::string failed_what() const {
    const MutexLock lock(mutex_);
    return failed_what_;
  }
  // The kinds of all changes that have failed so far.
  std::set<std::string> failed_kinds() const {
    const MutexLock lock(mutex_);
    return failed_kinds_;
  }

  IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                           std::unique_ptr<rocksdb::FSWritableFile>* file, Debug* debug) override {
    IOStatus status = Change("create", name);
    if (!status.ok()) return status;
    std::unique_ptr<rocksdb::FSWritableFile> inner;
    status = target()->NewWritableFile(name, options, &inner, debug);
    if (!status.ok()) return status;
    *file = std::make_unique<File>(std::move(inner), name, this);
    const MutexLock lock(mutex_);
    if (failing_name_ == name) failing_name_.clear();
    return status;
  }
  IOStatus ReopenWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                              std::unique_ptr<rocksdb::FSWritableFile>* file,
                              Debug* debug) override {
    IOStatus status = Change("reopen", name);
    if (!status.ok()) return status;
    std::unique_ptr<rocksdb::FSWritableFile> inner;
    status = target()->ReopenWritableFile(name, options, &inner, debug);
    if (!status.ok()) return status;
    *file = std::make_unique<File>(std::move(inner), name, this);
    return status;
  }
  IOStatus NewSequentialFile(const std::string& name, const rocksdb::FileOptions& options,
                             std::unique_ptr<rocksdb::FSSequentialFile>* file,
                             Debug* debug) override {
    IOStatus status = Read("open to read", name);
    std::unique_ptr<rocksdb::FSSequentialFile> inner;
    if (status.ok()) status = target()->NewSequentialFile(name, options, &inner, debug);
    if (status.ok()) *file = std::make_unique<SequentialFile>(std::move(inner), name, this);
    return status;
  }
  IOStatus NewRandomAccessFile(const std::string& name, const rocksdb::FileOptions& options,
                               std::unique_ptr<rocksdb::FSRandomAccessFile>* file,
                               Debug* debug) override {
    IOStatus status = Read("open to read", name);
    std::unique_ptr<rocksdb::FSRandomAccessFile> inner;
    if (status.ok()) status = target()->NewRandomAccessFile(name, options, &inner, debug);
    if (status.ok()) *file = std::make_unique<RandomAccessFile>(std::move(inner), name, this);
    return status;
  }
  IOStatus Truncate(const std::string& name, size_t size, const IOOptions& options,
                    Debug* debug) override {
    const IOStatus status = Change("truncate", name);
    return status.ok() ? target()->Truncate(name, size, options, debug) : status;
  }
  IOStatus LinkFile(const std::string& from, const std::string& to, const IOOptions& options,
                    Debug* debug) override {
    const IOStatus status = Change("link", to);
    return status.ok() ? target()->LinkFile(from, to, options, debug) : status;
  }
  IOStatus LockFile(const std::string& name, const IOOptions& options, rocksdb::FileLock** lock,
                    Debug* debug) override {
    const IOStatus status = Change("lock", name);
    return status.ok() ? target()->LockFile(name, options, lock, debug) : status;
  }
  IOStatus CreateDir(const std::string& name, const IOOptions& options, Debug* debug) override {
    const IOStatus status = Change("create directory", name);
    return status.ok() ? target()->CreateDir(name, options, debug) : status;
  }
  IOStatus CreateDirIfMissing(const std::string& name, const IOOptions& options,
                              Debug* debug) override {
    const IOStatus status = Change("create directory", name);
    return status.ok() ? target()->CreateDirIfMissing(name, options, debug) : status;
  }
  IOStatus DeleteDir(const std::string& name, const IOOptions& options, Debug* debug) override {
    const IOStatus status = Change("delete directory", name);
    return status.ok() ? target()->DeleteDir(name, options, debug) : status;
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
    IOStatus status = Read("open directory to read", name);
    std::unique_ptr<rocksdb::FSDirectory> inner;
    if (status.ok()) status = target()->NewDirectory(name, options, &inner, debug);
    if (status.ok()) *directory = std::make_unique<Directory>(std::move(inner), name, this);
    return status;
  }
  IOStatus GetChildren(const std::string& name, const IOOptions& options,
                       std::vector<std::string>* children, Debug* debug) override {
    const IOStatus status = Read("read directory", name);
    return status.ok() ? target()->GetChildren(name, options, children, debug) : status;
  }
  IOStatus GetChildrenFileAttributes(const std::string& name, const IOOptions& options,
                                     std::vector<rocksdb::FileAttributes>* children,
                                     Debug* debug) override {
    const IOStatus status = Read("read directory", name);
    return status.ok() ? target()->GetChildrenFileAttributes(name, options, children, debug)
                       : status;
  }
  IOStatus FileExists(const std::string& name, const IOOptions& options, Debug* debug) override {
    const IOStatus status = Read("read existence", name);
    return status.ok() ? target()->FileExists(name, options, debug) : status;
  }
  IOStatus GetFileSize(const std::string& name, const IOOptions& options, uint64_t* size,
                       Debug* debug) override {
    const IOStatus status = Read("read size", name);
    return status.ok() ? target()->GetFileSize(name, options, size, debug) : status;
  }
  IOStatus GetFileModificationTime(const std::string& name, const IOOptions& options,
                                   uint64_t* time, Debug* debug) override {
    const IOStatus status = Read("read time", name);
    return status.ok() ? target()->GetFileModificationTime(name, options, time, debug) : status;
  }
  IOStatus GetAbsolutePath(const std::string& name, const IOOptions& options, std::string* path,
                           Debug* debug) override {
    const IOStatus status = Read("read path", name);
    return status.ok() ? target()->GetAbsolutePath(name, options, path, debug) : status;
  }
  IOStatus IsDirectory(const std::string& name, const IOOptions& options, bool* is_directory,
                       Debug* debug) override {
    const IOStatus status = Read("read type", name);
    return status.ok() ? target()->IsDirectory(name, options, is_directory, debug) : status;
  }
  IOStatus NumFileLinks(const std::string& name, const IOOptions& options, uint64_t* count,
                        Debug* debug) override {
    const IOStatus status = Read("read links", name);
    return status.ok() ? target()->NumFileLinks(name, options, count, debug) : status;
  }
  IOStatus AreFilesSame(const std::string& first, const std::string& second,
                        const IOOptions& options, bool* same, Debug* debug) override {
    const IOStatus status = Read("read sameness", first);
    return status.ok() ? target()->AreFilesSame(first, second, options, same, debug) : status;
  }
  IOStatus GetFreeSpace(const std::string& name, const IOOptions& options, uint64_t* bytes,
                        Debug* debug) override {
    const IOStatus status = Read("read free space", name);
    return status.ok() ? target()->GetFreeSpace(name, options, bytes, debug) : status;
  }

 private:
  class File final : public rocksdb::FSWritableFileOwnerWrapper {
   public:
    File(std::unique_ptr<rocksdb::FSWritableFile> inner, std::string name, FailingFileSystem* owner)
        : FSWritableFileOwnerWrapper(std::move(inner)), name_(std::move(name)), owner_(owner) {}

    IOStatus Append(const rocksdb::Slice& data, const IOOptions& options, Debug* debug) override {
      const IOStatus status = owner_->Change("append", name_);
      if (!status.ok()) return Failed(data, options, status);
      return FSWritableFileOwnerWrapper::Append(data, options, debug);
    }
    IOStatus Append(const rocksdb::Slice& data, const IOOptions& options,
                    const rocksdb::DataVerificationInfo& info, Debug* debug) override {
      const IOStatus status = owner_->Change("append", name_);
      if (!status.ok()) return Failed(data, options, status);
      return FSWritableFileOwnerWrapper::Append(data, options, info, debug);
    }
    // For direct I/O, which nobody asks for.
    IOStatus PositionedAppend(const rocksdb::Slice& data, uint64_t offset, const IOOptions& options,
                              Debug* debug) override {
      const IOStatus status = owner_->Change("append at", name_);
      if (!status.ok()) return status;
      return FSWritableFileOwnerWrapper::PositionedAppend(data, offset, options, debug);
    }
    IOStatus PositionedAppend(const rocksdb::Slice& data, uint64_t offset, const IOOptions& options,
                              const rocksdb::DataVerificationInfo& info, Debug* debug) override {
      const IOStatus status = owner_->Change("append at", name_);
      if (!status.ok()) return status;
      return FSWritableFileOwnerWrapper::PositionedAppend(data, offset, options, info, debug);
    }
    // Allocates ahead of a write, now and then; RocksDB goes on without it.
    void PrepareWrite(size_t offset, size_t bytes, const IOOptions& options,
                      Debug* debug) override {
      size_t block = 0;
      size_t last_block = 0;
      GetPreallocationStatus(&block, &last_block);
      const bool allocates = block > 0 && (offset + bytes + block - 1) / block > last_block;
      if (allocates && !owner_->Read("allocate", name_).ok()) return;
      FSWritableFileOwnerWrapper::PrepareWrite(offset, bytes, options, debug);
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
    IOStatus RangeSync(uint64_t offset, uint64_t bytes, const IOOptions& options,
                       Debug* debug) override {
      const IOStatus status = owner_->Change("sync range", name_);
      if (!status.ok()) return status;
      return FSWritableFileOwnerWrapper::RangeSync(offset, bytes, options, debug);
    }
    // As close(2) does it: the file is closed all the same.
    IOStatus Close(const IOOptions& options, Debug* debug) override {
      const IOStatus status = owner_->Change("close", name_);
      const IOStatus closed = FSWritableFileOwnerWrapper::Close(options, debug);
      return status.ok() ? closed : status;
    }
    IOStatus Truncate(uint64_t size, const IOOptions& options, Debug* debug) override {
      const IOStatus status = owner_->Change("truncate", name_);
      if (!status.ok()) return status;
      return FSWritableFileOwnerWrapper::Truncate(size, options, debug);
    }

   private:
    IOStatus Failed(const rocksdb::Slice& data, const IOOptions& options, const IOStatus& status) {
      if (!owner_->fails_in_part_) return status;
      FSWritableFileOwnerWrapper::Append({data.data(), data.size() / 2}, options, nullptr)
          .PermitUncheckedError();
      return status;
    }

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

  class SequentialFile final : public rocksdb::FSSequentialFileOwnerWrapper {
   public:
    SequentialFile(std::unique_ptr<rocksdb::FSSequentialFile> inner, std::string name,
                   FailingFileSystem* owner)
        : FSSequentialFileOwnerWrapper(std::move(inner)), name_(std::move(name)), owner_(owner) {}

    IOStatus Read(size_t bytes, const IOOptions& options, rocksdb::Slice* result, char* scratch,
                  Debug* debug) override {
      IOStatus status = owner_->Read("read", name_, read_ + bytes);
      if (!status.ok()) return status;
      status = FSSequentialFileOwnerWrapper::Read(bytes, options, result, scratch, debug);
      if (status.ok()) read_ += result->size();
      return status;
    }

   private:
    const std::string name_;
    FailingFileSystem* const owner_;
    uint64_t read_ = 0;
  };

  class RandomAccessFile final : public rocksdb::FSRandomAccessFileOwnerWrapper {
   public:
    RandomAccessFile(std::unique_ptr<rocksdb::FSRandomAccessFile> inner, std::string name,
                     FailingFileSystem* owner)
        : FSRandomAccessFileOwnerWrapper(std::move(inner)), name_(std::move(name)), owner_(owner) {}

    IOStatus Read(uint64_t offset, size_t bytes, const IOOptions& options, rocksdb::Slice* result,
                  char* scratch, Debug* debug) const override {
      const IOStatus status = owner_->Read("read", name_, offset + bytes);
      if (!status.ok()) return status;
      return FSRandomAccessFileOwnerWrapper::Read(offset, bytes, options, result, scratch, debug);
    }
    IOStatus MultiRead(rocksdb::FSReadRequest* requests, size_t count, const IOOptions& options,
                       Debug* debug) override {
      const IOStatus status = owner_->Read("read many", name_);
      if (!status.ok()) return status;
      return FSRandomAccessFileOwnerWrapper::MultiRead(requests, count, options, debug);
    }
    IOStatus Prefetch(uint64_t offset, size_t bytes, const IOOptions& options,
                      Debug* debug) override {
      const IOStatus status = owner_->Read("read ahead", name_);
      if (!status.ok()) return status;
      return FSRandomAccessFileOwnerWrapper::Prefetch(offset, bytes, options, debug);
    }

   private:
    const std::string name_;
    FailingFileSystem* const owner_;
  };

  static bool IsChatter(const std::string& name) {
    return name.find("/LOG") != std::string::npos;  // nobody depends on RocksDB's own log
  }

  // Directories are asked for with and without a slash behind them.
  static std::string PathOf(const std::string& name) {
    return name.size() > 1 && name.back() == '/' ? name.substr(0, name.size() - 1) : name;
  }

  // What the file is for: "MANIFEST", "CURRENT", ".log", ".sst", …
  static std::string RoleOf(const std::string& name) {
    const std::string path = PathOf(name);
    const std::string base = path.substr(path.rfind('/') + 1);
    const size_t end = base.find_first_of("-.0123456789");
    if (end == 0 && base.find('.') != std::string::npos) return base.substr(base.rfind('.'));
    return base.substr(0, end);
  }

  IOStatus Change(const char* what, const std::string& name) {
    if (IsChatter(name)) return IOStatus::OK();
    if (read_only_) {
      return IOStatus::IOError("injected EIO: Read-only file system: " + std::string(what), name);
    }
    ++changes_;
    const bool full = full_;
    const std::string change = std::string(what) + " " + name.substr(name.rfind('/') + 1);
    const std::string kind = std::string(what) + " " + RoleOf(name);
    const MutexLock lock(mutex_);
    const int64_t of_kind = ++made_[kind];
    const bool fails =
        fail_kind_.empty() ? changes_ == fail_at_ : kind == fail_kind_ && of_kind == fail_at_;
    if (fails) {
      failed_ = true;
      failed_what_ = change;
      failed_kinds_.insert(kind);
    }
    if (full || !tried_.empty()) tried_.push_back(change);
    if (full || (fails && fails_full_)) return NoSpace(change);
    return fails ? IOStatus::IOError("injected EIO: " + change) : IOStatus::OK();
  }

  // A disk that became read-only, or is full, is read all the same.
  IOStatus Read(const char* what, const std::string& name, uint64_t end = 0) {
    if (IsChatter(name)) return IOStatus::OK();
    const std::string kind = std::string(what) + " " + RoleOf(name);
    const MutexLock lock(mutex_);
    const bool is_lost =
        !lost_name_.empty() && end > lost_from_ && name.find(lost_name_) != std::string::npos;
    const bool begins = ++made_[kind] == fail_at_ && kind == fail_kind_;
    if (begins) failing_name_ = PathOf(name);
    const bool goes_on =
        !begins && fails_more_ > 0 && kind == fail_kind_ && PathOf(name) == failing_name_;
    if (goes_on) --fails_more_;
    if (!begins && !goes_on && !is_lost) return IOStatus::OK();
    failed_ = true;
    failed_what_ = kind;
    return IOStatus::IOError("injected EIO: " + kind, name + ": Input/output error");
  }

  // As RocksDB's own files say it.
  IOStatus NoSpace(const std::string& change) const {
    if (says_quota_) return IOStatus::IOError("injected EDQUOT: " + change, "Disk quota exceeded");
    IOStatus status = IOStatus::NoSpace("injected ENOSPC: " + change);
    status.SetRetryable(true);
    return status;
  }

  std::atomic<int64_t> changes_{0};
  std::atomic<bool> read_only_{false};
  std::atomic<bool> full_{false};
  std::atomic<bool> says_quota_{false};
  std::atomic<bool> failed_{false};
  std::atomic<bool> fails_in_part_{false};
  mutable Mutex mutex_;
  std::string failed_what_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> failed_kinds_ ABSL_GUARDED_BY(mutex_);
  int64_t fail_at_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string fail_kind_ ABSL_GUARDED_BY(mutex_);  // "": of any
  bool fails_full_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t fails_more_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string failing_name_ ABSL_GUARDED_BY(mutex_);  // of the file whose read has failed
  std::string lost_name_ ABSL_GUARDED_BY(mutex_);
  uint64_t lost_from_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, int64_t> made_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> tried_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace icepie

#endif  // ICEPIE_TESTS_CORE_FAILING_FILE_SYSTEM_H_
