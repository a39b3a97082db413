#include "server/base/event_loop.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "server/base/executor.h"

namespace icepie::server {
namespace {

constexpr auto kSoon = std::chrono::seconds(60);

TEST(EventLoopTest, RunsPostedTasksInOrderOnItsThread) {
  EventLoop loop;
  std::vector<int> order;
  std::promise<bool> on_loop;
  for (int i = 0; i < 100; ++i) loop.Post([&order, i] { order.push_back(i); });
  loop.Post([&] { on_loop.set_value(loop.OnLoop()); });
  EXPECT_TRUE(on_loop.get_future().get());
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
  EXPECT_FALSE(loop.OnLoop());
}

TEST(EventLoopTest, RunsTimersInTheOrderOfTheirTimes) {
  EventLoop loop;
  std::vector<int> order;
  std::promise<void> last;
  loop.Post([&] {  // both before the loop looks at the time, however long that takes
    loop.RunAfter(absl::Milliseconds(20), [&] {
      order.push_back(2);
      last.set_value();
    });
    loop.RunAfter(absl::Milliseconds(5), [&] { order.push_back(1); });
  });
  ASSERT_EQ(last.get_future().wait_for(kSoon), std::future_status::ready);
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
}

TEST(EventLoopTest, ACancelledTimerDoesNotRun) {
  EventLoop loop;
  std::atomic<bool> ran{false};
  std::promise<void> later;
  loop.Post([&] {
    const auto id = loop.RunAfter(absl::Milliseconds(10), [&] { ran = true; });
    loop.Cancel(id);
  });
  loop.RunAfter(absl::Milliseconds(40), [&] { later.set_value(); });
  ASSERT_EQ(later.get_future().wait_for(kSoon), std::future_status::ready);
  EXPECT_FALSE(ran);
}

TEST(EventLoopTest, ATimerThatIsCancelledByOneThatIsDueWithItDoesNotRun) {
  EventLoop loop;
  std::atomic<bool> ran{false};
  std::promise<void> later;
  loop.Post([&] {  // all before the loop looks at the time
    auto id = std::make_shared<EventLoop::TimerId>(0);
    loop.RunAfter(absl::ZeroDuration(), [&, id] { loop.Cancel(*id); });
    *id = loop.RunAfter(absl::ZeroDuration(), [&] { ran = true; });
    loop.RunAfter(absl::ZeroDuration(), [&] { later.set_value(); });
  });
  ASSERT_EQ(later.get_future().wait_for(kSoon), std::future_status::ready);
  EXPECT_FALSE(ran);
}

TEST(EventLoopTest, ReportsReadableFilesUntilUnwatched) {
  EventLoop loop;
  const int fd = eventfd(0, EFD_CLOEXEC);
  std::promise<void> readable;
  loop.Post([&] {
    const auto once = [&] {
      loop.Unwatch(fd);
      readable.set_value();  // a second call would throw
    };
    EXPECT_TRUE(loop.Watch(fd, once).ok());
    EXPECT_FALSE(loop.Watch(fd, [] {}).ok()) << "and the loop goes on";
  });
  const uint64_t one = 1;
  ASSERT_EQ(write(fd, &one, sizeof(one)), static_cast<ssize_t>(sizeof(one)));
  ASSERT_EQ(readable.get_future().wait_for(kSoon), std::future_status::ready);
  std::promise<void> after;
  loop.RunAfter(absl::Milliseconds(20), [&] { after.set_value(); });
  ASSERT_EQ(after.get_future().wait_for(kSoon), std::future_status::ready);
  loop.Stop();
  close(fd);
}

// Both are readable in one look of the loop; whichever is told first closes the other one.
TEST(EventLoopTest, AFileDoesNotGetTheEventOfAnEarlierOneOfItsNumber) {
  EventLoop loop;
  const int first = eventfd(1, EFD_CLOEXEC);
  const int second = eventfd(1, EFD_CLOEXEC);
  const int quiet = eventfd(0, EFD_CLOEXEC);
  int told = 0;
  bool stale = false;
  std::promise<void> later;
  const auto replace = [&](int self, int other) {
    ++told;
    loop.Unwatch(self);
    loop.Unwatch(other);
    EXPECT_EQ(dup3(quiet, other, O_CLOEXEC), other);  // closes it, too
    EXPECT_TRUE(loop.Watch(other, [&] { stale = true; }).ok());
    loop.Post([&] { later.set_value(); });  // runs after the events that were fetched with this one
  };
  loop.Post([&] {
    EXPECT_TRUE(loop.Watch(first, [&] { replace(first, second); }).ok());
    EXPECT_TRUE(loop.Watch(second, [&] { replace(second, first); }).ok());
  });
  ASSERT_EQ(later.get_future().wait_for(kSoon), std::future_status::ready);
  loop.Stop();
  EXPECT_EQ(told, 1);
  EXPECT_FALSE(stale);
  for (const int fd : {first, second, quiet}) close(fd);
}

TEST(EventLoopTest, DropsWhatWaitsWhenItStops) {
  auto held = std::make_shared<int>(1);
  EventLoop loop;
  loop.RunAfter(absl::Hours(1), [held] {});
  loop.Stop();
  EXPECT_EQ(held.use_count(), 1);
  loop.Post([held] {});
  EXPECT_EQ(held.use_count(), 1);
}

TEST(ExecutorTest, RefusesBeyondItsQueue) {
  Executor executor(1, 2);
  std::promise<void> started;
  std::promise<void> go;
  const auto wait = go.get_future().share();
  ASSERT_TRUE(executor.Run([&started, wait] {
    started.set_value();
    wait.wait();
  }));
  started.get_future().wait();
  EXPECT_TRUE(executor.Run([] {}));
  EXPECT_TRUE(executor.Run([] {}));
  EXPECT_FALSE(executor.Run([] {}));
  go.set_value();
}

TEST(ExecutorTest, OneLineNeverHasAllThreadsNorTheQueue) {
  Executor executor(3, 8);
  std::promise<void> go;
  const auto wait = go.get_future().share();
  std::atomic<int> running{0};
  const auto stand = [&running, wait] {
    ++running;
    wait.wait();
    --running;
  };
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(executor.Run(stand, "shop"));
  while (running < 2) std::this_thread::yield();
  std::promise<void> other;
  EXPECT_TRUE(executor.Run(stand, "shop"));  // waits, though a thread is free
  EXPECT_TRUE(executor.Run([&other] { other.set_value(); }, "network"));
  EXPECT_EQ(other.get_future().wait_for(kSoon), std::future_status::ready);
  EXPECT_LE(running, 2);
  while (!executor.IsFull("shop")) EXPECT_TRUE(executor.Run(stand, "shop"));
  EXPECT_FALSE(executor.Run(stand, "shop"));
  std::promise<void> none;
  EXPECT_TRUE(executor.Run([&none] { none.set_value(); }));
  EXPECT_EQ(none.get_future().wait_for(kSoon), std::future_status::ready);
  // The line goes on as it is left.
  go.set_value();
  std::promise<void> last;
  while (!executor.Run([&last] { last.set_value(); }, "shop")) std::this_thread::yield();
  EXPECT_EQ(last.get_future().wait_for(kSoon), std::future_status::ready);
}

TEST(ExecutorTest, RunsOnSeveralThreads) {
  Executor executor(2, 10);
  std::promise<void> first;
  std::promise<void> second;
  executor.Run([&] { first.get_future().wait(); });
  executor.Run([&] {
    first.set_value();
    second.set_value();
  });
  EXPECT_EQ(second.get_future().wait_for(kSoon), std::future_status::ready);
  executor.Stop();
  EXPECT_FALSE(executor.Run([] {}));
}

}  // namespace
}  // namespace icepie::server
