#include "core/log/read_file_system.h"

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace icepie {
namespace {

using rocksdb::FSRandomAccessFile;
using rocksdb::FSSequentialFile;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;

// RocksDB keeps no errno, but what the C library calls it, or where a file is looked for its
// number.
bool IsOfTheDisk(const IOStatus& status) {
  constexpr int kErrors[] = {EIO, EUCLEAN, EBADMSG};  // the last two: a file system's own checks
  if (!status.IsIOError()) return false;
  const std::string text = status.ToString();
  for (const int error : kErrors) {
    if (absl::StrContains(text, std::strerror(error))) return true;
    if (absl::StrContains(text, absl::StrCat("Unexpected error(", error, ")"))) return true;
  }
  return false;
}

// What is said of something that the disk has refused twice.
enum class Refused {
  kError,    // what the disk says
  kDamaged,  // it is there, and lost
  kMissing,
};

// `read`, and again where the disk has refused.
template <typename Read>
IOStatus TryTwice(Refused refused, const Read& read) {
  IOStatus status = read();
  if (!IsOfTheDisk(status)) return status;
  status = read();
  if (refused == Refused::kError || !IsOfTheDisk(status)) return status;
  constexpr char kWhat[] = "cannot be read, tried twice";
  return refused == Refused::kMissing ? IOStatus::NotFound(kWhat, status.ToString())
                                      : IOStatus::Corruption(kWhat, status.ToString());
}

class TwiceReadTable final : public rocksdb::FSRandomAccessFileOwnerWrapper {
 public:
  explicit TwiceReadTable(std::unique_ptr<FSRandomAccessFile> file)
      : FSRandomAccessFileOwnerWrapper(std::move(file)) {}

  IOStatus Read(uint64_t offset, size_t bytes, const IOOptions& options, rocksdb::Slice* result,
                char* scratch, IODebugContext* debug) const override {
    return TryTwice(Refused::kDamaged, [&] {
      return FSRandomAccessFileOwnerWrapper::Read(offset, bytes, options, result, scratch, debug);
    });
  }
  // Each by Read().
  IOStatus MultiRead(rocksdb::FSReadRequest* requests, size_t count, const IOOptions& options,
                     IODebugContext* debug) override {
    return FSRandomAccessFile::MultiRead(requests, count, options, debug);
  }
};

class TwiceReadLog final : public rocksdb::FSSequentialFileOwnerWrapper {
 public:
  TwiceReadLog(std::unique_ptr<FSSequentialFile> file, Refused refused)
      : FSSequentialFileOwnerWrapper(std::move(file)), refused_(refused) {}

  IOStatus Read(size_t bytes, const IOOptions& options, rocksdb::Slice* result, char* scratch,
                IODebugContext* debug) override {
    size_t done = 0;  // a read that fails has read on up to there
    const IOStatus status = TryTwice(refused_, [&] {
      rocksdb::Slice piece(scratch + done, 0);
      IOStatus read =
          FSSequentialFileOwnerWrapper::Read(bytes - done, options, &piece, scratch + done, debug);
      if (piece.data() != scratch + done) {
        std::memmove(scratch + done, piece.data(), piece.size());
      }
      done += piece.size();
      return read;
    });
    *result = rocksdb::Slice(scratch, done);
    return status;
  }

 private:
  const Refused refused_;
};

class ReadFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  ReadFileSystem(const std::shared_ptr<FileSystem>& files, bool also_logs)
      : FileSystemWrapper(files), also_logs_(also_logs) {}
  const char* Name() const override { return "icepie.ReadFileSystem"; }

  IOStatus NewRandomAccessFile(const std::string& name, const rocksdb::FileOptions& options,
                               std::unique_ptr<FSRandomAccessFile>* file,
                               IODebugContext* debug) override {
    IOStatus status = TryTwice(
        MeaningOf(name), [&] { return target()->NewRandomAccessFile(name, options, file, debug); });
    if (status.ok()) *file = std::make_unique<TwiceReadTable>(std::move(*file));
    return status;
  }
  IOStatus NewSequentialFile(const std::string& name, const rocksdb::FileOptions& options,
                             std::unique_ptr<FSSequentialFile>* file,
                             IODebugContext* debug) override {
    IOStatus status = TryTwice(
        MeaningOf(name), [&] { return target()->NewSequentialFile(name, options, file, debug); });
    if (status.ok()) *file = std::make_unique<TwiceReadLog>(std::move(*file), MeaningOf(name));
    return status;
  }
  IOStatus GetFileSize(const std::string& name, const IOOptions& options, uint64_t* size,
                       IODebugContext* debug) override {
    return TryTwice(MeaningOf(name),
                    [&] { return target()->GetFileSize(name, options, size, debug); });
  }
  IOStatus GetChildren(const std::string& name, const IOOptions& options,
                       std::vector<std::string>* children, IODebugContext* debug) override {
    return TryTwice(Refused::kDamaged, [&] {
      children->clear();
      return target()->GetChildren(name, options, children, debug);
    });
  }
  // RocksDB ends there at an error, and the process at damage. Opening the file tells as well
  // whether it is there; what is wrong with it, RocksDB hears when it opens it itself.
  IOStatus FileExists(const std::string& name, const IOOptions& options,
                      IODebugContext* debug) override {
    const IOStatus status =
        TryTwice(Refused::kError, [&] { return target()->FileExists(name, options, debug); });
    const bool is_opened_next = absl::EndsWith(name, "/CURRENT") || IsIdentity(name);
    if (!is_opened_next || !IsOfTheDisk(status)) return status;
    std::unique_ptr<FSSequentialFile> file;
    const IOStatus opened = target()->NewSequentialFile(name, {}, &file, debug);
    return opened.IsPathNotFound() ? IOStatus::NotFound(opened.ToString()) : IOStatus::OK();
  }

 private:
  // RocksDB's name for the database, on which nothing depends: it makes another where there is
  // none, and ends the process where it is damaged.
  static bool IsIdentity(const std::string& name) { return absl::EndsWith(name, "/IDENTITY"); }

  Refused MeaningOf(const std::string& name) const {
    if (IsIdentity(name)) return Refused::kMissing;
    return also_logs_ || !absl::EndsWith(name, ".log") ? Refused::kDamaged : Refused::kError;
  }

  const bool also_logs_;
};

}  // namespace

std::unique_ptr<rocksdb::Env> WithLastingReadErrors(rocksdb::Env& env, bool also_logs) {
  return rocksdb::NewCompositeEnv(std::make_shared<ReadFileSystem>(env.GetFileSystem(), also_logs));
}

}  // namespace icepie
