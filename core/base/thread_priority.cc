#include "core/base/thread_priority.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <ctime>

namespace icepie {

ThreadName ThisThread() { return {::pthread_self(), static_cast<int>(::syscall(SYS_gettid))}; }

namespace {

// As the kernel's, which the C library does not declare.
struct SchedulerAttributes {
  uint32_t size = sizeof(SchedulerAttributes);
  uint32_t policy = SCHED_OTHER;
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t slice_ns = 0;  // 0: the system's
  uint64_t deadline_ns = 0;
  uint64_t period_ns = 0;
};

bool SetSlice(uint64_t slice_ns) {
  SchedulerAttributes attributes;
  attributes.nice = ::getpriority(PRIO_PROCESS, 0);
  attributes.slice_ns = slice_ns;
  return ::syscall(SYS_sched_setattr, 0, &attributes, 0) == 0;
}

}  // namespace

bool AskForShortSlices() { return SetSlice(200'000); }

bool AskForNormalSlices() { return SetSlice(0); }

namespace {

bool BecomeBulk() {
  constexpr int kBulkNice = 15;
  const sched_param none = {};
  return ::sched_setscheduler(0, SCHED_BATCH, &none) == 0 &&
         ::setpriority(PRIO_PROCESS, 0, kBulkNice) == 0;
}

// Nobody else's; the C library takes the first ones of the kernel's for itself.
int BulkSignal() { return SIGRTMIN + 5; }

bool HandleBulkSignal() {
  struct sigaction action = {};
  action.sa_handler = [](int) {
    const int interrupted = errno;
    (void)BecomeBulk();
    errno = interrupted;
  };
  action.sa_flags = SA_RESTART;
  return ::sigaction(BulkSignal(), &action, nullptr) == 0;
}

}  // namespace

// The sandbox of a worker lets each thread speak for itself alone: a signal makes it do so.
bool MakeBulk(const ThreadName& thread) {
  static const bool handled = HandleBulkSignal();
  return handled && ::syscall(SYS_tgkill, ::getpid(), thread.id, BulkSignal()) == 0;
}

bool BeNicer(int steps) {
  const int now = ::getpriority(PRIO_PROCESS, 0);
  const sched_param none = {};
  static_cast<void>(::sched_setscheduler(0, SCHED_BATCH, &none));
  return ::setpriority(PRIO_PROCESS, 0, now + steps) == 0;
}

namespace {

// ioprio_set(2), which the C library does not declare.
bool SetDiskClass(int io_class, int level) {
  constexpr int kWhoProcess = 1;
  constexpr int kClassShift = 13;
  return ::syscall(SYS_ioprio_set, kWhoProcess, 0, (io_class << kClassShift) | level) == 0;
}

}  // namespace

bool BeLastAtDisk() { return SetDiskClass(/*best effort*/ 2, 7); }

bool UseIdleDiskOnly() { return SetDiskClass(/*idle*/ 3, 0); }

bool BeLast() {
  constexpr int kLastNice = 19;
  const bool processor = ::setpriority(PRIO_PROCESS, 0, kLastNice) == 0;
  return UseIdleDiskOnly() && processor;
}

absl::Duration ProcessorTime(const ThreadName& thread) {
  clockid_t clock = 0;
  timespec time = {};
  if (::pthread_getcpuclockid(thread.handle, &clock) != 0) return absl::ZeroDuration();
  if (::clock_gettime(clock, &time) != 0) return absl::ZeroDuration();
  return absl::DurationFromTimespec(time);
}

}  // namespace icepie
