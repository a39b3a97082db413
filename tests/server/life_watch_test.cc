#include "server/supervisor/life_watch.h"

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <ctime>
#include <future>
#include <iterator>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace icepie::server {
namespace {

constexpr auto kPatience = std::chrono::seconds(60);

std::atomic<uint32_t>& Writable(const LifePage& page) {
  void* memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, page.fd(), 0);
  EXPECT_NE(memory, MAP_FAILED);
  return *static_cast<std::atomic<uint32_t>*>(memory);
}

// A process that holds the page's futex as a worker does (server/worker/life.cc), with one thread.
pid_t StartHolder(const LifePage& page) {
  std::atomic<uint32_t>& word = Writable(page);
  static robust_list entry;
  static robust_list_head head;
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  entry.next = &head.list;
  head.list.next = &entry;
  head.futex_offset = reinterpret_cast<char*>(&word) - reinterpret_cast<char*>(&entry);
  ::syscall(SYS_set_robust_list, &head, sizeof head);
  word = static_cast<uint32_t>(::syscall(SYS_gettid)) | FUTEX_WAITERS;
  while (true) ::pause();
}

void End(pid_t pid) {
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
}

// The calling thread, and those that it starts, get `error` from futex_waitv.
bool RefuseWaiting(int error) {
  constexpr uint32_t kFutexWaitvNumber = 449;
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kFutexWaitvNumber, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<uint32_t>(error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter = {std::size(code), code};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

class LifeWatchTest : public testing::Test {
 protected:
  std::shared_ptr<LifePage> MakePage() {
    auto page = LifePage::Make();
    EXPECT_TRUE(page.ok()) << page.status();
    return std::shared_ptr<LifePage>(std::move(*page));
  }
  static void AwaitHeld(const LifePage& page) {
    while (page.word() == 0) ::usleep(100);
  }

  LifeWatch watch_;
};

TEST_F(LifeWatchTest, ADeathIsToldOnceAndOfThatProcessAlone) {
  const auto dies = MakePage(), lives = MakePage();
  std::promise<void> died;
  std::atomic<bool> other{false};
  const pid_t first = StartHolder(*dies), second = StartHolder(*lives);
  watch_.Add(lives, [&] { other = true; });
  watch_.Add(dies, [&] { died.set_value(); });
  AwaitHeld(*dies);
  AwaitHeld(*lives);
  End(first);
  EXPECT_EQ(died.get_future().wait_for(kPatience), std::future_status::ready);
  EXPECT_TRUE(dies->lost());
  EXPECT_FALSE(lives->lost());
  EXPECT_FALSE(other);
  watch_.Remove(watch_.Add(MakePage(), [] {}));
  End(second);
}

TEST_F(LifeWatchTest, OneThatDiedBeforeItWasWatchedIsToldToo) {
  const auto page = MakePage();
  const pid_t pid = StartHolder(*page);
  AwaitHeld(*page);
  End(pid);
  std::promise<void> died;
  watch_.Add(page, [&] { died.set_value(); });
  EXPECT_EQ(died.get_future().wait_for(kPatience), std::future_status::ready);
}

TEST_F(LifeWatchTest, RemovedOnesAreNotTold) {
  const auto removed = MakePage(), kept = MakePage();
  const pid_t first = StartHolder(*removed), second = StartHolder(*kept);
  std::atomic<bool> told{false};
  std::promise<void> died;
  const LifeWatch::Id id = watch_.Add(removed, [&] { told = true; });
  watch_.Add(kept, [&] { died.set_value(); });
  AwaitHeld(*removed);
  AwaitHeld(*kept);
  watch_.Remove(id);
  End(first);
  End(second);
  EXPECT_EQ(died.get_future().wait_for(kPatience), std::future_status::ready);
  EXPECT_FALSE(told);
}

// Of this thread or of the process.
std::chrono::nanoseconds ProcessorTime(clockid_t clock) {
  timespec time{};
  ::clock_gettime(clock, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

TEST_F(LifeWatchTest, OneThatWritesToItsPageAllTheTimeTakesNoProcessor) {
  const auto page = MakePage(), dies = MakePage();
  std::promise<void> died;
  watch_.Add(page, [] {});
  watch_.Add(dies, [&] { died.set_value(); });
  const auto before = ProcessorTime(CLOCK_PROCESS_CPUTIME_ID);
  std::atomic<uint32_t>& word = Writable(*page);
  const auto own = ProcessorTime(CLOCK_THREAD_CPUTIME_ID);
  while (ProcessorTime(CLOCK_THREAD_CPUTIME_ID) - own < std::chrono::milliseconds(200)) {
    word = (word + 1) & 1023;
    ::syscall(SYS_futex, &word, FUTEX_WAKE, 1, nullptr, nullptr, 0);
  }
  const auto written = ProcessorTime(CLOCK_THREAD_CPUTIME_ID) - own;
  const auto watched = ProcessorTime(CLOCK_PROCESS_CPUTIME_ID) - before - written;
  EXPECT_LT(watched.count(), written.count() / 4);
  const pid_t pid = StartHolder(*dies);
  AwaitHeld(*dies);
  End(pid);
  EXPECT_EQ(died.get_future().wait_for(kPatience), std::future_status::ready);
}

TEST_F(LifeWatchTest, MoreThanOneThreadCanWaitForAreWatched) {
  std::vector<std::shared_ptr<LifePage>> pages;
  std::vector<std::promise<void>> died(300);
  for (auto& promise : died) {
    pages.push_back(MakePage());
    watch_.Add(pages.back(), [&promise] { promise.set_value(); });
  }
  for (const size_t i : {size_t{0}, size_t{126}, size_t{127}, size_t{299}}) {
    const pid_t pid = StartHolder(*pages[i]);
    AwaitHeld(*pages[i]);
    End(pid);
    EXPECT_EQ(died[i].get_future().wait_for(kPatience), std::future_status::ready) << i;
  }
}

TEST_F(LifeWatchTest, WhereTheKernelWillNotWaitDeathsAreTold) {
  for (const int error : {ENOSYS, ENOMEM}) {
    const auto page = MakePage();
    const pid_t pid = StartHolder(*page);
    AwaitHeld(*page);
    std::promise<void> died;
    std::thread([&] {
      EXPECT_TRUE(RefuseWaiting(error));
      LifeWatch watch;
      watch.Add(MakePage(), [] {});
      watch.Add(page, [&] { died.set_value(); });
      End(pid);
      EXPECT_EQ(died.get_future().wait_for(kPatience), std::future_status::ready) << error;
    }).join();
  }
}

TEST_F(LifeWatchTest, ThePageStaysAsLargeAsItIsAndAFalseWordIsADeath) {
  const auto page = MakePage();
  EXPECT_NE(::ftruncate(page->fd(), 0), 0) << "reading it would end this process";
  std::promise<void> died;
  std::atomic<uint32_t>& word = Writable(*page);
  word = 12345;  // whatever a worker may write there
  watch_.Add(page, [&] { died.set_value(); });
  word = FUTEX_OWNER_DIED;
  ::syscall(SYS_futex, &word, FUTEX_WAKE, 1, nullptr, nullptr, 0);
  EXPECT_EQ(died.get_future().wait_for(kPatience), std::future_status::ready);
}

}  // namespace
}  // namespace icepie::server
