#include "server/worker/life.h"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <thread>

#include "core/base/file.h"

namespace icepie::server {
namespace {

// The list is the thread's own, in place of the C library's: it must never use robust mutexes.
void Hold(std::atomic<uint32_t>& word) {
  static robust_list entry;
  static robust_list_head head;
  entry.next = &head.list;
  head.list.next = &entry;
  head.futex_offset = reinterpret_cast<char*>(&word) - reinterpret_cast<char*>(&entry);
  head.list_op_pending = nullptr;
  if (::syscall(SYS_set_robust_list, &head, sizeof head) != 0) return;
  word = static_cast<uint32_t>(::syscall(SYS_gettid)) | FUTEX_WAITERS;
  while (true) ::pause();
}

}  // namespace

absl::Status HoldLife(int fd) {
  void* memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  const int error = errno;
  ::close(fd);
  if (memory == MAP_FAILED) return ErrnoError(error, "mapping the page that says that it lives");
  std::thread([memory] { Hold(*static_cast<std::atomic<uint32_t>*>(memory)); }).detach();
  return absl::OkStatus();
}

}  // namespace icepie::server
