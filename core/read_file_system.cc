#include "core/read_file_system.h"

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"

namespace icepie {
namespace {

using rocksdb::FSRandomAccessFile;
using rocksdb::FSSequentialFile;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;

// RocksDB keeps no errno, but what the C library calls it.
bool IsOfTheDisk(const IOStatus& status) {
  constexpr int kErrors[] = {EIO, EUCLEAN, EBADMSG};  // the last two: a file system's own checks
  if (!status.IsIOError()) return false;
  const std::string text = status.ToString();
  for (const int error : kErrors) {
    if (absl::StrContains(text, std::strerror(error))) return true;
  }
  return false;
}

// `read`, and again where the disk has refused.
template <typename Read>
IOStatus TryTwice(bool is_damage, const Read& read) {
  IOStatus status = read();
  if (!IsOfTheDisk(status)) return status;
  status = read();
  if (!is_damage || !IsOfTheDisk(status)) return status;
  return IOStatus::Corruption("cannot be read, tried twice", status.ToString());
}

class TwiceReadTable final : public rocksdb::FSRandomAccessFileOwnerWrapper {
 public:
  explicit TwiceReadTable(std::unique_ptr<FSRandomAccessFile> file)
      : FSRandomAccessFileOwnerWrapper(std::move(file)) {}

  IOStatus Read(uint64_t offset, size_t bytes, const IOOptions& options, rocksdb::Slice* result,
                char* scratch, IODebugContext* debug) const override {
    return TryTwice(/*is_damage=*/true, [&] {
      return FSRandomAccessFileOwnerWrapper::Read(offset, bytes, options, result, scratch, debug);
    });
  }
};

class TwiceReadLog final : public rocksdb::FSSequentialFileOwnerWrapper {
 public:
  TwiceReadLog(std::unique_ptr<FSSequentialFile> file, bool is_damage)
      : FSSequentialFileOwnerWrapper(std::move(file)), is_damage_(is_damage) {}

  IOStatus Read(size_t bytes, const IOOptions& options, rocksdb::Slice* result, char* scratch,
                IODebugContext* debug) override {
    size_t done = 0;  // a read that fails has read on up to there
    const IOStatus status = TryTwice(is_damage_, [&] {
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
  const bool is_damage_;
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
        IsDamage(name), [&] { return target()->NewRandomAccessFile(name, options, file, debug); });
    if (status.ok()) *file = std::make_unique<TwiceReadTable>(std::move(*file));
    return status;
  }
  IOStatus NewSequentialFile(const std::string& name, const rocksdb::FileOptions& options,
                             std::unique_ptr<FSSequentialFile>* file,
                             IODebugContext* debug) override {
    IOStatus status = TryTwice(
        IsDamage(name), [&] { return target()->NewSequentialFile(name, options, file, debug); });
    if (status.ok()) *file = std::make_unique<TwiceReadLog>(std::move(*file), IsDamage(name));
    return status;
  }
  IOStatus GetFileSize(const std::string& name, const IOOptions& options, uint64_t* size,
                       IODebugContext* debug) override {
    return TryTwice(IsDamage(name),
                    [&] { return target()->GetFileSize(name, options, size, debug); });
  }
  IOStatus GetChildren(const std::string& name, const IOOptions& options,
                       std::vector<std::string>* children, IODebugContext* debug) override {
    return TryTwice(/*is_damage=*/true, [&] {
      children->clear();
      return target()->GetChildren(name, options, children, debug);
    });
  }

 private:
  bool IsDamage(const std::string& name) const {
    return also_logs_ || !absl::EndsWith(name, ".log");
  }

  const bool also_logs_;
};

}  // namespace

std::unique_ptr<rocksdb::Env> WithLastingReadErrors(rocksdb::Env& env, bool also_logs) {
  return rocksdb::NewCompositeEnv(std::make_shared<ReadFileSystem>(env.GetFileSystem(), also_logs));
}

}  // namespace icepie
