#include "slices/snapshot/paced_writes.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/time/clock.h"
#include "core/base/check.h"
#include "core/base/steady_clock.h"

namespace icepie::slices {
namespace {

constexpr absl::Duration kPauseMax = absl::Milliseconds(20);  // until `hurry` is asked again
// About 1 ms of a slow disk: the core's sync waits no longer for one.
constexpr size_t kPieceBytes = size_t{256} << 10;

thread_local const PacedWrites* pace_of_thread = nullptr;

// The kernel's own.
ssize_t WriteAt(int file, const void* data, size_t size, off_t offset) {
  return ::syscall(SYS_pwrite64, file, data, size, offset);
}

}  // namespace

PacedWrites::PacedWrites(const WritePace& pace, std::function<bool()> hurry)
    : pace_(pace), hurry_(std::move(hurry)) {
  ICEPIE_CHECK(pace_of_thread == nullptr);
  if (pace_) pace_of_thread = this;
}

PacedWrites::~PacedWrites() { pace_of_thread = nullptr; }

void PacedWrites::WaitForTurn(int64_t bytes) const {
  if (hurry_ && hurry_()) return;
  const absl::Time due = SteadyNow() + pace_(bytes);
  while (SteadyNow() < due && !(hurry_ && hurry_())) {
    absl::SleepFor(std::min(kPauseMax, due - SteadyNow()));
  }
}

namespace {

// Whether these bytes are at the disk, as far as the file system can tell: an error that the disk
// has said to this descriptor is not said again by the next sync.
bool Written(int file, off_t offset, ssize_t size) {
  constexpr unsigned int kAll =
      SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
  if (::sync_file_range(file, offset, size, kAll) == 0) return true;
  // Where the file system cannot, the next sync does it all.
  return errno == EINVAL || errno == ENOSYS || errno == ESPIPE || errno == EOPNOTSUPP;
}

ssize_t WritePaced(const PacedWrites& pace, int file, const void* data, size_t size, off_t offset) {
  size_t written = 0;
  while (written < size) {
    const size_t piece = std::min(kPieceBytes, size - written);
    const off_t at = offset + static_cast<off_t>(written);
    pace.WaitForTurn(static_cast<int64_t>(piece));
    const ssize_t got = WriteAt(file, static_cast<const char*>(data) + written, piece, at);
    if (got < 0) return written > 0 ? static_cast<ssize_t>(written) : got;
    if (!Written(file, at, got)) return -1;
    written += static_cast<size_t>(got);
    if (static_cast<size_t>(got) < piece) break;
  }
  return static_cast<ssize_t>(written);
}

}  // namespace

ssize_t WriteAtPace(int file, const void* data, size_t size, off_t offset) {
  if (pace_of_thread == nullptr) return WriteAt(file, data, size, offset);
  return WritePaced(*pace_of_thread, file, data, size, offset);
}

}  // namespace icepie::slices

// Weak: a test may have one of its own in front of it.
// NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name): the C library's
extern "C" __attribute__((weak)) ssize_t pwrite(int file, const void* data, size_t size,
                                                off_t offset) {
  return icepie::slices::WriteAtPace(file, data, size, offset);
}
