#include "core/log/quota_file_system.h"

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "core/log/changed_file.h"

namespace icepie {
namespace {

using rocksdb::FSWritableFile;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;

// RocksDB keeps no errno, but what the C library calls it. The result is as RocksDB's own files say
// ENOSPC.
IOStatus QuotaAsFullDisk(IOStatus status) {
  if (!status.IsIOError() || status.IsNoSpace()) return status;
  const std::string text = status.ToString();
  if (!absl::StrContains(text, std::strerror(EDQUOT))) return status;
  IOStatus full = IOStatus::NoSpace(text);
  full.SetRetryable(true);
  return full;
}

// Threads: as ChangedFile.
class QuotaFile final : public ChangedFile {
 public:
  explicit QuotaFile(std::unique_ptr<FSWritableFile> file) : ChangedFile(std::move(file)) {}

  IOStatus Close(const IOOptions& options, IODebugContext* debug) override {
    return QuotaAsFullDisk(ChangedFile::Close(options, debug));
  }

 private:
  IOStatus Change(absl::FunctionRef<IOStatus()> change) override {
    return QuotaAsFullDisk(change());
  }
};

class QuotaDirectory final : public rocksdb::FSDirectoryWrapper {
 public:
  explicit QuotaDirectory(std::unique_ptr<rocksdb::FSDirectory> directory)
      : FSDirectoryWrapper(std::move(directory)) {}

  IOStatus Fsync(const IOOptions& options, IODebugContext* debug) override {
    return QuotaAsFullDisk(FSDirectoryWrapper::Fsync(options, debug));
  }
  IOStatus FsyncWithDirOptions(const IOOptions& options, IODebugContext* debug,
                               const rocksdb::DirFsyncOptions& how) override {
    return QuotaAsFullDisk(FSDirectoryWrapper::FsyncWithDirOptions(options, debug, how));
  }
};

class QuotaFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  explicit QuotaFileSystem(const std::shared_ptr<FileSystem>& files) : FileSystemWrapper(files) {}
  const char* Name() const override { return "icepie.QuotaFileSystem"; }

  IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                           std::unique_ptr<FSWritableFile>* file, IODebugContext* debug) override {
    IOStatus status = QuotaAsFullDisk(target()->NewWritableFile(name, options, file, debug));
    if (status.ok()) *file = std::make_unique<QuotaFile>(std::move(*file));
    return status;
  }
  IOStatus NewDirectory(const std::string& name, const IOOptions& options,
                        std::unique_ptr<rocksdb::FSDirectory>* directory,
                        IODebugContext* debug) override {
    IOStatus status = target()->NewDirectory(name, options, directory, debug);
    if (status.ok()) *directory = std::make_unique<QuotaDirectory>(std::move(*directory));
    return status;
  }
  IOStatus CreateDir(const std::string& name, const IOOptions& options,
                     IODebugContext* debug) override {
    return QuotaAsFullDisk(target()->CreateDir(name, options, debug));
  }
  IOStatus CreateDirIfMissing(const std::string& name, const IOOptions& options,
                              IODebugContext* debug) override {
    return QuotaAsFullDisk(target()->CreateDirIfMissing(name, options, debug));
  }
  IOStatus RenameFile(const std::string& from, const std::string& to, const IOOptions& options,
                      IODebugContext* debug) override {
    return QuotaAsFullDisk(target()->RenameFile(from, to, options, debug));
  }
  IOStatus LinkFile(const std::string& from, const std::string& to, const IOOptions& options,
                    IODebugContext* debug) override {
    return QuotaAsFullDisk(target()->LinkFile(from, to, options, debug));
  }
};

}  // namespace

std::unique_ptr<rocksdb::Env> WithQuotasAsFullDisks(rocksdb::Env& env) {
  return rocksdb::NewCompositeEnv(std::make_shared<QuotaFileSystem>(env.GetFileSystem()));
}

}  // namespace icepie
