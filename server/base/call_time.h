// How long a call may take.
#ifndef ICEPIE_SERVER_BASE_CALL_TIME_H_
#define ICEPIE_SERVER_BASE_CALL_TIME_H_

#include <grpcpp/grpcpp.h>

#include <algorithm>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace icepie::server {

// What the client gave, less a margin for our own answer.
inline absl::Duration TimeLeft(const grpc::CallbackServerContext& context, absl::Duration longest) {
  const absl::Duration left = absl::FromChrono(context.deadline()) - absl::Now();
  return std::clamp(left - absl::Milliseconds(100), absl::Milliseconds(10), longest);
}

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_BASE_CALL_TIME_H_
