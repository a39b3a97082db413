#include "slices/apply/flight_record.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/thread_priority.h"

namespace icepie::slices {
namespace {

constexpr size_t kSlots = 64;
constexpr size_t kSubjectBytes = 220;
constexpr uint32_t kBeingFilled = UINT32_MAX;  // no activity: nobody reads it

struct Slot {
  std::atomic<uint32_t> activity;
  std::atomic<uint32_t> blamed;
  int64_t begin;
  int64_t end;
  uint32_t size;
  uint32_t thread;
  uint32_t depth;
  char subject[kSubjectBytes];
};
static_assert(sizeof(Slot) == 256 && std::atomic<uint32_t>::is_always_lock_free);

Slot* slots = nullptr;  // set once, before other threads
struct sigaction earlier[NSIG];
thread_local FlightEntry* innermost = nullptr;
thread_local size_t innermost_slot = kSlots;  // for the signal handler

// A stack that overflows is a fatal signal, too: its handler needs another one.
class SignalStack {
 public:
  SignalStack() : memory_(new char[kBytes]) {
    const stack_t stack = {memory_.get(), 0, kBytes};
    sigaltstack(&stack, nullptr);
  }
  ~SignalStack() {
    const stack_t none = {nullptr, SS_DISABLE, 0};
    sigaltstack(&none, nullptr);
  }
  SignalStack(const SignalStack&) = delete;
  SignalStack& operator=(const SignalStack&) = delete;

 private:
  static constexpr size_t kBytes = 64 << 10;
  std::unique_ptr<char[]> memory_;
};

// A signal that another process sent says nothing about what this one was doing.
void OnFatalSignal(int signal, siginfo_t* info, void* /*context*/) {
  const bool sent_by_another = info->si_code <= 0 && info->si_pid != getpid();
  if (!sent_by_another && innermost_slot < kSlots) slots[innermost_slot].blamed = 1;
  // What was to happen before us (the default, or a sanitizer's report) happens now: a fault comes
  // again by itself when this returns, a signal that was sent does not.
  sigaction(signal, &earlier[signal], nullptr);
  if (info->si_code <= 0) raise(signal);
}

size_t TakeSlot() {
  for (size_t i = 0; slots != nullptr && i < kSlots; ++i) {
    uint32_t free = 0;
    if (slots[i].activity.compare_exchange_strong(free, kBeingFilled)) return i;
  }
  return kSlots;
}

}  // namespace

namespace {

constexpr size_t kBytes = kSlots * sizeof(Slot);

absl::StatusOr<void*> MapFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return ErrnoError(errno, absl::StrCat("creating flight record ", path));
  void* memory = MAP_FAILED;
  // Allocated, not sparse: with the disk full, a store would be SIGBUS.
  const int allocated = posix_fallocate(fd, 0, kBytes);
  if (allocated == 0) {
    memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  const int error = allocated != 0 ? allocated : errno;
  close(fd);
  if (memory != MAP_FAILED) return memory;
  unlink(path.c_str());
  return ErrnoError(error, absl::StrCat("mapping ", path));
}

}  // namespace

absl::Status StartFlightRecord(const std::string& path) {
  const absl::StatusOr<void*> file = MapFile(path);
  // A worker that starts on a full disk matters more than who is to blame for its end.
  void* memory =
      file.ok() ? *file
                : mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return file.status();
  slots = static_cast<Slot*>(memory);
  struct sigaction action {};
  action.sa_sigaction = OnFatalSignal;
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT}) {
    sigaction(signal, &action, &earlier[signal]);
  }
  return absl::OkStatus();
}

FlightEntry::FlightEntry(Activity activity, absl::string_view subject, int64_t begin, int64_t end)
    : slot_(TakeSlot()), outer_(innermost), depth_(outer_ == nullptr ? 0 : outer_->depth_ + 1) {
  innermost = this;
  if (slot_ == kSlots) return;
  thread_local const SignalStack stack;
  Slot& slot = slots[slot_];
  slot.blamed = 0;
  slot.begin = begin;
  slot.end = end;
  slot.size = static_cast<uint32_t>(std::min(subject.size(), kSubjectBytes));
  slot.thread = static_cast<uint32_t>(ThisThread().id);
  slot.depth = depth_;
  std::memcpy(slot.subject, subject.data(), slot.size);
  slot.activity = static_cast<uint32_t>(activity);
  innermost_slot = slot_;
}

FlightEntry::~FlightEntry() {
  innermost = outer_;
  innermost_slot = outer_ == nullptr ? kSlots : outer_->slot_;
  if (slot_ < kSlots) slots[slot_].activity = 0;
}

void FlightEntry::Blame() const {
  if (slot_ < kSlots) slots[slot_].blamed = 1;
}

// That thread goes on meanwhile: what is blamed may have just ended, and its slot be another's.
// Who blames ends the process because that thread has not moved for long.
void BlameThread(int thread) {
  Slot* deepest = nullptr;
  for (size_t i = 0; slots != nullptr && i < kSlots; ++i) {
    Slot& slot = slots[i];
    const uint32_t activity = slot.activity;
    if (activity == 0 || activity == kBeingFilled) continue;
    if (slot.thread != static_cast<uint32_t>(thread)) continue;
    if (deepest == nullptr || slot.depth > deepest->depth) deepest = &slot;
  }
  if (deepest != nullptr) deepest->blamed = 1;
}

void BlameThisThread() {
  if (innermost != nullptr) innermost->Blame();
}

std::vector<FlightNote> ReadFlightRecord(const std::string& path) {
  std::vector<FlightNote> notes;
  std::map<uint32_t, std::pair<uint32_t, size_t>> innermost_of;  // thread: depth, index of its note
  const auto bytes = ReadFile(path);
  if (!bytes.ok()) return notes;
  const size_t count = std::min(kSlots, bytes->size() / sizeof(Slot));
  for (size_t i = 0; i < count; ++i) {
    const char* at = bytes->data() + i * sizeof(Slot);
    uint32_t activity = 0;
    uint32_t blamed = 0;
    uint32_t size = 0;
    uint32_t thread = 0;
    uint32_t depth = 0;
    FlightNote note;
    std::memcpy(&activity, at, 4);
    std::memcpy(&blamed, at + offsetof(Slot, blamed), 4);
    std::memcpy(&note.begin, at + offsetof(Slot, begin), 8);
    std::memcpy(&note.end, at + offsetof(Slot, end), 8);
    std::memcpy(&size, at + offsetof(Slot, size), 4);
    std::memcpy(&thread, at + offsetof(Slot, thread), 4);
    std::memcpy(&depth, at + offsetof(Slot, depth), 4);
    if (activity == 0 || activity > static_cast<uint32_t>(Activity::kProbe)) continue;
    if (size > kSubjectBytes) continue;
    note.activity = static_cast<Activity>(activity);
    note.blamed = blamed == 1;
    note.subject.assign(at + offsetof(Slot, subject), size);
    const bool text = std::all_of(note.subject.begin(), note.subject.end(),
                                  [](char c) { return absl::ascii_isgraph(c); });
    if (!text) continue;
    const auto [known, first] = innermost_of.insert({thread, {depth, notes.size()}});
    if (first) {
      notes.push_back(std::move(note));
    } else if (depth > known->second.first) {
      known->second.first = depth;
      notes[known->second.second] = std::move(note);
    }
  }
  return notes;
}

}  // namespace icepie::slices
