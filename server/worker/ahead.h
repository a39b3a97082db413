// A worker process that is started ahead of what it will be for: it is linked and warm, and waits.
// Then it is told in one message what it would have been started with, and goes on from there as
// any other: it has done nothing yet that depends on whose it is, so limits, sandbox and threads
// come after that.
//
// The daemon gives it one end of a pair of SOCK_SEQPACKET sockets:
//   from it  one byte: it is ready
//   to it    the arguments, each ended by a zero byte; with the descriptors of standard output and
//            error and, if there is one, of the page that says that it lives (life.h)
#ifndef ICEPIE_SERVER_WORKER_AHEAD_H_
#define ICEPIE_SERVER_WORKER_AHEAD_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace icepie::server {

// Where it finds its end of the pair; from the message on, where any worker finds the page.
constexpr int kGivenFd = 3;
constexpr size_t kStartBytesMax = size_t{64} << 10;
constexpr size_t kStartFdsMax = 2;

// Of a process with one thread. Returns the arguments. FAILED_PRECONDITION when the daemon has
// gone; INTERNAL when getting warm has left a thread, which no sandbox would confine.
absl::StatusOr<std::vector<std::string>> AwaitStart(int fd);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_WORKER_AHEAD_H_
