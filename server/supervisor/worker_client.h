// The daemon's side of icepie.worker.v1.Worker: one connection to one incarnation of a worker, over
// its Unix socket. Everything is asynchronous and has a deadline.
#ifndef ICEPIE_SERVER_SUPERVISOR_WORKER_CLIENT_H_
#define ICEPIE_SERVER_SUPERVISOR_WORKER_CLIENT_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "icepie/worker/v1/worker.grpc.pb.h"
#include "server/query/answer_budget.h"

namespace icepie::server {

// A whole answer, collected from the worker's stream.
struct WorkerAnswer {
  icepie::worker::v1::WorkerQueryResponse::Header header;
  std::string body;
  int64_t row_count = 0;
  std::shared_ptr<AnswerBudget::Share> share;  // of `body`
};

// How large an answer may become, and what its bytes are taken of; the answer has it then.
struct AnswerRoom {
  int64_t bytes_max = 0;
  std::shared_ptr<AnswerBudget::Share> share;
};

class QueriesUnderWay;

// Threads: any. Callbacks run on gRPC's threads, exactly once each, and may outlive the client.
// Errors: those of the worker with their reasons. A worker that cannot be reached or vanished in
//   the middle is UNAVAILABLE without a reason.
class WorkerClient {
 public:
  explicit WorkerClient(const std::string& socket_path);

  template <typename Response>
  using Done = std::function<void(absl::StatusOr<Response>)>;

  // With `wait_for_start` the call waits for a socket that does not exist yet.
  void GetStatus(absl::Duration timeout, bool wait_for_start,
                 Done<icepie::worker::v1::WorkerReport> done);
  void Configure(const icepie::worker::v1::Assignment& request, absl::Duration timeout,
                 Done<icepie::worker::v1::ConfigureResponse> done);
  void RefreshSlice(const std::string& slice, int64_t min_position, absl::Duration timeout,
                    Done<icepie::worker::v1::RefreshResponse> done);
  void ListQuarantinedRecords(const icepie::v1::ListQuarantinedRecordsRequest& request,
                              absl::Duration timeout,
                              Done<icepie::v1::ListQuarantinedRecordsResponse> done);
  void NameSnapshot(const icepie::worker::v1::NameSnapshotRequest& request, absl::Duration timeout,
                    Done<icepie::worker::v1::NameSnapshotResponse> done);
  void JudgeRecords(const icepie::worker::v1::JudgeRecordsRequest& request, absl::Duration timeout,
                    Done<icepie::worker::v1::JudgeRecordsResponse> done);
  void TraceRecord(const icepie::worker::v1::TraceRecordRequest& request, absl::Duration timeout,
                   Done<icepie::worker::v1::TraceRecordResponse> done);
  // Waits for the worker's start.
  void PlanDomain(const icepie::worker::v1::PlanDomainRequest& request, absl::Duration timeout,
                  Done<icepie::worker::v1::PlanDomainResponse> done);

  // The worker has died, or is as good as dead: queries under way, and those that still come, end
  // now as UNAVAILABLE.
  void Abandon();

  // RESOURCE_EXHAUSTED/RESULT_TOO_LARGE or TOO_MANY_QUERIES beyond `room`. A fresh `context` of the
  // caller's, who can cancel the call by it; null: nobody does.
  void Query(const icepie::worker::v1::WorkerQueryRequest& request, absl::Time deadline,
             AnswerRoom room, Done<WorkerAnswer> done,
             std::shared_ptr<grpc::ClientContext> context = nullptr);

 private:
  using Stub = icepie::worker::v1::Worker::Stub;
  std::shared_ptr<Stub> stub_;
  std::shared_ptr<QueriesUnderWay> queries_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_SUPERVISOR_WORKER_CLIENT_H_
