// The stream "_admin": every admin action, who asked for what, when, and how it ended, in the same
// frozen core as the data. AdminAction decides which records an action has, and describes them.
#ifndef ICEPIE_SERVER_ADMIN_LOG_H_
#define ICEPIE_SERVER_ADMIN_LOG_H_

#include <google/protobuf/message.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/core.h"
#include "server/event_log.h"

namespace icepie::server {

inline constexpr const char* kAdminStream = "_admin";

// What is asked for. The request's text form is left out of its record when it is too long for one
// (256 KiB, and 4 KiB of what was refused); its SHA-256 is always there. Of an actor the first 256
// bytes are recorded.
struct AdminRequest {
  const std::string& action;
  const std::string& actor;
  const google::protobuf::Message& request;
  const std::string& domain;  // for requests that do not name one
};

// Threads: any. Every method returns when its record is on disk.
// Errors: those of appends (CORE_READ_ONLY, CORE_DISK_FULL).
class AdminLog {
 public:
  // What is asked for is also an event of `events`, where there is one.
  explicit AdminLog(Core& core, EventLog* events = nullptr) : core_(core), events_(events) {}

  // Before it runs; the position of the record.
  absl::StatusOr<int64_t> Begin(const AdminRequest& asked);
  // How that ended which began at `position`.
  absl::Status End(const AdminRequest& asked, int64_t position, const absl::Status& outcome,
                   const google::protobuf::Message* response);
  // Request and outcome in one record: it was refused, or has happened already.
  absl::Status EndAtOnce(const AdminRequest& asked, const absl::Status& outcome,
                         const google::protobuf::Message* response = nullptr);

 private:
  absl::StatusOr<int64_t> Append(std::string payload);

  Core& core_;
  EventLog* events_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_ADMIN_LOG_H_
