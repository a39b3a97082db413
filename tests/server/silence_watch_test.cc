#include "server/supervisor/silence_watch.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>

#include "core/base/steady_clock.h"
#include "tests/core/temp_directory.h"
#include "tests/server/fake_worker.h"

namespace icepie::server {
namespace {

TEST(SilenceWatchTest, CallsAQuestionOffWhenTheSilenceHasLastedAsLongAsThatCouldWait) {
  const TempDirectory directory;
  FakeWorker live(directory.path() + "/live", nullptr);
  live.StandStill(true);
  DomainView view;
  view.live = live.View(1, {});
  std::atomic<bool> called{false};
  EventLoop loop;
  SilenceWatch watch(
      loop, [&view](const std::string&) { return view; }, nullptr);
  std::promise<void> short_one;
  std::promise<absl::Time> long_one;
  const absl::Time start = SteadyNow();
  watch.Add(1, {"payments", view.live, start + absl::Minutes(1), [&] {
                  if (!called.exchange(true)) long_one.set_value(SteadyNow());
                }});
  watch.Add(2, {"payments", view.live, start + absl::Milliseconds(200), [&] {
                  watch.Remove(2);
                  short_one.set_value();
                }});
  short_one.get_future().get();
  EXPECT_TRUE(watch.IsSilent(view.live));
  EXPECT_GE(long_one.get_future().get() - start, absl::Seconds(1));
  watch.Remove(1);
  watch.Stop();
  loop.Stop();
}

}  // namespace
}  // namespace icepie::server
