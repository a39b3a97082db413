// SIGKILL of the daemon at random moments while clients append by every way there is and send again
// what was not answered. ICEPIE_CRASH_ROUNDS sets how often (20 without it).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <map>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "core/base/mutex.h"
#include "core/base/status.h"
#include "server/rpc_status.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie::testing {
namespace {

namespace v1 = icepie::v1;

constexpr int kClients = 4;
constexpr int64_t kBatchRecords = 3;

std::string Payload(int client, int64_t n) {
  return absl::StrCat("{\"client\":", client, ",\"n\":", n, "}");
}

// The clients and where they find the daemon, which has another port after each start.
class Clients {
 public:
  void SetDaemon(std::shared_ptr<v1::Core::Stub> stub) {
    const MutexLock lock(mutex_);
    stub_ = std::move(stub);
  }

  void Start() {
    for (int client = 0; client < kClients; ++client) {
      threads_.emplace_back([this, client] { Run(client); });
    }
  }
  void Stop() {
    stopping_ = true;
    for (std::thread& thread : threads_) thread.join();
  }

  int64_t sent(int client) const { return sent_[client]; }
  int64_t replayed() const { return replayed_; }
  std::vector<std::string> failures() const {
    const MutexLock lock(mutex_);
    return failures_;
  }

 private:
  v1::AppendRecordsRequest Batch(int client, int64_t n) const {
    v1::AppendRecordsRequest request;
    for (int64_t i = 0; i < kBatchRecords; ++i) {
      auto& own = *request.add_records();
      own.set_stream(absl::StrCat("own", client));
      own.set_payload(Payload(client, n * kBatchRecords + i));
    }
    auto& shared = *request.add_records();
    shared.set_stream("shared");
    shared.set_payload(Payload(client, n));
    if (client % 2 == 0) {
      request.set_request_id(absl::StrCat("client-", client, "-", n));
    } else {
      request.mutable_producer()->set_producer_id(absl::StrCat("client-", client));
      request.mutable_producer()->set_sequence(n);
    }
    if (client < 2) {
      auto& condition = *request.add_conditions();
      condition.set_stream(absl::StrCat("own", client));
      condition.set_end_offset(n * kBatchRecords);
    }
    return request;
  }

  grpc::Status Send(const v1::AppendRecordsRequest& request, bool by_stream,
                    v1::AppendRecordsResponse* response) {
    std::shared_ptr<v1::Core::Stub> stub;
    {
      const MutexLock lock(mutex_);
      stub = stub_;
    }
    const auto context = Within(absl::Seconds(5));
    if (!by_stream) return stub->AppendRecords(context.get(), request, response);
    const auto call = stub->StreamAppendRecords(context.get());
    call->Write(request);
    call->WritesDone();
    if (call->Read(response)) {
      call->Finish();
      return grpc::Status::OK;
    }
    return call->Finish();
  }

  void Run(int client) {
    for (int64_t n = 0; !stopping_; ++n) {
      const v1::AppendRecordsRequest request = Batch(client, n);
      v1::AppendRecordsResponse response;
      while (true) {  // until it is acknowledged, however often the daemon dies
        const grpc::Status status = Send(request, n % 3 == 2, &response);
        if (status.ok()) break;
        const bool retry = status.error_code() == grpc::StatusCode::UNAVAILABLE ||
                           status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED ||
                           status.error_code() == grpc::StatusCode::CANCELLED;
        if (!retry) return Fail(absl::StrCat(client, "/", n, ": ", status.error_message()));
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
      if (response.streams(0).first_offset() != n * kBatchRecords) {
        return Fail(absl::StrCat(client, "/", n, ": stored at another offset"));
      }
      replayed_ += response.replayed() ? 1 : 0;
      sent_[client] = n + 1;
    }
  }

  void Fail(std::string why) {
    const MutexLock lock(mutex_);
    failures_.push_back(std::move(why));
  }

  mutable Mutex mutex_;
  std::shared_ptr<v1::Core::Stub> stub_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> failures_ ABSL_GUARDED_BY(mutex_);
  std::array<std::atomic<int64_t>, kClients> sent_{};
  std::atomic<int64_t> replayed_{0};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> threads_;
};

void ExpectEachOnce(const DaemonFixture& daemon, const Clients& clients) {
  const auto stub = daemon.Core();
  const auto context = Within(absl::Seconds(60));
  const auto reader = stub->ReadRecords(context.get(), {});
  std::map<std::string, std::map<int, int64_t>> next;  // by stream and client
  int64_t position = 0;
  v1::ReadRecordsResponse part;
  while (reader->Read(&part)) {
    for (const v1::Record& record : part.records()) {
      ASSERT_EQ(record.position(), position++);
      if (record.stream() == "_admin") continue;
      int client = 0;
      long n = 0;
      ASSERT_EQ(std::sscanf(record.payload().c_str(), "{\"client\":%d,\"n\":%ld}", &client, &n), 2);
      ASSERT_EQ(n, next[record.stream()][client]++) << record.stream();
      ASSERT_EQ(record.payload(), Payload(client, n));
    }
  }
  ASSERT_TRUE(reader->Finish().ok());
  for (int client = 0; client < kClients; ++client) {
    EXPECT_EQ(next["shared"][client], clients.sent(client));
    EXPECT_EQ(next[absl::StrCat("own", client)][client], clients.sent(client) * kBatchRecords);
  }
}

TEST(DaemonCrashTest, EveryBatchIsStoredOnceHoweverOftenTheDaemonDies) {
  const char* rounds = std::getenv("ICEPIE_CRASH_ROUNDS");
  const unsigned seed = std::random_device()();
  std::printf("seed %u\n", seed);
  std::mt19937 random(seed);
  DaemonFixture daemon;
  daemon.Start();
  ASSERT_TRUE(daemon.CreateStream("shared").ok());
  for (int client = 0; client < kClients; ++client) {
    ASSERT_TRUE(daemon.CreateStream(absl::StrCat("own", client)).ok());
  }
  Clients clients;
  clients.SetDaemon(daemon.Core());
  clients.Start();
  for (int round = 0; round < (rounds != nullptr ? std::atoi(rounds) : 20); ++round) {
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 300000));
    daemon.Kill();
    daemon.Start();
    if (::testing::Test::HasFatalFailure()) break;
    clients.SetDaemon(daemon.Core());
  }
  const int64_t before = clients.sent(0);
  EXPECT_TRUE(Eventually([&] { return clients.sent(0) > before; })) << "appends do not go on";
  clients.Stop();
  EXPECT_THAT(clients.failures(), ::testing::IsEmpty());
  ExpectEachOnce(daemon, clients);
  std::printf("%ld batches were found stored when sent again\n", clients.replayed());
}

}  // namespace
}  // namespace icepie::testing
