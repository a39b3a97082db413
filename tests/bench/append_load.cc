#include "tests/bench/append_load.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <memory>
#include <thread>
#include <vector>

#include "core/base/check.h"
#include "icepie/v1/core.grpc.pb.h"

namespace icepie::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kConnectionsMax = 4;
constexpr size_t kRequestsPerClient = 8;  // made before the measurement, sent in turn
constexpr size_t kStride = 7919;  // prime, so that as many begins are met as there are records

// One client: a chain of calls.
class Client {
 public:
  // `place`: how many others there are before it.
  Client(const Load& load, icepie::v1::Core::StubInterface& stub, size_t place) : stub_(stub) {
    const std::vector<BenchRecord>& all = Records(load.kind);
    // Not the records of the others, whatever the size of a batch and the number of records.
    size_t next = place * kStride;
    for (size_t r = 0; r < kRequestsPerClient; ++r) {
      icepie::v1::AppendRecordsRequest request;
      for (int i = 0; i < load.batch; ++i) {
        auto* record = request.add_records();
        const BenchRecord& made = all[next++ % all.size()];
        record->set_stream(made.stream);
        record->set_payload(made.payload);
      }
      requests_.push_back(std::move(request));
    }
  }

  void Start(Clock::time_point end) {
    end_ = end;
    done_ = false;
    latencies_ms_.clear();
    Send();
  }
  void Wait() { done_.wait(false); }
  const std::vector<double>& latencies_ms() const { return latencies_ms_; }

 private:
  void Send() {
    context_ = std::make_unique<grpc::ClientContext>();
    sent_ = Clock::now();
    stub_.async()->AppendRecords(context_.get(), &requests_[next_++ % requests_.size()], &response_,
                                 [this](const grpc::Status& status) { Answered(status); });
  }

  void Answered(const grpc::Status& status) {
    if (!status.ok()) std::fprintf(stderr, "append: %s\n", status.error_message().c_str());
    ICEPIE_CHECK(status.ok());
    const auto now = Clock::now();
    latencies_ms_.push_back(std::chrono::duration<double, std::milli>(now - sent_).count());
    if (now < end_) return Send();
    done_ = true;
    done_.notify_all();
  }

  icepie::v1::Core::StubInterface& stub_;
  std::vector<icepie::v1::AppendRecordsRequest> requests_;
  icepie::v1::AppendRecordsResponse response_;
  std::unique_ptr<grpc::ClientContext> context_;
  size_t next_ = 0;
  Clock::time_point sent_;
  Clock::time_point end_;
  std::vector<double> latencies_ms_;
  std::atomic<bool> done_{false};
};

double Run(std::vector<std::unique_ptr<Client>>& clients, double seconds) {
  const auto start = Clock::now();
  const auto end =
      start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  for (auto& client : clients) client->Start(end);
  for (auto& client : clients) client->Wait();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

class EchoService final : public icepie::v1::Core::CallbackService {
 public:
  grpc::ServerUnaryReactor* AppendRecords(grpc::CallbackServerContext* context,
                                          const icepie::v1::AppendRecordsRequest* request,
                                          icepie::v1::AppendRecordsResponse* response) override {
    response->set_end_position(request->records_size());
    auto* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
};

}  // namespace

LoadResult RunLoad(const Load& load) {
  std::vector<std::unique_ptr<icepie::v1::Core::Stub>> stubs;
  for (int i = 0; i < std::min(load.clients, kConnectionsMax); ++i) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection each
    stubs.push_back(icepie::v1::Core::NewStub(
        grpc::CreateCustomChannel(load.address, grpc::InsecureChannelCredentials(), arguments)));
  }
  std::vector<std::unique_ptr<Client>> clients;
  for (size_t i = 0; i < static_cast<size_t>(load.clients); ++i) {
    clients.push_back(std::make_unique<Client>(load, *stubs[i % stubs.size()], i));
  }
  if (load.on_prepared) load.on_prepared();
  Run(clients, kWarmUpSeconds);
  size_t calls = 0;
  for (const auto& client : clients) calls += client->latencies_ms().size();
  const double seconds = Run(clients, load.seconds);
  std::vector<double> latencies;
  for (const auto& client : clients) {
    latencies.insert(latencies.end(), client->latencies_ms().begin(), client->latencies_ms().end());
  }
  calls += latencies.size();
  std::sort(latencies.begin(), latencies.end());
  const double last = static_cast<double>(latencies.size() - 1);
  return {static_cast<double>(latencies.size()) * load.batch / seconds,
          latencies[static_cast<size_t>(last * 0.5)], latencies[static_cast<size_t>(last * 0.99)],
          static_cast<int64_t>(calls) * load.batch};
}

void ServeEcho() {
  EchoService service;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.SetMaxReceiveMessageSize(8 << 20);
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  ICEPIE_CHECK(server != nullptr);
  std::printf("%d\n", port);
  std::fflush(stdout);
  server->Wait();
}

}  // namespace icepie::bench
