#include "core/verify/backup.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "core/append/catalog_changes.h"
#include "core/base/directory.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/log/high_water_mark.h"
#include "core/proof/tree_store.h"
#include "core/segment/segment_set.h"

namespace icepie {
namespace {

namespace fs = std::filesystem;

constexpr size_t kPieceBytes = size_t{1} << 20;
constexpr int kSecretMode = 0600;

std::string WorkOf(const std::string& target) { return absl::StrCat(target, ".incomplete"); }
std::string MarkPath(const std::string& directory) { return absl::StrCat(directory, "/backup"); }

bool IsWithin(const fs::path& inner, const fs::path& outer) {
  return absl::StartsWith(inner.string() + "/", outer.string() + "/");
}

absl::Status CheckTarget(const std::string& source, const std::string& target) {
  std::error_code error;
  const fs::path from = fs::weakly_canonical(source, error);
  const fs::path to = fs::weakly_canonical(target, error);
  if (!fs::path(target).is_absolute() || IsWithin(to, from.parent_path()) || IsWithin(from, to)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a backup's directory is an absolute path outside ",
                     from.parent_path().string(), ", not ", target));
  }
  for (const std::string& path : {target, WorkOf(target)}) {
    if (!fs::exists(path, error)) continue;
    return MakeError(absl::StatusCode::kFailedPrecondition,
                     absl::StrCat(path, " exists already; name a directory that is empty or new"),
                     "BACKUP_DIRECTORY_NOT_EMPTY", {{"path", path}});
  }
  return absl::OkStatus();
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

class Backup {
 public:
  Backup(std::string source, const LogStore& store, SegmentSet& sealed, std::string target,
         const BackupProgress& progress)
      : source_(std::move(source)),
        store_(store),
        sealed_(sealed),
        files_(sealed.KeepFiles()),
        target_(std::move(target)),
        work_(WorkOf(target_)),
        progress_(progress) {}

  absl::StatusOr<BackupResult> Run() {
    ICEPIE_RETURN_IF_ERROR(CheckTarget(source_, target_));
    ICEPIE_RETURN_IF_ERROR(MakeDirectories(work_));
    absl::Status status = Copy();
    if (status.ok() && ::rename(work_.c_str(), target_.c_str()) != 0) {
      status = ErrnoError(errno, absl::StrCat("rename ", work_, " to ", target_));
    }
    if (status.ok()) status = SyncDirectory(absl::StrCat(target_, "/.."));
    if (status.ok()) return result_;
    std::error_code error;
    fs::remove_all(work_, error);
    return status;
  }

 private:
  absl::Status Copy() {
    // Before the log, so that it has what was signed.
    for (const char* name : {"signing_key", "checkpoint"}) {
      const absl::StatusOr<std::string> content = ReadFile(absl::StrCat(source_, "/", name));
      if (absl::IsNotFound(content.status())) continue;  // verify says what that means
      if (!content.ok()) return content.status();
      ICEPIE_RETURN_IF_ERROR(
          WriteFileAtomically(absl::StrCat(work_, "/", name), *content, kSecretMode));
    }
    const std::string log = absl::StrCat(work_, "/rocksdb");
    ICEPIE_RETURN_IF_ERROR(store_.CopyTo(log));
    ICEPIE_RETURN_IF_ERROR(SyncAll(log));
    ICEPIE_RETURN_IF_ERROR(ReadCopy(log));
    ICEPIE_RETURN_IF_ERROR(CopySegments());
    ICEPIE_RETURN_IF_ERROR(WriteFileAtomically(
        MarkPath(work_), absl::StrCat("icepie backup\nrecords ", result_.head_position, "\nroot ",
                                      absl::BytesToHexString(ViewOf(result_.root)), "\ntime ",
                                      absl::FormatTime(absl::Now(), absl::UTCTimeZone()), "\n")));
    return SyncDirectory(work_);
  }

  // RocksDB syncs what it has copied not quite: a log that still grows may be a plain copy.
  absl::Status SyncAll(const std::string& directory) {
    std::error_code error;
    const auto files = DirectoryEntries(directory, error);
    if (error) return ErrnoError(error.value(), absl::StrCat("read ", directory));
    for (const auto& file : files) {
      ICEPIE_RETURN_IF_ERROR(SyncFile(file.path().string()));
      result_.bytes += static_cast<int64_t>(fs::file_size(file.path(), error));
    }
    if (error) return ErrnoError(error.value(), absl::StrCat("read ", directory));
    return SyncDirectory(directory);
  }

