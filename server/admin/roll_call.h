// The call Admin.RollWorkers.
#ifndef ICEPIE_SERVER_ADMIN_ROLL_CALL_H_
#define ICEPIE_SERVER_ADMIN_ROLL_CALL_H_

#include <grpcpp/grpcpp.h>

#include <deque>
#include <string>

#include "core/base/mutex.h"
#include "icepie/v1/admin.pb.h"
#include "server/admin/admin_action.h"
#include "server/admin/request_replay.h"
#include "server/admin/slice_control.h"
#include "server/base/executor.h"

namespace icepie::server {

// Rolls one domain after the other, each step on the executor, and sends what is done. A client
// that goes away ends it after the domain under way. Deletes itself when the call is over.
class RollCall final : public grpc::ServerWriteReactor<icepie::v1::RollWorkersResponse> {
 public:
  // Asked for again under the same request_id it sends what it sent then and rolls nothing.
  static RollCall* Start(SliceControl& control, AdminLog& log, RequestReplay& replay,
                         Executor& executor, const icepie::v1::RollWorkersRequest& request);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override { delete this; }

 private:
  RollCall(SliceControl& control, AdminLog& log, RequestReplay& replay, Executor& executor,
           const icepie::v1::RollWorkersRequest& request)
      : control_(control),
        replay_(replay),
        executor_(executor),
        request_(request),
        action_(&log, "RollWorkers", request_.actor(), request_) {}
  void RunNext(bool begins);
  bool IsFirst();
  void SendAgain(const RequestReplay::Answer& answer);
  void SendNextAgain();
  void Post(bool begins);
  void End(const absl::Status& outcome);
  void Answer(const absl::Status& outcome);
  bool IsCancelled();

  SliceControl& control_;
  RequestReplay& replay_;
  Executor& executor_;
  const icepie::v1::RollWorkersRequest request_;
  AdminAction action_;               // likewise
  std::deque<std::string> domains_;  // one step at a time uses it
  icepie::v1::RollWorkersResponse response_;
  std::string sent_;  // the messages, delimited
  bool replays_ = false;
  std::deque<icepie::v1::RollWorkersResponse> again_;
  Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_ADMIN_ROLL_CALL_H_
