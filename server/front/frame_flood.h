// Finds floods in the bytes of an HTTP/2 connection that its server has not read yet (RFC 9113:
// frames in section 4.1, RST_STREAM in 6.4, PING in 6.7): calls that were opened only to be given
// up, and pings. Of all frames these are the dear ones. Of others, which gRPC passes over or
// answers with little, it reads ten million and more a second, but a processor with that alone.
#ifndef ICEPIE_SERVER_FRONT_FRAME_FLOOD_H_
#define ICEPIE_SERVER_FRONT_FRAME_FLOOD_H_

#include <cstddef>

#include "absl/strings/string_view.h"

namespace icepie::server {

constexpr size_t kFrameFloodBytesMax = 64 << 10;

struct FrameFlood {
  int opened_and_reset = 0;  // streams that the bytes both open and reset
  int pings = 0;             // that ask for an answer
  // That carry nothing of a call (settings, updates of windows, priorities, resets, pings and the
  // answers to them), in a row that begins with the first bytes.
  int control = 0;
};

// What is in `bytes` (the first kFrameFloodBytesMax of them), which may begin within a frame.
// Payloads in which the first bytes of such a frame occur do not count: only whole frames one
// behind the other do. Takes one step a byte at the most.
FrameFlood FindFlood(absl::string_view bytes);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_FRONT_FRAME_FLOOD_H_
