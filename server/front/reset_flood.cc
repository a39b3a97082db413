#include "server/front/reset_flood.h"

#include <algorithm>
#include <bitset>
#include <cstdint>
#include <memory>
#include <set>

namespace icepie::server {
namespace {

constexpr size_t kHeaderSize = 9;
constexpr uint8_t kHeaders = 1;
constexpr uint8_t kReset = 3;
constexpr size_t kResetSize = 4;

struct Frame {
  size_t size = 0;  // of its content
  uint8_t type = 0;
  uint32_t stream = 0;
};

Frame FrameAt(absl::string_view bytes) {
  const auto byte = [&](size_t i) { return uint32_t{static_cast<uint8_t>(bytes[i])}; };
  Frame frame;
  frame.size = byte(0) << 16 | byte(1) << 8 | byte(2);
  frame.type = static_cast<uint8_t>(byte(3));
  frame.stream = (byte(5) << 24 | byte(6) << 16 | byte(7) << 8 | byte(8)) & 0x7fffffff;
  return frame;
}

// Goes from frame to frame, each place once.
class Walk {
 public:
  explicit Walk(absl::string_view bytes) : bytes_(bytes) {}

  int From(size_t at) {
    std::set<uint32_t> open;
    int count = 0;
    while (at + kHeaderSize <= bytes_.size() && !seen_[at]) {
      seen_[at] = true;
      const Frame frame = FrameAt(bytes_.substr(at));
      if (frame.type == kHeaders) open.insert(frame.stream);
      if (frame.type == kReset) {
        if (frame.size != kResetSize) break;
        count += static_cast<int>(open.erase(frame.stream));
      }
      at += kHeaderSize + frame.size;
    }
    return count;
  }

 private:
  const absl::string_view bytes_;
  std::bitset<kResetFloodBytesMax> seen_;
};

}  // namespace

int CountOpenedAndReset(absl::string_view bytes) {
  // What a frame of RST_STREAM begins with, if it is one: 4 bytes of content, the type. Its flags
  // mean nothing, and may be set.
  constexpr absl::string_view kResetBegin("\0\0\4\3", 4);
  bytes = bytes.substr(0, kResetFloodBytesMax);
  const auto walk = std::make_unique<Walk>(bytes);
  int most = 0;
  for (size_t at = bytes.find(kResetBegin); at != absl::string_view::npos;
       at = bytes.find(kResetBegin, at + 1)) {
    most = std::max(most, walk->From(at));
  }
  return most;
}

}  // namespace icepie::server
