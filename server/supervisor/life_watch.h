// Tells at once that a worker has died. A process that held much memory takes its time to go: its
// pidfd and its sockets say so only when the kernel has freed all of it, which is 30 ms for 200 MB
// and 170 ms for 1 GB (measured on a busy machine). The futex that one of its threads holds is let
// go before that, within 0.2 ms.
//
// Each worker gets a page of shared memory of its own, as descriptor kLifeFd. A thread of it
// (server/worker/life.h) writes its id there and names the word in its robust list (futex(2),
// get_robust_list(2)); when the thread ends, the kernel sets FUTEX_OWNER_DIED and wakes who waits.
// Here the page is read and never written, and it cannot be made smaller: whatever a worker does to
// it harms nobody, it can only say falsely that it has died, or never say it. So a worker that says
// so is killed, and its pidfd is watched as well.
#ifndef ICEPIE_SERVER_SUPERVISOR_LIFE_WATCH_H_
#define ICEPIE_SERVER_SUPERVISOR_LIFE_WATCH_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "core/base/mutex.h"

namespace icepie::server {

// The page of one worker.
// Lifetime: any; the worker has its own mapping.
class LifePage {
 public:
  // UNAVAILABLE where the system has no such memory.
  static absl::StatusOr<std::unique_ptr<LifePage>> Make();
  ~LifePage();
  LifePage(const LifePage&) = delete;
  LifePage& operator=(const LifePage&) = delete;

  // For the child, which maps it shared and writable.
  int fd() const { return fd_; }
  const std::atomic<uint32_t>& word() const { return *word_; }
  bool lost() const;

 private:
  LifePage(int fd, const std::atomic<uint32_t>* word) : fd_(fd), word_(word) {}

  int fd_;
  const std::atomic<uint32_t>* word_;
};

// Threads: any; one of its own for every 127 pages.
class LifeWatch {
 public:
  LifeWatch() = default;
  ~LifeWatch();
  LifeWatch(const LifeWatch&) = delete;
  LifeWatch& operator=(const LifeWatch&) = delete;

  // Calls `on_lost` once, from a thread of the watch, when the holder of the page has died, unless
  // Remove comes first. Where the kernel cannot wait for many words (before 5.16) or will not, the
  // pages are looked at every 20 ms.
  using Id = int64_t;
  Id Add(std::shared_ptr<const LifePage> page, std::function<void()> on_lost);
  void Remove(Id id);

 private:
  struct Life {
    Id id = 0;
    std::shared_ptr<const LifePage> page;
    std::function<void()> on_lost;
  };
  // What one thread waits for.
  struct Part {
    std::atomic<uint32_t> changes{0};  // it waits for this, too
    std::vector<Life> lives;
    bool looks = false;  // the thread's: the kernel has refused to wait
    std::thread thread;
  };

  void Run(Part& part);
  static void Changed(Part& part);
  // Those whose holder has died, which are then gone.
  std::vector<std::function<void()>> TakeLost(Part& part) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  Id last_id_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::unique_ptr<Part>> parts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_SUPERVISOR_LIFE_WATCH_H_
