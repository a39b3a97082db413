#include "server/admin/event_log.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/file.h"
#include "icepie/v1/admin.pb.h"
#include "tests/core/temp_directory.h"

namespace icepie::server {
namespace {

using icepie::v1::Event;

Event Changed(const std::string& slice, const std::string& to) {
  Event event;
  event.set_kind(Event::SLICE);
  event.set_domain(slice.substr(0, slice.find('.')));
  event.set_slice(slice);
  event.set_to(to);
  return event;
}

std::vector<int64_t> Numbers(const std::vector<Event>& events) {
  std::vector<int64_t> numbers;
  numbers.reserve(events.size());
  for (const Event& event : events) numbers.push_back(event.number());
  return numbers;
}

class EventLogTest : public testing::Test {
 protected:
  std::string Path() const { return directory_.path() + "/events.jsonl"; }
  TempDirectory directory_;
};

TEST_F(EventLogTest, ListsByDomainSliceTimeAndNumber) {
  EventLog log(Path());
  log.Add(Changed("shop.orders", "RUNNING"));
  log.Add(Changed("shop.lines", "FAULTED"));
  log.Add(Changed("bank.orders", "RUNNING"));
  EXPECT_EQ(Numbers(log.List(FilterFor(""), 0, 10)), (std::vector<int64_t>{1, 2, 3}));
  EXPECT_EQ(Numbers(log.List(FilterFor("shop"), 0, 10)), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(Numbers(log.List(FilterFor("shop.lines"), 0, 10)), (std::vector<int64_t>{2}));
  EXPECT_EQ(Numbers(log.List(FilterFor(""), 1, 1)), (std::vector<int64_t>{2}));
  EventFilter late;
  late.since = absl::Now() + absl::Hours(1);
  EXPECT_TRUE(log.List(late, 0, 10).empty());
}

TEST_F(EventLogTest, NumbersGoOnAfterARestartAndATornLine) {
  {
    EventLog log(Path());
    log.Add(Changed("shop.orders", "RUNNING"));
    log.Add(Changed("shop.orders", "FROZEN"));
  }
  const std::string written = *ReadFile(Path());
  std::ofstream(Path(), std::ios::trunc) << written.substr(0, written.size() - 20);
  {
    EventLog log(Path());
    EXPECT_EQ(Numbers(log.List(FilterFor(""), 0, 10)), (std::vector<int64_t>{1}));
    log.Add(Changed("shop.orders", "RUNNING"));
  }
  EventLog log(Path());
  const auto events = log.List(FilterFor(""), 0, 10);
  EXPECT_EQ(Numbers(events), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(events.back().to(), "RUNNING");
}

TEST_F(EventLogTest, KeepsABoundedNumberInMemoryAndOnDisk) {
  constexpr int64_t kFileBytes = 4096;
  EventLog log(Path(), 50, kFileBytes);
  for (int i = 0; i < 500; ++i) log.Add(Changed("shop.orders", absl::StrCat("STATE", i)));
  EXPECT_EQ(log.List(FilterFor(""), 0, 1000).size(), 50U);
  EXPECT_LE(ReadFile(Path())->size(), static_cast<size_t>(kFileBytes));
  EXPECT_LE(ReadFile(Path() + ".1")->size(), static_cast<size_t>(kFileBytes));
  const EventLog again(Path(), 50, kFileBytes);
  EXPECT_EQ(again.last_number(), 500);
}

TEST_F(EventLogTest, AFileThatCannotBeRenamedStaysBoundedAndHasTheNewest) {
  constexpr int64_t kFileBytes = 4096;
  std::filesystem::create_directory(Path() + ".1");
  {
    EventLog log(Path(), 50, kFileBytes);
    for (int i = 0; i < 200; ++i) {
      log.Add(Changed("shop.orders", absl::StrCat("STATE", i)));
      ASSERT_LE(ReadFile(Path())->size(), static_cast<size_t>(kFileBytes)) << i;
    }
  }
  EventLog log(Path(), 50, kFileBytes);
  EXPECT_EQ(Numbers(log.ListNewest(FilterFor(""), 5)),
            (std::vector<int64_t>{196, 197, 198, 199, 200}));
}

TEST_F(EventLogTest, AFileThatCannotBeRenamedIsReplacedAndNotEmptied) {
  constexpr int64_t kFileBytes = 4096;
  std::filesystem::create_directory(Path() + ".1");
  EventLog log(Path(), 50, kFileBytes);
  log.Add(Changed("shop.orders", "RUNNING"));
  const std::string old_one = directory_.path() + "/old";  // what a crash would leave
  std::filesystem::create_hard_link(Path(), old_one);
  const auto is_replaced = [&] { return *ReadFile(Path()) != *ReadFile(old_one); };
  for (int i = 0; i < 200 && !is_replaced(); ++i) log.Add(Changed("shop.orders", "FROZEN"));
  EXPECT_TRUE(is_replaced());
  EXPECT_GT(ReadFile(old_one)->size(), static_cast<size_t>(kFileBytes / 2));
  // What cannot be replaced either stands.
  std::filesystem::create_directory(Path() + ".new");
  for (int i = 0; i < 100; ++i) log.Add(Changed("shop.orders", "RUNNING"));
  const std::string standing = *ReadFile(Path());
  log.Add(Changed("shop.orders", "FROZEN"));
  EXPECT_EQ(*ReadFile(Path()), standing);
  EXPECT_GT(standing.size(), static_cast<size_t>(kFileBytes / 2));
  std::filesystem::remove(Path() + ".new");
  log.Add(Changed("shop.orders", "RUNNING"));
  const EventLog again(Path(), 50, kFileBytes);
  EXPECT_EQ(again.last_number(), log.last_number());
}

// One domain whose workers die all the time.
TEST_F(EventLogTest, ADomainWithManyEventsTakesNobodyElsesHistoryAway) {
  constexpr int64_t kFileBytes = 8192;
  {
    EventLog log(Path(), 50, kFileBytes);
    log.Add(Changed("bank.orders", "FROZEN"));
    for (int i = 0; i < 500; ++i) log.Add(Changed("shop.orders", absl::StrCat("STATE", i)));
    log.Add(Changed("bank.orders", "RUNNING"));
    EXPECT_EQ(Numbers(log.List(FilterFor("bank"), 0, 10)), (std::vector<int64_t>{1, 502}));
    EXPECT_EQ(log.List(FilterFor(""), 0, 1000).size(), 50U);
    EXPECT_EQ(Numbers(log.ListNewest(FilterFor("shop"), 2)), (std::vector<int64_t>{500, 501}));
    EXPECT_LE(ReadFile(Path())->size(), static_cast<size_t>(kFileBytes));
  }
  EventLog log(Path(), 50, kFileBytes);
  EXPECT_EQ(log.last_number(), 502);
  EXPECT_EQ(Numbers(log.List(FilterFor("bank"), 0, 10)), (std::vector<int64_t>{1, 502}));
  EXPECT_EQ(Numbers(log.List(FilterFor(""), 501, 10)), (std::vector<int64_t>{502}));
  log.Add(Changed("shop.orders", "RUNNING"));
  EXPECT_EQ(log.last_number(), 503);
}

TEST_F(EventLogTest, AnActionNamesWhoWhatAndWhy) {
  EventLog log(Path());
  icepie::v1::FreezeSliceRequest request;
  request.set_name("shop.orders");
  request.set_reason("INC-1");
  log.AddAction("FreezeSlice", "anna", "", request);
  const Event event = log.List(FilterFor("shop.orders"), 0, 1).at(0);
  EXPECT_EQ(event.kind(), Event::ADMIN);
  EXPECT_EQ(event.subject(), "FreezeSlice");
  EXPECT_EQ(event.actor(), "anna");
  EXPECT_EQ(event.reason(), "INC-1");
  EXPECT_EQ(event.domain(), "shop");
}

TEST_F(EventLogTest, AnUnwritableFileCostsOnlyTheFile) {
  EventLog log(directory_.path() + "/missing/events.jsonl");
  log.Add(Changed("shop.orders", "RUNNING"));
  EXPECT_EQ(log.List(FilterFor(""), 0, 10).size(), 1U);
}

TEST_F(EventLogTest, SubscribersHearOfEveryEventUntilTheyLeave) {
  EventLog log(Path());
  int heard = 0;
  const int64_t id = log.Subscribe([&] { ++heard; });
  std::thread([&] { log.Add(Changed("shop.orders", "RUNNING")); }).join();
  log.Unsubscribe(id);
  log.Add(Changed("shop.orders", "FROZEN"));
  EXPECT_EQ(heard, 1);
}

}  // namespace
}  // namespace icepie::server
