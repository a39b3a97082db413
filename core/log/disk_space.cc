#include "core/log/disk_space.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status.h"

namespace icepie {
namespace {

constexpr int64_t kStatBlockBytes = 512;  // the unit of st_blocks, whatever the file system's is
constexpr int64_t kReserveDivisor = 8;
constexpr int64_t kHealDivisor = 4;

bool IsFullDisk(int error) { return error == ENOSPC || error == EDQUOT; }

}  // namespace

absl::StatusOr<int64_t> FreeBytesOf(const std::string& path) {
  struct statvfs disk {};
  if (::statvfs(path.c_str(), &disk) != 0) return ErrnoError(errno, absl::StrCat("statvfs ", path));
  return static_cast<int64_t>(disk.f_bavail) * static_cast<int64_t>(disk.f_frsize);
}

DiskSpace::DiskSpace(Options options)
    : options_(std::move(options)), ballast_path_(options_.directory + "/ballast") {
  const MutexLock lock(mutex_);
  has_ballast_ = HasBallast();
}

int64_t DiskSpace::BytesForBallast() const {
  return options_.free_bytes_min + options_.ballast_bytes;
}

int64_t DiskSpace::BytesToHeal() const {
  const int64_t more = was_low_.load() ? options_.free_bytes_min / kHealDivisor : 0;
  return BytesForBallast() + more;
}

bool DiskSpace::HasBallast() const {
  struct stat file {};
  return options_.ballast_bytes > 0 && ::stat(ballast_path_.c_str(), &file) == 0 &&
         file.st_size == options_.ballast_bytes &&
         static_cast<int64_t>(file.st_blocks) * kStatBlockBytes >= options_.ballast_bytes;
}

int DiskSpace::Allocate(int64_t bytes) const {
  const int fd = ::open(ballast_path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  int error = fd < 0 ? errno : 0;
  // Not posix_fallocate: where the file system has no fallocate it writes every block.
  if (fd >= 0 && ::fallocate(fd, 0, 0, bytes) != 0) error = errno;
  if (fd >= 0) ::close(fd);
  return error;
}

bool DiskSpace::MakeBallast() {
  const int error = Allocate(options_.ballast_bytes);
  has_ballast_ = error == 0;
  if (has_ballast_) return true;
  ::unlink(ballast_path_.c_str());
  if (!std::exchange(ballast_failed_, true)) {
    spdlog::warn("core: {} of {} bytes cannot be made ({})", ballast_path_, options_.ballast_bytes,
                 std::strerror(error));
  }
  tried_ballast_ = true;
  // A file system without fallocate has to do without ballast.
  return !IsFullDisk(error);
}

void DiskSpace::BecomeFull() {
  if (full_.exchange(true)) return;
  if (::unlink(ballast_path_.c_str()) != 0 && errno != ENOENT) {
    spdlog::error("core: {} cannot be removed: {}", ballast_path_, std::strerror(errno));
  }
  has_ballast_ = false;
  spdlog::error("core: disk full, appends are refused: {}", Figures());
}

// At a start no write has told it yet, and the first one would have no ballast to take.
void DiskSpace::BecomeFullByQuota() {
  was_told_ = true;
  BecomeFull();
}

void DiskSpace::MakeWhole(int64_t free) {
  if (options_.ballast_bytes > 0 && !has_ballast_ && !MakeBallast()) return BecomeFullByQuota();
  was_told_ = false;
  was_low_ = false;
  if (!full_.exchange(false)) return;
  spdlog::warn("core: {} bytes are free: appends are taken again", free);
}

void DiskSpace::Update() {
  if (!watched()) return;
  const absl::StatusOr<int64_t> free = options_.free_bytes(options_.directory);
  if (!free.ok()) return;
  free_bytes_.store(*free);
  const MutexLock lock(mutex_);
  const bool is_first = !std::exchange(has_looked_, true);
  if (*free < options_.free_bytes_min) {
    was_low_ = true;
    if (!full_) BecomeFull();
    return;
  }
  const bool wants_ballast = options_.ballast_bytes > 0 && !has_ballast_ && !ballast_failed_;
  if (!full_ && !wants_ballast) return;
  if (*free >= BytesToHeal()) return MakeWhole(*free);
  // It would not leave the watermark free, but that there is room for it says that no quota is used
  // up. There is none for one that is larger than what is free, and that says nothing.
  if (is_first && *free > options_.ballast_bytes && !HasRoomForBallast()) BecomeFullByQuota();
}

bool DiskSpace::HasRoomForBallast() const {
  const int error = Allocate(options_.ballast_bytes);
  ::unlink(ballast_path_.c_str());
  return !IsFullDisk(error);
}

bool DiskSpace::GiveBallast() {
  if (!watched()) return false;
  const absl::StatusOr<int64_t> free = options_.free_bytes(options_.directory);
  if (free.ok()) free_bytes_.store(*free);
  const MutexLock lock(mutex_);
  const bool had_ballast = has_ballast_;
  if (free.ok() && *free < options_.free_bytes_min) was_low_ = true;
  if (had_ballast) BecomeFull();
  was_told_ = was_told_ || had_ballast;
  return had_ballast || std::exchange(tried_ballast_, false);
}

std::string DiskSpace::Figures() const {
  if (free_bytes() < BytesToHeal()) {
    return absl::StrCat("the disk of ", options_.directory, " is nearly full: ", free_bytes(),
                        " bytes are free, ", options_.free_bytes_min,
                        " are kept (core.free_bytes_min), and ", BytesToHeal(), " end the refusal");
  }
  return absl::StrCat("the disk of ", options_.directory, " has ", free_bytes(),
                      " bytes free, but refuses to take more, as where a quota is used up; room "
                      "for ",
                      options_.ballast_bytes, " bytes (core.ballast_bytes) ends the refusal");
}

absl::Status DiskSpace::FullError() const {
  return MakeError(
      absl::StatusCode::kResourceExhausted,
      absl::StrCat(
          Figures(),
          "; nothing was stored. Free or add space: appends are taken again by themselves"),
      "CORE_DISK_FULL",
      {{"free_bytes", absl::StrCat(free_bytes())},
       {"needed_bytes", absl::StrCat(BytesToHeal())},
       {"path", options_.directory}});
}

absl::Status DiskSpace::CheckAppend() const { return full() ? FullError() : absl::OkStatus(); }

absl::Status DiskSpace::CheckReserve() {
  if (!full()) return absl::OkStatus();
  if (free_bytes() < options_.free_bytes_min / kReserveDivisor) return FullError();
  const MutexLock lock(mutex_);
  if (!was_told_) return absl::OkStatus();
  // No figure tells what is left of the ballast's room.
  const int error = Allocate(options_.ballast_bytes / kReserveDivisor);
  ::unlink(ballast_path_.c_str());
  tried_ballast_ = true;
  return IsFullDisk(error) ? FullError() : absl::OkStatus();
}

}  // namespace icepie
