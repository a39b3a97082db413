// What is taken for a flood of calls that are given up or of frames that want an answer, and what
// only looks like one.
#include "server/front/frame_flood.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"

namespace icepie::server {
namespace {

std::string Frame(uint8_t type, uint32_t stream, const std::string& content) {
  std::string bytes;
  for (const int shift : {16, 8, 0}) bytes.push_back(static_cast<char>(content.size() >> shift));
  bytes.push_back(static_cast<char>(type));
  bytes.push_back('\0');
  for (const int shift : {24, 16, 8, 0}) bytes.push_back(static_cast<char>(stream >> shift));
  return bytes + content;
}

std::string Data(const std::string& content) { return Frame(0, 1, content); }
std::string Headers(uint32_t stream) { return Frame(1, stream, std::string(30, 'h')); }
std::string Reset(uint32_t stream) { return Frame(3, stream, std::string("\0\0\0\x08", 4)); }

std::string Flood(uint32_t from, int calls) {
  std::string bytes;
  for (int i = 0; i < calls; ++i) {
    const uint32_t stream = from + 2 * static_cast<uint32_t>(i);
    absl::StrAppend(&bytes, Headers(stream), Reset(stream));
  }
  return bytes;
}

int CountOpenedAndReset(const std::string& bytes) { return FindFlood(bytes).opened_and_reset; }

std::string Ping(char flags = 0) {
  std::string frame = Frame(6, 0, "pingping");
  frame[4] = flags;
  return frame;
}

std::string Repeated(const std::string& bytes, size_t size) {
  std::string all;
  while (all.size() < size) all += bytes;
  return all;
}

TEST(FrameFloodTest, CountsCallsThatAreOpenedAndReset) {
  EXPECT_EQ(CountOpenedAndReset(""), 0);
  EXPECT_EQ(CountOpenedAndReset(Flood(1, 300)),
            300 - 1);  // what comes before a reset is not looked at
  // Several are opened, then reset in another order, with other frames between.
  std::string bytes = Reset(1);
  for (uint32_t stream = 101; stream < 201; stream += 2) bytes += Headers(stream);
  bytes += Frame(6, 0, "pingping");
  for (uint32_t stream = 199; stream >= 101; stream -= 2) bytes += Reset(stream);
  EXPECT_EQ(CountOpenedAndReset(bytes), 50);
}

TEST(FrameFloodTest, FindsTheFloodBehindTheRestOfAFrame) {
  EXPECT_GE(CountOpenedAndReset(std::string(1000, 'x') + Flood(7, 400)), 399);
  const std::string like_resets = Repeated(std::string("\0\0\4\3\0", 5), 1000);
  EXPECT_GE(CountOpenedAndReset(like_resets + Flood(7, 400)), 399);
}

// A reset has no flags; what somebody sets there is passed over (RFC 9113, 4.1).
TEST(FrameFloodTest, FlagsHideNoFlood) {
  std::string bytes;
  for (uint32_t stream = 1; stream < 801; stream += 2) {
    std::string reset = Reset(stream);
    reset[4] = static_cast<char>(1 << stream / 2 % 8);
    absl::StrAppend(&bytes, Headers(stream), reset);
  }
  EXPECT_GE(CountOpenedAndReset(bytes), 399);
}

// 1027 as integers of four bytes, and others of which a payload may be full. By chance two of the
// frames that are none may fit together; 16 would be taken for a flood.
TEST(FrameFloodTest, PayloadsThatLookLikeResetsAreNone) {
  for (const std::string& like : {std::string("\0\0\4\3", 4), std::string("\0\0\4\3\0", 5),
                                  std::string("\0\0\4\3\0\0\0\0\1", 9), Reset(5)}) {
    const std::string payload = Repeated(like, 16384).substr(0, 16384);
    EXPECT_LT(CountOpenedAndReset(Repeated(payload, 65536)), 4);
    EXPECT_LT(CountOpenedAndReset(Repeated(Data(payload), 65536)), 4);
    EXPECT_LT(CountOpenedAndReset(payload.substr(3) + Headers(7) + Data(payload)), 4);
  }
}

TEST(FrameFloodTest, CountsPingsThatAskForAnAnswer) {
  std::string bytes = "the rest of a frame";
  for (int i = 0; i < 100; ++i) {
    absl::StrAppend(&bytes, Ping(), Frame(8, 0, std::string("\0\0\0\1", 4)), Ping('\xfe'));
  }
  EXPECT_EQ(FindFlood(bytes).pings, 200);
  EXPECT_EQ(FindFlood(bytes).opened_and_reset, 0);
  EXPECT_EQ(FindFlood(Repeated(Ping('\1'), 60000)).pings, 0);
  const FrameFlood both = FindFlood(Flood(1, 100) + Repeated(Ping(), 170) + Flood(301, 100));
  EXPECT_GE(both.opened_and_reset, 199);
  EXPECT_EQ(both.pings, 10);
}

TEST(FrameFloodTest, PayloadsThatLookLikePingsAreNone) {
  for (const std::string& like :
       {std::string("\0\0\10\6", 4), std::string("\0\0\10\6\0", 5),
        std::string("\0\0\10\6\0\0\0\0\0", 9), std::string("\0\0\10\6\0\0\0\0\1", 9)}) {
    const std::string payload = Repeated(like, 16384).substr(0, 16384);
    EXPECT_LT(FindFlood(Repeated(Data(payload), 65536)).pings, 8);
    EXPECT_LT(FindFlood(Repeated(payload, 65536)).pings, 8);
  }
}

TEST(FrameFloodTest, CountsFramesThatCarryNothing) {
  const std::string setting("\0\3\0\0\0\144", 6);
  const std::string window_update = Frame(8, 0, std::string("\0\0\0\1", 4));
  for (const std::string& frame :
       {Frame(4, 0, ""), Frame(4, 0, setting), window_update, Reset(3), Ping(), Ping('\1'),
        Frame(2, 5, std::string("\0\0\0\0\20", 5)), Frame(7, 0, std::string(8, '\0'))}) {
    const std::string flood = Repeated(frame, 65536).substr(0, 65536);
    const auto frames = static_cast<int>(65536 / frame.size());
    EXPECT_GE(FindFlood(flood).control, frames - 1);
    EXPECT_GE(FindFlood(flood.substr(7)).control, frames - 2) << "begins within a frame";
    // A few others between hide nothing.
    EXPECT_GT(FindFlood(Repeated(frame + frame + Data(""), 65536)).control, frames / 2);
  }
  // A window's update for every frame that comes, the requests, and what they carry.
  EXPECT_LT(FindFlood(Repeated(window_update + Headers(3) + Data("request"), 65536)).control, 1500);
}

int Control(const std::string& payload) {
  return std::max(FindFlood(Repeated(payload, 65536)).control,
                  FindFlood(Repeated(Data(Repeated(payload, 16384)), 65536)).control);
}

// As arrays of numbers are laid out, of which many are small and many are the same; also where each
// has a byte before it that says what it is. (Only of fours and eight zeros nobody could tell.)
TEST(FrameFloodTest, NumbersAreNoFlood) {
  constexpr int kFewerThanAFlood = 2500;
  for (const size_t width : {1, 2, 4, 8}) {
    for (const char first : {0, 1, 4, 6}) {
      for (const char second : {0, 1, 4, 6}) {
        std::string little(2 * width, '\0');
        little[0] = first;
        little[width] = second;
        const std::string big(little.rbegin(), little.rend());
        ASSERT_LT(Control(little), kFewerThanAFlood) << width << ": " << little;
        ASSERT_LT(Control(big), kFewerThanAFlood) << width << ": " << big;
      }
    }
  }
  for (const char number : {0, 4}) {
    for (const int tag : {5, 9, 17, 202, 203, 207, 211, 250, 251, 255}) {
      const std::string little({static_cast<char>(tag), number, 0, 0, 0, 0, 0, 0, 0});
      const std::string big({static_cast<char>(tag), 0, 0, 0, 0, 0, 0, 0, number});
      ASSERT_LT(Control(little), kFewerThanAFlood) << tag;
      ASSERT_LT(Control(big), kFewerThanAFlood) << tag;
    }
  }
}

TEST(FrameFloodTest, CallsThatAreLeftAloneAreNoFlood) {
  std::string bytes = Reset(1);
  for (uint32_t stream = 101; bytes.size() < 60000; stream += 2) {
    absl::StrAppend(&bytes, Headers(stream), Frame(0, stream, "request"));
  }
  EXPECT_EQ(CountOpenedAndReset(bytes), 0);
}

}  // namespace
}  // namespace icepie::server
