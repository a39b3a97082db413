// Preloaded into the daemon and its workers: moves their wall clock by as many seconds as the file
// says that ICEPIE_CLOCK_SHIFT names (an int64, which a test changes at will). No other clock
// moves. Waits until a time of the wall clock (futexes, as Abseil and so gRPC use them) see the
// jump as they would in the kernel: forwards they end, backwards they last.
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdlib>

namespace {

constexpr int64_t kNanosPerSecond = 1'000'000'000;
constexpr int64_t kLookNanos = 100'000'000;  // how often a wait looks whether the clock was moved

// Mapped before the program confines itself.
const volatile int64_t* Map() {
  const char* path = std::getenv("ICEPIE_CLOCK_SHIFT");
  const int fd = path == nullptr ? -1 : ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return nullptr;
  void* shift = ::mmap(nullptr, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
  ::close(fd);
  return shift == MAP_FAILED ? nullptr : static_cast<const volatile int64_t*>(shift);
}

int64_t Shift() {
  static const volatile int64_t* const shift = Map();
  return shift == nullptr ? 0 : *shift;
}

using GetTime = int (*)(clockid_t, timespec*);
using Call = long (*)(long, ...);

GetTime RealGetTime() {
  static const auto real = reinterpret_cast<GetTime>(::dlsym(RTLD_NEXT, "clock_gettime"));
  return real;
}

Call RealCall() {
  static const auto real = reinterpret_cast<Call>(::dlsym(RTLD_NEXT, "syscall"));
  return real;
}

__attribute__((constructor)) void Prepare() {
  Shift();
  RealGetTime();
  RealCall();
}

int64_t Nanos(const timespec& time) { return time.tv_sec * kNanosPerSecond + time.tv_nsec; }

// Until `until` of the moved clock, in short waits of the real one.
long WaitForFutex(long word, long operation, long value, const timespec& until, long mask) {
  while (true) {
    timespec now{};
    RealGetTime()(CLOCK_REALTIME, &now);
    const int64_t left = Nanos(until) - Shift() * kNanosPerSecond - Nanos(now);
    const int64_t end = Nanos(now) + std::clamp<int64_t>(left, 0, kLookNanos);
    timespec next{};
    next.tv_sec = end / kNanosPerSecond;
    next.tv_nsec = end % kNanosPerSecond;
    const long result = RealCall()(SYS_futex, word, operation, value, &next, 0L, mask);
    if (result == 0 || errno != ETIMEDOUT || left <= kLookNanos) return result;
  }
}

}  // namespace

extern "C" int clock_gettime(clockid_t clock, timespec* time) noexcept {
  const int result = RealGetTime()(clock, time);
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
    time->tv_sec += Shift();
  }
  return result;
}

extern "C" int gettimeofday(timeval* time, void*) noexcept {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  time->tv_sec = now.tv_sec;
  time->tv_usec = now.tv_nsec / 1000;
  return 0;
}

extern "C" time_t time(time_t* out) noexcept {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  if (out != nullptr) *out = now.tv_sec;
  return now.tv_sec;
}

extern "C" long syscall(long number, ...) noexcept {
  va_list arguments;
  va_start(arguments, number);
  long a[6];
  for (long& argument : a) argument = va_arg(arguments, long);
  va_end(arguments);
  const bool waits = number == SYS_futex && (a[1] & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET;
  if (waits && (a[1] & FUTEX_CLOCK_REALTIME) != 0 && a[3] != 0) {
    return WaitForFutex(a[0], a[1], a[2], *reinterpret_cast<const timespec*>(a[3]), a[5]);
  }
  return RealCall()(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
