// Finds calls that were opened only to be given up in the bytes of an HTTP/2 connection that its
// server has not read yet (RFC 9113: frames in section 4.1, RST_STREAM in 6.4).
#ifndef ICEPIE_SERVER_FRONT_RESET_FLOOD_H_
#define ICEPIE_SERVER_FRONT_RESET_FLOOD_H_

#include "absl/strings/string_view.h"

namespace icepie::server {

constexpr size_t kResetFloodBytesMax = 64 << 10;

// How many streams `bytes` (the first kResetFloodBytesMax of them) both open and reset. They may
// begin within a frame. Payloads that look like frames of RST_STREAM do not count: only who writes
// whole frames with HEADERS and RST_STREAM of one stream does. Takes one step a byte at the most.
int CountOpenedAndReset(absl::string_view bytes);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_FRONT_RESET_FLOOD_H_
