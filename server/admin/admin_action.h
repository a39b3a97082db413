// One thing that somebody asked of the daemon, from before it runs to how it ended, as the stream
// "_admin" records it:
//
//   before it runs  {"action","actor","request","request_sha256"}        at some position N
//   when it ended   {"action","actor","outcome_of":N,"result"}
//   refused, so that nothing ran
//                   {"action","actor","request","request_sha256","result"}
//
// A request that is malformed (INVALID_ARGUMENT before anything ran) asks for no action and is not
// recorded, and of a flood of refused ones only some are (server/admin/admin_log.h), so that nobody
// fills the core with what is none. "unrecorded_refusals":M in any of these records says how many
// were not since the record before.
//
// "result" is {"code":"OK"}, with what was made ("operation", "revision", "generation"), or the
// error's {"code","reason","message"}. A record of the first kind whose position no outcome names
// was cut short: the daemon ended in between, or the core took no more records.
#ifndef ICEPIE_SERVER_ADMIN_ADMIN_ACTION_H_
#define ICEPIE_SERVER_ADMIN_ADMIN_ACTION_H_

#include <google/protobuf/message.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/admin/admin_log.h"

namespace icepie::server {

// Threads: one at a time.
// Lifetime: the log and the request outlive it. Without a log (nullptr) nothing is recorded.
class AdminAction {
 public:
  AdminAction(AdminLog* log, std::string name, std::string actor,
              const google::protobuf::Message& request);
  AdminAction(const AdminAction&) = delete;
  AdminAction& operator=(const AdminAction&) = delete;

  // Records that it begins, synced; called when it has been checked and before anything changes,
  // which happens only when this returns OK. Only the first call does something: an action that is
  // a part of another is that one's. `domain` is for requests that do not name one.
  absl::Status Begin(const std::string& domain = "");
  // The same for what must work also while the core takes no records.
  void BeginAnyhow(const std::string& domain = "");

  // By what the same request is known when it is sent again; empty when it has no request_id.
  std::string RequestDigest() const;

  // Records how it ended. Nothing is recorded of what was OK and changed nothing, of malformed
  // requests, and of those that only ask what would happen (validate_only). `response` says what
  // was made.
  void End(const absl::Status& outcome, const google::protobuf::Message* response = nullptr);

 private:
  enum class Phase { kAsked, kUnrecorded, kBegun, kEnded };

  AdminLog* const log_;
  const std::string name_;
  const std::string actor_;
  const google::protobuf::Message& request_;
  Phase phase_ = Phase::kAsked;
  int64_t position_ = -1;  // of the first record, when it has begun
};

// Runs `work`, which takes the action and returns StatusOr<Response>, and records how it ended.
template <typename Work>
auto RunAction(AdminLog* log, const char* name, const std::string& actor,
               const google::protobuf::Message& request, Work work) {
  AdminAction action(log, name, actor, request);
  auto result = work(action);
  action.End(result.status(), result.ok() ? &*result : nullptr);
  return result;
}

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_ADMIN_ADMIN_ACTION_H_
