#include "tests/slices/nexmark_events.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace icepie::slices {
namespace {

constexpr int64_t kEpochMs = 1'767'225'600'000;  // 2026-01-01
constexpr int64_t kMsPerEvent = 10;
constexpr int64_t kFirstId = 1000;
constexpr int64_t kCategories = 5;

template <size_t N>
const char* Pick(const char* const (&from)[N], int64_t index) {
  return from[static_cast<size_t>(index) % N];
}

constexpr const char* kStates[] = {"AZ", "CA", "ID", "OR", "WA", "WY"};
constexpr const char* kCities[] = {"Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland",
                                   "Bend",    "Redmond",     "Seattle",       "Kent",  "Cheyenne"};
constexpr const char* kFirstNames[] = {"Peter", "Paul", "Luke",  "John",  "Saul",
                                       "Vicky", "Kate", "Julie", "Sarah", "Deiter"};
constexpr const char* kLastNames[] = {"Shultz", "Abrams", "Spencer", "White", "Bartels",
                                      "Walton", "Smith",  "Jones",   "Noris"};
constexpr const char* kHotChannels[] = {"Google", "Facebook", "Baidu", "Apple"};

}  // namespace

NexmarkEvents NexmarkGenerator::Next(int64_t count) {
  constexpr int64_t kRound = 50;
  NexmarkEvents events;
  for (int64_t i = 0; i < count; ++i, ++events_) {
    const int64_t place = events_ % kRound;
    time_ms_ = kEpochMs + events_ * kMsPerEvent;
    if (place == 0) {
      events["person"].push_back(Person(kFirstId + persons_++));
    } else if (place <= 3) {
      events["auction"].push_back(Auction(kFirstId + auctions_++));
    } else {
      events["bid"].push_back(Bid());
    }
  }
  return events;
}

std::string NexmarkGenerator::Letters(int64_t length_max) {
  std::string text(static_cast<size_t>(3 + Below(length_max)), ' ');
  for (char& letter : text) letter = static_cast<char>('a' + Below(26));
  return text;
}

int64_t NexmarkGenerator::Recent(int64_t end, int64_t newest) {
  const int64_t from = Below(4) == 0 ? 0 : std::max<int64_t>(0, end - newest);
  return kFirstId + from + Below(std::max<int64_t>(1, end - from));
}

int64_t NexmarkGenerator::Price() {
  constexpr double kDecades = 6;
  const double exponent = static_cast<double>(Below(1'000'000)) / 1'000'000 * kDecades;
  return std::llround(std::pow(10, exponent) * 100);
}

std::string NexmarkGenerator::Person(int64_t id) {
  return absl::StrCat(R"({"id":)", id, R"(,"name":")", Pick(kFirstNames, Below(10)), " ",
                      Pick(kLastNames, Below(9)), R"(","email":")", Letters(6), "@", Letters(4),
                      R"(.com","credit_card":")", 1000 + Below(9000), " ", 1000 + Below(9000),
                      R"(","city":")", Pick(kCities, Below(10)), R"(","state":")",
                      Pick(kStates, Below(6)), R"(","date_time":)", time_ms_, R"(,"extra":")",
                      Letters(40), R"("})");
}

std::string NexmarkGenerator::Auction(int64_t id) {
  const int64_t price = Price();
  return absl::StrCat(
      R"({"id":)", id, R"(,"item_name":")", Letters(20), R"(","description":")", Letters(60),
      R"(","initial_bid":)", price, R"(,"reserve":)", price + Price(), R"(,"date_time":)", time_ms_,
      R"(,"expires":)", time_ms_ + 200 + Below(20'000), R"(,"seller":)", Recent(persons_, 4),
      R"(,"category":)", 10 + Below(kCategories), R"(,"extra":")", Letters(40), R"("})");
}

std::string NexmarkGenerator::Bid() {
  const bool hot = Below(2) == 0;
  const std::string channel =
      hot ? Pick(kHotChannels, Below(4)) : absl::StrCat("channel-", Below(50));
  std::string url = absl::StrCat("https://www.nexmark.com/", Letters(5), "/", Letters(5), "/",
                                 Letters(5), "/item.htm?query=1");
  if (!hot && Below(10) > 0) absl::StrAppend(&url, "&channel_id=", Below(1 << 20));
  return absl::StrCat(R"({"auction":)", Recent(auctions_, 10), R"(,"bidder":)",
                      Recent(persons_, 20), R"(,"price":)", Price(), R"(,"channel":")", channel,
                      R"(","url":")", url, R"(","date_time":)", time_ms_, R"(,"extra":")",
                      Letters(30), R"("})");
}

}  // namespace icepie::slices
