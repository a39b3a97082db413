// The call Admin.RollWorkers.
#ifndef ICEPIE_SERVER_ROLL_CALL_H_
#define ICEPIE_SERVER_ROLL_CALL_H_

#include <grpcpp/grpcpp.h>

#include <deque>
#include <string>

#include "core/base/mutex.h"
#include "icepie/v1/admin.pb.h"
#include "server/executor.h"
#include "server/slice_control.h"

namespace icepie::server {

// Rolls one domain after the other, each step on the executor, and sends what is done. A client
// that goes away ends it after the domain under way. Deletes itself when the call is over.
class RollCall final : public grpc::ServerWriteReactor<icepie::v1::RollWorkersResponse> {
 public:
  static RollCall* Start(SliceControl& control, Executor& executor,
                         const icepie::v1::RollWorkersRequest& request);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override { delete this; }

 private:
  RollCall(SliceControl& control, Executor& executor) : control_(control), executor_(executor) {}
  void RunNext(bool begins, const icepie::v1::RollWorkersRequest& request);
  void Post(bool begins, const icepie::v1::RollWorkersRequest& request);

  SliceControl& control_;
  Executor& executor_;
  std::deque<std::string> domains_;  // one step at a time uses it
  icepie::v1::RollWorkersResponse response_;
  Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_ROLL_CALL_H_
