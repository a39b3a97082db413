// icepie.worker.v1.Worker over an engine.
#ifndef ICEPIE_SERVER_WORKER_WORKER_SERVICE_H_
#define ICEPIE_SERVER_WORKER_WORKER_SERVICE_H_

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "core/base/mutex.h"
#include "icepie/worker/v1/worker.grpc.pb.h"
#include "slices/role/engine.h"

namespace icepie::server {

// Calls that may take a while run here and not in gRPC's threads.
class SlowCalls {
 public:
  SlowCalls();
  ~SlowCalls();  // runs what has been added
  static constexpr size_t kWaitingMax = 64;
  // False: so many wait that it is not taken.
  bool Add(std::function<void()> call);

 private:
  void Loop();
  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<std::function<void()>> calls_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

// Threads: gRPC's.
class WorkerService : public icepie::worker::v1::Worker::CallbackService {
 public:
  // `sandbox`: the level that the process has reached.
  WorkerService(slices::Engine& engine, std::string role, std::string sandbox)
      : engine_(engine), role_(std::move(role)), sandbox_(std::move(sandbox)) {}

  // As the call: the engine takes the assignment on.
  void TakeOn(const icepie::worker::v1::Assignment& assignment);

  grpc::ServerUnaryReactor* Configure(grpc::CallbackServerContext* context,
                                      const icepie::worker::v1::Assignment* request,
                                      icepie::worker::v1::ConfigureResponse* response) override;
  grpc::ServerUnaryReactor* GetStatus(grpc::CallbackServerContext* context,
                                      const icepie::worker::v1::GetStatusRequest* request,
                                      icepie::worker::v1::WorkerReport* response) override;
  grpc::ServerWriteReactor<icepie::worker::v1::WorkerQueryResponse>* Query(
      grpc::CallbackServerContext* context,
      const icepie::worker::v1::WorkerQueryRequest* request) override;
  grpc::ServerUnaryReactor* RefreshSlice(grpc::CallbackServerContext* context,
                                         const icepie::worker::v1::RefreshRequest* request,
                                         icepie::worker::v1::RefreshResponse* response) override;
  grpc::ServerUnaryReactor* ListQuarantinedRecords(
      grpc::CallbackServerContext* context,
      const icepie::v1::ListQuarantinedRecordsRequest* request,
      icepie::v1::ListQuarantinedRecordsResponse* response) override;
  grpc::ServerUnaryReactor* NameSnapshot(
      grpc::CallbackServerContext* context, const icepie::worker::v1::NameSnapshotRequest* request,
      icepie::worker::v1::NameSnapshotResponse* response) override;
  grpc::ServerUnaryReactor* JudgeRecords(
      grpc::CallbackServerContext* context, const icepie::worker::v1::JudgeRecordsRequest* request,
      icepie::worker::v1::JudgeRecordsResponse* response) override;
  grpc::ServerUnaryReactor* TraceRecord(grpc::CallbackServerContext* context,
                                        const icepie::worker::v1::TraceRecordRequest* request,
                                        icepie::worker::v1::TraceRecordResponse* response) override;
  grpc::ServerUnaryReactor* PlanDomain(grpc::CallbackServerContext* context,
                                       const icepie::worker::v1::PlanDomainRequest* request,
                                       icepie::worker::v1::PlanDomainResponse* response) override;

 private:
  using SharedPlan = std::shared_ptr<const slices::DomainPlan>;

  absl::StatusOr<SharedPlan> PlanOf(const std::string& slice, int64_t generation);
  // Answers by `call`, which finishes the reactor: from the slow calls' thread, in its turn, and
  // not at all when the caller has gone by then. RESOURCE_EXHAUSTED/TOO_MANY_QUERIES.
  grpc::ServerUnaryReactor* Later(grpc::CallbackServerContext* context,
                                  std::function<void(grpc::ServerUnaryReactor*)> call);
  absl::Status Judge(const icepie::worker::v1::JudgeRecordsRequest& request,
                     icepie::worker::v1::JudgeRecordsResponse* response);

  slices::Engine& engine_;
  const std::string role_;
  const std::string sandbox_;
  std::map<std::string, SharedPlan> plans_;  // by the file's text; of the slow calls' thread
  Mutex mutex_;
  int64_t epoch_ ABSL_GUARDED_BY(mutex_) = -1;
  std::string domain_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::string> files_ ABSL_GUARDED_BY(mutex_);  // slice/generation → file
  SlowCalls slow_calls_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_WORKER_WORKER_SERVICE_H_
