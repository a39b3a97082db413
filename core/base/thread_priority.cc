#include "core/base/thread_priority.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

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

bool MakeBulk(const ThreadName& thread) {
  constexpr int kBulkNice = 15;
  const sched_param none = {};
  return ::sched_setscheduler(thread.id, SCHED_BATCH, &none) == 0 &&
         ::setpriority(PRIO_PROCESS, static_cast<id_t>(thread.id), kBulkNice) == 0;
}

bool BeNicer(int steps) {
  const auto thread = static_cast<id_t>(ThisThread().id);
  const int now = ::getpriority(PRIO_PROCESS, thread);
  const sched_param none = {};
  static_cast<void>(::sched_setscheduler(0, SCHED_BATCH, &none));
  return ::setpriority(PRIO_PROCESS, thread, now + steps) == 0;
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
  const bool processor =
      ::setpriority(PRIO_PROCESS, static_cast<id_t>(ThisThread().id), kLastNice) == 0;
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