  // What the copied log itself says that it holds: it must be opened to know.
  absl::Status ReadCopy(const std::string& log) {
    ICEPIE_ASSIGN_OR_RETURN(const auto copy,
                            LogStore::Open({log, LogStore::Mode::kReadOnly, nullptr}));
    ICEPIE_ASSIGN_OR_RETURN(const auto segments,
                            SegmentSet::Load(*copy, absl::StrCat(source_, "/", kSegmentDirectory)));
    ICEPIE_ASSIGN_OR_RETURN(const std::optional<BlockPlace> last, copy->LastPlace());
    result_.head_position = last ? last->end_position() : segments->sealed_position();
    ICEPIE_ASSIGN_OR_RETURN(const TileWriter tree, LoadTree(*copy, result_.head_position));
    ICEPIE_ASSIGN_OR_RETURN(const int64_t changes, CountCatalogChanges(*copy));
    HighWater mark{result_.head_position, std::nullopt, changes};
    if (tree.size() == result_.head_position) mark.root = result_.root = tree.Root();
    segments_ = segments->List();
    files_ = sealed_.KeepOnly(files_, segments_);
    return HighWaterMark::Reset(absl::StrCat(work_, "/", kHighWaterMarkFile), mark);
  }

  absl::Status CopySegments() {
    const std::string directory = absl::StrCat(work_, "/", kSegmentDirectory);
    ICEPIE_RETURN_IF_ERROR(MakeDirectories(directory));
    total_bytes_ = result_.bytes;
    for (const auto& segment : segments_) total_bytes_ += segment->file_bytes;
    ICEPIE_RETURN_IF_ERROR(Tell());
    for (const auto& segment : segments_) {
      const std::string name = absl::StrCat("/", segment->file_name());
      ICEPIE_RETURN_IF_ERROR(
          LinkOrCopy(absl::StrCat(source_, "/", kSegmentDirectory, name), directory + name));
      ICEPIE_RETURN_IF_ERROR(Tell());
    }
    return SyncDirectory(directory);
  }

  absl::Status LinkOrCopy(const std::string& from, const std::string& to) {
    if (::link(from.c_str(), to.c_str()) == 0) {
      std::error_code error;
      result_.bytes += static_cast<int64_t>(fs::file_size(to, error));
      return absl::OkStatus();
    }
    if (errno != EXDEV && errno != EPERM && errno != EMLINK) {
      return ErrnoError(errno, absl::StrCat("link ", from, " to ", to));
    }
    const Descriptor in(::open(from.c_str(), O_RDONLY | O_CLOEXEC));
    if (in.get() < 0) return ErrnoError(errno, absl::StrCat("open ", from));
    const Descriptor out(::open(to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kSecretMode));
    if (out.get() < 0) return ErrnoError(errno, absl::StrCat("create ", to));
    return CopyBytes(in.get(), out.get(), to);
  }

  absl::Status CopyBytes(int in, int out, const std::string& to) {
    std::string piece(kPieceBytes, '\0');
    while (true) {
      const ssize_t got = ::read(in, piece.data(), piece.size());
      if (got < 0) return ErrnoError(errno, absl::StrCat("read for ", to));
      if (got == 0) break;
      ICEPIE_RETURN_IF_ERROR(WriteAll(out, absl::string_view(piece).substr(0, got), to));
      result_.bytes += got;
      ICEPIE_RETURN_IF_ERROR(Tell());
    }
    return ::fsync(out) == 0 ? absl::OkStatus() : ErrnoError(errno, absl::StrCat("fsync ", to));
  }

  absl::Status Tell() {
    if (progress_(result_.bytes, total_bytes_)) return absl::OkStatus();
    return absl::CancelledError("the backup was cancelled");
  }

  const std::string source_;
  const LogStore& store_;
  SegmentSet& sealed_;
  std::shared_ptr<const void> files_;  // the copied log may name one that is replaced by now
  const std::string target_;
  const std::string work_;
  const BackupProgress& progress_;
  std::vector<std::shared_ptr<const SegmentEntry>> segments_;  // of the copy
  int64_t total_bytes_ = 0;
  BackupResult result_;
};

}  // namespace

absl::StatusOr<BackupResult> BackUp(const std::string& source, const LogStore& store,
                                    SegmentSet& segments, const std::string& target,
                                    const BackupProgress& progress) {
  return Backup(source, store, segments, target, progress).Run();
}

absl::StatusOr<std::optional<std::string>> ReadBackupMark(const std::string& core_directory) {
  absl::StatusOr<std::string> mark = ReadFile(MarkPath(core_directory));
  if (absl::IsNotFound(mark.status())) return std::nullopt;
  if (!mark.ok()) return mark.status();
  return absl::StrReplaceAll(absl::StripTrailingAsciiWhitespace(*mark), {{"\n", ", "}});
}

absl::Status RemoveBackupMark(const std::string& core_directory) {
  const std::string path = MarkPath(core_directory);
  if (::unlink(path.c_str()) != 0) return ErrnoError(errno, absl::StrCat("remove ", path));
  return SyncDirectory(core_directory);
}

absl::Status CheckBackupFinished(const std::string& core_directory) {
  std::error_code error;
  if (fs::exists(core_directory, error) || !fs::exists(WorkOf(core_directory), error)) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      absl::StrCat(WorkOf(core_directory),
                   " is a backup that did not come to its end; use another, or remove it"));
}

}  // namespace icepie
