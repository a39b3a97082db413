// Every admin action is a record in the stream "_admin", written before the action runs: who, what,
// when, in the same frozen core as the data.
#ifndef ICEPIE_SERVER_ADMIN_LOG_H_
#define ICEPIE_SERVER_ADMIN_LOG_H_

#include <google/protobuf/message.h>

#include <string>

#include "absl/status/status.h"
#include "core/core.h"
#include "server/event_log.h"

namespace icepie::server {

inline constexpr const char* kAdminStream = "_admin";

// Threads: any.
class AdminLog {
 public:
  // What is asked for is also an event of `events`, where there is one.
  explicit AdminLog(Core& core, EventLog* events = nullptr) : core_(core), events_(events) {}

  // Appends {"action","actor","request"} and waits until it is on disk. The request's text form is
  // left out when it is too long for a record; its SHA-256 is always there.
  // `domain` is for requests that do not name one.
  absl::Status Append(const std::string& action, const std::string& actor,
                      const google::protobuf::Message& request, const std::string& domain = "");

 private:
  Core& core_;
  EventLog* events_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_ADMIN_LOG_H_
