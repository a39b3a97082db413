#include "server/front/frame_flood.h"

#include <algorithm>
#include <bitset>
#include <cstdint>
#include <memory>
#include <set>

namespace icepie::server {
namespace {

constexpr size_t kHeaderSize = 9;
// Types of frames, and the sizes that some always have (RFC 9113, section 6).
constexpr uint8_t kHeaders = 1;
constexpr uint8_t kPriority = 2;
constexpr size_t kPrioritySize = 5;
constexpr uint8_t kReset = 3;
constexpr size_t kResetSize = 4;
constexpr uint8_t kSettings = 4;
constexpr size_t kSettingSize = 6;
constexpr uint8_t kPing = 6;
constexpr size_t kPingSize = 8;
constexpr uint8_t kGoAway = 7;
constexpr size_t kGoAwaySizeMin = 8;
constexpr uint8_t kWindowUpdate = 8;
constexpr size_t kWindowUpdateSize = 4;
constexpr uint8_t kAck = 1;

struct Frame {
  size_t size = 0;  // of its content
  uint8_t type = 0;
  uint8_t flags = 0;
  uint32_t stream = 0;
};

Frame FrameAt(absl::string_view bytes) {
  const auto byte = [&](size_t i) { return uint32_t{static_cast<uint8_t>(bytes[i])}; };
  Frame frame;
  frame.size = byte(0) << 16 | byte(1) << 8 | byte(2);
  frame.type = static_cast<uint8_t>(byte(3));
  frame.flags = static_cast<uint8_t>(byte(4));
  frame.stream = (byte(5) << 24 | byte(6) << 16 | byte(7) << 8 | byte(8)) & 0x7fffffff;
  return frame;
}

// Goes from frame to frame, each place once.
class Walk {
 public:
  explicit Walk(absl::string_view bytes) : bytes_(bytes) {}

  FrameFlood From(size_t at) {
    std::set<uint32_t> open;
    FrameFlood found;
    while (at + kHeaderSize <= bytes_.size() && !seen_[at]) {
      seen_[at] = true;
      const Frame frame = FrameAt(bytes_.substr(at));
      if (frame.type == kHeaders) open.insert(frame.stream);
      if (frame.type == kReset) {
        if (frame.size != kResetSize) break;
        found.opened_and_reset += static_cast<int>(open.erase(frame.stream));
      }
      if (frame.type == kPing) {
        if (frame.size != kPingSize || frame.stream != 0) break;
        if ((frame.flags & kAck) == 0) ++found.pings;
      }
      at += kHeaderSize + frame.size;
    }
    return found;
  }

 private:
  const absl::string_view bytes_;
  std::bitset<kFrameFloodBytesMax> seen_;
};

// Whether it is a frame that carries nothing of a call, as the specification has it. (So does an
// empty frame of data, but that looks as an array of zeros does in some formats, a byte and eight
// that are 0; and with flags, settings look as one of fours. gRPC accepts none that have some.)
bool IsControl(const Frame& frame) {
  switch (frame.type) {
    case kPriority:
      return frame.stream != 0 && frame.size == kPrioritySize;
    case kReset:
      return frame.stream != 0 && frame.size == kResetSize;
    case kSettings:
      return frame.stream == 0 && frame.size % kSettingSize == 0 && (frame.flags & ~kAck) == 0;
    case kPing:
      return frame.stream == 0 && frame.size == kPingSize;
    case kGoAway:
      return frame.stream == 0 && frame.size >= kGoAwaySizeMin;
    case kWindowUpdate:
      return frame.size == kWindowUpdateSize;
    default:
      return false;
  }
}

// Only thousands count, which are small, and most of what there is: one of them begins with the
// first bytes.
int CountControl(absl::string_view bytes) {
  constexpr size_t kBeginMax = 32;
  constexpr int kOthersMax = 64;  // more than those that count
  int most = 0;
  for (size_t begin = 0; begin < kBeginMax; ++begin) {
    int count = 0;
    int others = 0;
    for (size_t at = begin; at + kHeaderSize <= bytes.size() && others < count + kOthersMax;) {
      const Frame frame = FrameAt(bytes.substr(at));
      ++(IsControl(frame) ? count : others);
      at += kHeaderSize + frame.size;
    }
    most = std::max(most, count);
  }
  return most;
}

}  // namespace

FrameFlood FindFlood(absl::string_view bytes) {
  // What frames of RST_STREAM and PING begin with, if they are ones: their bytes of content, the
  // type. Of the flags all but PING's first mean nothing, and may be set.
  constexpr absl::string_view kResetBegin("\0\0\4\3", 4);
  constexpr absl::string_view kPingBegin("\0\0\10\6", 4);
  bytes = bytes.substr(0, kFrameFloodBytesMax);
  const auto walk = std::make_unique<Walk>(bytes);
  FrameFlood most;
  most.control = CountControl(bytes);
  for (size_t at = 0; at + kHeaderSize <= bytes.size(); ++at) {
    const absl::string_view begin = bytes.substr(at, kResetBegin.size());
    if (begin != kResetBegin && begin != kPingBegin) continue;
    const FrameFlood found = walk->From(at);
    most.opened_and_reset = std::max(most.opened_and_reset, found.opened_and_reset);
    most.pings = std::max(most.pings, found.pings);
  }
  return most;
}

}  // namespace icepie::server
