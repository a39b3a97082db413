#include "server/supervisor/life_watch.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <system_error>
#include <utility>

#include "core/base/file.h"
#include "spdlog/spdlog.h"

namespace icepie::server {
namespace {

constexpr size_t kPageBytes = 4096;
constexpr size_t kWaitedForMax = 128;    // the kernel's FUTEX_WAITV_MAX
constexpr long kLookEvery = 20'000'000;  // nanoseconds, as the next
constexpr long kMoment = 1'000'000;

// As the kernel's futex_waitv and its number, which older headers do not have.
struct FutexWait {
  uint64_t value = 0;
  uint64_t address = 0;
  uint32_t flags = 0;
  uint32_t reserved = 0;
};
constexpr long kFutexWaitvNumber = 449;
constexpr uint32_t kFutex32 = 2;
constexpr uint32_t kFutexPrivate = 128;

FutexWait WaitFor(const std::atomic<uint32_t>& word, uint32_t value, uint32_t flags) {
  return {value, reinterpret_cast<uintptr_t>(&word), kFutex32 | flags, 0};
}

// Until one of the words is woken or is not what it was; else what kept the kernel from waiting.
int Wait(const std::vector<FutexWait>& words) {
  const long woken =
      ::syscall(kFutexWaitvNumber, words.data(), words.size(), 0, nullptr, CLOCK_MONOTONIC);
  return woken >= 0 || errno == EAGAIN || errno == EINTR ? 0 : errno;
}

// Until `word` is not `value` any more, or the time has passed.
void WaitShortly(const std::atomic<uint32_t>& word, uint64_t value, long nanoseconds) {
  const timespec time = {0, nanoseconds};
  ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, static_cast<uint32_t>(value), &time, nullptr, 0);
}

}  // namespace

absl::StatusOr<std::unique_ptr<LifePage>> LifePage::Make() {
  const int fd = ::memfd_create("icepie-life", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return ErrnoError(errno, "making a worker's page of memory");
  const bool sealed = ::ftruncate(fd, kPageBytes) == 0 &&
                      ::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0;
  void* memory = sealed ? ::mmap(nullptr, kPageBytes, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
  if (memory == MAP_FAILED) {
    const int error = errno;
    ::close(fd);
    return ErrnoError(error, "sealing and mapping a worker's page of memory");
  }
  return std::unique_ptr<LifePage>(
      new LifePage(fd, static_cast<const std::atomic<uint32_t>*>(memory)));
}

LifePage::~LifePage() {
  ::munmap(const_cast<std::atomic<uint32_t>*>(word_), kPageBytes);
  ::close(fd_);
}

bool LifePage::lost() const { return (word_->load() & FUTEX_OWNER_DIED) != 0; }

LifeWatch::~LifeWatch() {
  std::vector<std::unique_ptr<Part>> parts;
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    parts.swap(parts_);
  }
  for (const auto& part : parts) {
    Changed(*part);
    part->thread.join();
  }
}

void LifeWatch::Changed(Part& part) {
  ++part.changes;
  ::syscall(SYS_futex, &part.changes, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX, nullptr, nullptr,
            0);
}

LifeWatch::Id LifeWatch::Add(std::shared_ptr<const LifePage> page, std::function<void()> on_lost) {
  const MutexLock lock(mutex_);
  auto room = std::find_if(parts_.begin(), parts_.end(),
                           [](const auto& part) { return part->lives.size() + 1 < kWaitedForMax; });
  if (room == parts_.end()) {
    auto part = std::make_unique<Part>();
    try {
      part->thread = std::thread([this, run = part.get()] { Run(*run); });
    } catch (const std::system_error& error) {
      spdlog::warn("life watch: {}: deaths are told late", error.what());
      return 0;
    }
    room = parts_.insert(room, std::move(part));
  }
  (*room)->lives.push_back({++last_id_, std::move(page), std::move(on_lost)});
  Changed(**room);
  return last_id_;
}

void LifeWatch::Remove(Id id) {
  const MutexLock lock(mutex_);
  for (const auto& part : parts_) {
    auto& lives = part->lives;
    const auto at =
        std::find_if(lives.begin(), lives.end(), [id](const Life& life) { return life.id == id; });
    if (at == lives.end()) continue;
    lives.erase(at);
    Changed(*part);
  }
}

std::vector<std::function<void()>> LifeWatch::TakeLost(Part& part) {
  std::vector<std::function<void()>> lost;
  for (size_t i = part.lives.size(); i-- > 0;) {
    if (!part.lives[i].page->lost()) continue;
    lost.push_back(std::move(part.lives[i].on_lost));
    part.lives.erase(part.lives.begin() + static_cast<std::ptrdiff_t>(i));
  }
  return lost;
}

void LifeWatch::Run(Part& part) {
  bool woken = false;
  while (true) {
    std::vector<FutexWait> words = {WaitFor(part.changes, part.changes, kFutexPrivate)};
    std::vector<std::shared_ptr<const LifePage>> pages;  // they stay while they are waited for
    std::vector<std::function<void()>> lost;
    {
      const MutexLock lock(mutex_);
      if (stopping_) return;
      // The word's value is read before it is looked at: what comes in between ends the wait.
      for (const Life& life : part.lives) {
        words.push_back(WaitFor(life.page->word(), life.page->word(), 0));
        pages.push_back(life.page);
      }
      lost = TakeLost(part);
    }
    for (const auto& on_lost : lost) on_lost();
    // Somebody was woken, and nobody has died: a worker writes to its word as it likes.
    if (woken && lost.empty()) WaitShortly(part.changes, words[0].value, kMoment);
    woken = lost.empty();
    if (!lost.empty()) continue;
    const int error = Wait(words);
    if (error == 0) continue;
    woken = false;
    if (!std::exchange(part.looks, true)) {
      spdlog::warn("life watch: deaths of workers are looked for and not waited for: {}",
                   ErrnoError(error, "futex_waitv").ToString());
    }
    WaitShortly(part.changes, words[0].value, kLookEvery);
  }
}

}  // namespace icepie::server
