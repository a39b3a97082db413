// A worker server whose answers a test decides, on a Unix socket.
#ifndef ICEPIE_TESTS_SERVER_FAKE_WORKER_H_
#define ICEPIE_TESTS_SERVER_FAKE_WORKER_H_

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/mutex.h"
#include "core/base/status.h"
#include "icepie/worker/v1/worker.grpc.pb.h"
#include "server/base/rpc_status.h"
#include "server/supervisor/managed_worker.h"
#include "server/supervisor/run_directory.h"
#include "server/supervisor/supervisor.h"

namespace icepie::server {

class FakeWorker {
 public:
  using Writer = grpc::ServerWriter<icepie::worker::v1::WorkerQueryResponse>;
  using OnQuery = std::function<grpc::Status(const icepie::worker::v1::WorkerQueryRequest&,
                                             grpc::ServerContext&, Writer&)>;

  FakeWorker(const std::string& socket, OnQuery on_query)
      : service_(std::move(on_query)), client_(std::make_shared<WorkerClient>(socket)) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("unix:" + socket, grpc::InsecureServerCredentials());
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
  }
  ~FakeWorker() { Die(); }

  // Every connection breaks, as when the process is killed.
  void Die() {
    if (!server_) return;
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
    server_.reset();
  }

  // The supervisor's view of it while it runs.
  WorkerView View(int64_t incarnation, icepie::worker::v1::WorkerReport report) const {
    WorkerView view;
    view.client = client_;
    view.incarnation = incarnation;
    view.report = std::make_shared<const icepie::worker::v1::WorkerReport>(std::move(report));
    view.report_time = absl::Now();
    view.status.set_state("running");
    return view;
  }

  int queries() const { return service_.queries; }
  // How often it was asked for its status; while it stands still it does not answer that.
  int statuses() const { return service_.statuses; }
  void StandStill(bool still) { service_.still = still; }
  // Its status is that it answers no questions, not even its own.
  void Hang() { service_.hangs = true; }
  // What its status is from now on.
  void SetReport(const icepie::worker::v1::WorkerReport& report) {
    const MutexLock lock(service_.mutex);
    service_.report = report;
  }

 private:
  class Service final : public icepie::worker::v1::Worker::Service {
   public:
    explicit Service(OnQuery on_query) : on_query_(std::move(on_query)) {}
    grpc::Status Query(grpc::ServerContext* context,
                       const icepie::worker::v1::WorkerQueryRequest* request,
                       Writer* writer) override {
      ++queries;
      return on_query_(*request, *context, *writer);
    }
    grpc::Status GetStatus(grpc::ServerContext* context,
                           const icepie::worker::v1::GetStatusRequest* /*request*/,
                           icepie::worker::v1::WorkerReport* answer) override {
      ++statuses;
      if (hangs) {
        return ToGrpcStatus(
            MakeError(absl::StatusCode::kUnavailable, "it answers no question", "QUERIES_HANG"));
      }
      while (still && !context->IsCancelled()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      const MutexLock lock(mutex);
      *answer = report;
      return grpc::Status::OK;
    }
    std::atomic<int> queries{0};
    std::atomic<int> statuses{0};
    std::atomic<bool> still{false};
    std::atomic<bool> hangs{false};
    Mutex mutex;
    icepie::worker::v1::WorkerReport report ABSL_GUARDED_BY(mutex);

   private:
    OnQuery on_query_;
  };

  Service service_;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<WorkerClient> client_;
};

// The test answers in place of the live worker's process, whose program must do nothing: null when
// it never came to that. The second is the process's incarnation.
inline std::pair<std::unique_ptr<FakeWorker>, int64_t> AnswerForLive(
    Supervisor& supervisor, const std::string& domain, const std::string& socket_directory) {
  // Who comes too late answers for the next process.
  std::unique_ptr<FakeWorker> worker;
  int64_t incarnation = 0;
  const auto answers = [&](const DomainView& view) {
    return view.live.client != nullptr && view.live.incarnation == incarnation;
  };
  for (int i = 0; i < 60 && !answers(supervisor.View(domain)); ++i) {
    supervisor.WaitFor(domain, absl::Seconds(60), [](const DomainView& view) {
      return view.live.status.state() == "starting";
    });
    incarnation = supervisor.View(domain).live.incarnation;
    worker =
        std::make_unique<FakeWorker>(WorkerSocket(socket_directory, absl::StrCat("w", incarnation)),
                                     [](const auto&, auto&, auto&) { return grpc::Status::OK; });
    supervisor.WaitFor(domain, absl::Seconds(60), [&](const DomainView& view) {
      return answers(view) || view.live.incarnation != incarnation;
    });
  }
  if (!answers(supervisor.View(domain))) worker.reset();
  return {std::move(worker), incarnation};
}

}  // namespace icepie::server

#endif  // ICEPIE_TESTS_SERVER_FAKE_WORKER_H_
