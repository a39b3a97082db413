// How many records are committed, and who wants to hear of more.
#ifndef ICEPIE_CORE_APPEND_COMMITTED_HEAD_H_
#define ICEPIE_CORE_APPEND_COMMITTED_HEAD_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>

#include "absl/time/time.h"
#include "core/base/mutex.h"

namespace icepie {

// Threads: any; Advance by one thread at a time.
class CommittedHead {
 public:
  using Listener = std::function<void(int64_t)>;

  int64_t position() const { return position_.load(); }

  // Moves the head, wakes those who wait and calls the listeners.
  void Advance(int64_t position);

  // Returns the head once it is beyond `position` or `timeout` has passed.
  int64_t WaitBeyond(int64_t position, absl::Duration timeout) const;

  int64_t AddListener(Listener listener);
  void RemoveListener(int64_t id);  // returns when no call of it is under way

 private:
  std::atomic<int64_t> position_{0};
  mutable Mutex wait_mutex_;
  mutable CondVar moved_;
  Mutex listeners_mutex_;  // held while they are called
  std::map<int64_t, Listener> listeners_ ABSL_GUARDED_BY(listeners_mutex_);
  int64_t next_listener_ ABSL_GUARDED_BY(listeners_mutex_) = 1;
};

}  // namespace icepie

#endif  // ICEPIE_CORE_APPEND_COMMITTED_HEAD_H_
