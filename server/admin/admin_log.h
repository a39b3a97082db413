// The stream "_admin": every admin action, who asked for what, when, and how it ended, in the same
// frozen core as the data. AdminAction decides which records an action has, and describes them.
//
// Anybody can be refused as often as he likes, and what is in the core stays for ever. So of
// refusals kRefusalsAtOnce are recorded, and one more every kRefusalInterval; the next record of
// any kind says how many were not ("unrecorded_refusals"). Of actions that ran every one is
// recorded.
#ifndef ICEPIE_SERVER_ADMIN_ADMIN_LOG_H_
#define ICEPIE_SERVER_ADMIN_ADMIN_LOG_H_

#include <google/protobuf/message.h>

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "core/base/steady_clock.h"
#include "core/core.h"
#include "server/admin/event_log.h"

namespace icepie::server {

inline constexpr const char* kAdminStream = "_admin";
inline constexpr int kRefusalsAtOnce = 100;
inline constexpr absl::Duration kRefusalInterval = absl::Seconds(10);

// What is asked for. The request's text form is left out of its record when it is too long for one
// (256 KiB, and 1 KiB of what failed at once); its SHA-256 is always there. Of an actor the first
// 256 bytes are recorded, of an error's message 4 KiB, and 512 bytes when it was refused.
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
  // What is asked for is also an event of `events`, where there is one. `now` may be another clock,
  // for tests.
  explicit AdminLog(Core& core, EventLog* events = nullptr,
                    std::function<absl::Time()> now = SteadyNow)
      : core_(core), events_(events), now_(std::move(now)) {}

  // Before it runs; the position of the record.
  absl::StatusOr<int64_t> Begin(const AdminRequest& asked);
  // How that ended which began at `position`.
  absl::Status End(const AdminRequest& asked, int64_t position, const absl::Status& outcome,
                   const google::protobuf::Message* response);
  // It was refused and nothing ran: request and outcome in one record, or counted only (above).
  absl::Status Refuse(const AdminRequest& asked, const absl::Status& outcome);
  // Request and outcome in one record: it has happened already.
  absl::Status EndAtOnce(const AdminRequest& asked, const absl::Status& outcome,
                         const google::protobuf::Message* response = nullptr);

 private:
  struct Record;  // what becomes one

  absl::StatusOr<int64_t> Append(Record record);
  absl::StatusOr<int64_t> AppendText(std::string payload);
  // Whether one more refusal may be recorded now; else it is counted.
  bool TakeRefusal();

  Core& core_;
  EventLog* events_;
  const std::function<absl::Time()> now_;
  Mutex mutex_;
  absl::Time refusals_paid_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  int64_t unrecorded_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_ADMIN_ADMIN_LOG_H_
