#include "tests/bench/append_load.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "core/base/check.h"
#include "core/base/mutex.h"
#include "icepie/v1/core.grpc.pb.h"

namespace icepie::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kConnectionsMax = 4;
constexpr size_t kRequestsPerClient = 8;  // made before the measurement, sent in turn
constexpr size_t kStride = 7919;  // prime, so that as many begins are met as there are records

// One client, and what it sends in turn.
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

  virtual ~Client() = default;
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void Start(Clock::time_point end) {
    end_ = end;
    done_ = false;
    latencies_ms_.clear();
    Send();
  }
  void Wait() { done_.wait(false); }
  const std::vector<double>& latencies_ms() const { return latencies_ms_; }

 protected:
  virtual void Send() = 0;

  icepie::v1::Core::StubInterface& stub() { return stub_; }
  const icepie::v1::AppendRecordsRequest& NextRequest() {
    return requests_[next_++ % requests_.size()];
  }
  // Whether there is time for another.
  bool Answered(Clock::time_point sent) {
    const auto now = Clock::now();
    latencies_ms_.push_back(std::chrono::duration<double, std::milli>(now - sent).count());
    return now < end_;
  }
  void End(const grpc::Status& status) {
    if (!status.ok()) std::fprintf(stderr, "append: %s\n", status.error_message().c_str());
    ICEPIE_CHECK(status.ok());
    done_ = true;
    done_.notify_all();
  }

 private:
  icepie::v1::Core::StubInterface& stub_;
  std::vector<icepie::v1::AppendRecordsRequest> requests_;
  size_t next_ = 0;
  Clock::time_point end_;
  std::vector<double> latencies_ms_;
  std::atomic<bool> done_{false};
};

// A chain of calls.
class UnaryClient final : public Client {
 public:
  using Client::Client;

 private:
  void Send() override {
    context_ = std::make_unique<grpc::ClientContext>();
    sent_ = Clock::now();
    stub().async()->AppendRecords(context_.get(), &NextRequest(), &response_,
                                  [this](const grpc::Status& status) {
                                    if (status.ok() && Answered(sent_)) return Send();
                                    End(status);
                                  });
  }

  icepie::v1::AppendRecordsResponse response_;
  std::unique_ptr<grpc::ClientContext> context_;
  Clock::time_point sent_;
};

// A stream with so many batches in flight.
class StreamClient final : public Client,
                           public grpc::ClientBidiReactor<icepie::v1::AppendRecordsRequest,
                                                          icepie::v1::AppendRecordsResponse> {
 public:
  StreamClient(const Load& load, icepie::v1::Core::StubInterface& stub, size_t place)
      : Client(load, stub, place), in_flight_(load.in_flight) {}

 private:
  void Send() override {
    context_ = std::make_unique<grpc::ClientContext>();
    {
      const MutexLock lock(mutex_);
      owed_ = in_flight_;
      writing_ = false;
      ended_ = false;
    }
    stub().async()->StreamAppendRecords(context_.get(), this);
    StartRead(&response_);
    StartCall();
    Write();
  }

  // One of the `owed_` batches, when none is being written.
  void Write() {
    bool more = false;
    bool last = false;
    {
      const MutexLock lock(mutex_);
      if (writing_) return;
      last = owed_ == 0 && ended_ && sent_.empty();
      if (owed_ == 0 && !last) return;
      writing_ = true;  // for good after the last
      if (!last) {
        more = --owed_ > 0;
        sent_.push_back(Clock::now());
      }
    }
    if (last) return StartWritesDone();
    grpc::WriteOptions options;
    if (more) options.set_buffer_hint();
    StartWrite(&NextRequest(), options);
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    {
      const MutexLock lock(mutex_);
      const bool more = Answered(sent_.front());
      sent_.pop_front();
      ended_ = ended_ || !more;
      if (!ended_) ++owed_;
    }
    StartRead(&response_);
    Write();
  }
  void OnWriteDone(bool /*ok*/) override {
    {
      const MutexLock lock(mutex_);
      writing_ = false;
    }
    Write();
  }
  void OnDone(const grpc::Status& status) override { End(status); }

  const int in_flight_;
  std::unique_ptr<grpc::ClientContext> context_;
  icepie::v1::AppendRecordsResponse response_;
  Mutex mutex_;
  std::deque<Clock::time_point> sent_ ABSL_GUARDED_BY(mutex_);  // not answered yet
  int owed_ ABSL_GUARDED_BY(mutex_) = 0;                        // to be written
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

double Run(std::vector<std::unique_ptr<Client>>& clients, double seconds) {
  const auto start = Clock::now();
  const auto end =
      start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  for (auto& client : clients) client->Start(end);
  for (auto& client : clients) client->Wait();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

class EchoStream final : public grpc::ServerBidiReactor<icepie::v1::AppendRecordsRequest,
                                                        icepie::v1::AppendRecordsResponse> {
 public:
  EchoStream() { StartRead(&request_); }

 private:
  void OnReadDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::OK);
    response_.set_end_position(request_.records_size());
    StartWrite(&response_);
  }
  void OnWriteDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::CANCELLED);
    StartRead(&request_);
  }
  void OnDone() override { delete this; }

  icepie::v1::AppendRecordsRequest request_;
  icepie::v1::AppendRecordsResponse response_;
};

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
  grpc::ServerBidiReactor<icepie::v1::AppendRecordsRequest, icepie::v1::AppendRecordsResponse>*
  StreamAppendRecords(grpc::CallbackServerContext* /*context*/) override {
    return new EchoStream;
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
    auto& stub = *stubs[i % stubs.size()];
    if (load.in_flight > 0) {
      clients.push_back(std::make_unique<StreamClient>(load, stub, i));
    } else {
      clients.push_back(std::make_unique<UnaryClient>(load, stub, i));
    }
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
