// SIGKILL of the daemon at random moments while clients append by every way there is and send again
// what was not answered. Every start continues the checkpoints of before, as an auditor checks it.
// ICEPIE_CRASH_ROUNDS sets how often (20 without it).
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
#include "server/base/rpc_status.h"
#include "tests/core/merkle/rfc_verifier.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie::testing {
namespace {

namespace v1 = icepie::v1;

constexpr int kClients = 4;
constexpr int64_t kBatchRecords = 3;
constexpr absl::Duration kRestartMax = absl::Seconds(5);
constexpr int kManyRounds = 200;  // in so many some batches are found stored when sent again

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

// Keeps the checkpoints that it was given.
class Auditor {
 public:
  // The daemon's newest checkpoint continues the one before.
  void Look(const DaemonFixture& daemon, int64_t min_size = 0) {
    v1::GetCheckpointRequest request;
    v1::Checkpoint now;
    request.set_min_size(min_size);
    const auto signed_now =
        daemon.Core()->GetCheckpoint(Within(absl::Seconds(60)).get(), request, &now);
    ASSERT_TRUE(signed_now.ok()) << signed_now.error_message();
    if (!last_.note().empty()) {
      ASSERT_EQ(now.verifier_key(), last_.verifier_key());
      v1::GetConsistencyProofRequest sizes;
      v1::ConsistencyProof proof;
      sizes.set_old_size(last_.tree_size());
      sizes.set_size(now.tree_size());
      const auto proven =
          daemon.Core()->GetConsistencyProof(Within(absl::Seconds(60)).get(), sizes, &proof);
      ASSERT_TRUE(proven.ok()) << proven.error_message();
      EXPECT_TRUE(rfc::Consistent(last_.tree_size(), last_.root_hash(), now.tree_size(),
                                  now.root_hash(), {proof.hashes().begin(), proof.hashes().end()}))
          << "from " << last_.tree_size() << " to " << now.tree_size() << " records";
    }
    if (first_note_.empty()) first_note_ = now.note();
    last_ = std::move(now);
  }

  // Every record is what was committed, and all of them lead to what was signed.
  void ExpectVerified(const DaemonFixture& daemon) const {
    v1::VerifyCoreRequest request;
    request.set_older_checkpoint(first_note_);
    const auto context = Within(absl::Seconds(300));
    const auto stub = daemon.Core();
    const auto reader = stub->VerifyCore(context.get(), request);
    v1::VerifyCoreResponse message;
    while (reader->Read(&message)) {
    }
    const grpc::Status ended = reader->Finish();
    ASSERT_TRUE(ended.ok()) << ended.error_message();
    const v1::VerificationReport& report = message.report();
    for (const auto& answer :
         {report.bytes_rehashed(), report.tree_recomputed(), report.consistent()}) {
      EXPECT_EQ(answer.state(), v1::VerificationAnswer::STATE_HOLDS) << report.DebugString();
    }
    EXPECT_GE(message.position(), last_.tree_size());
  }

 private:
  std::string first_note_;
  v1::Checkpoint last_;
};

void ExpectEachOnce(const DaemonFixture& daemon, const Clients& clients) {
  const auto stub = daemon.Core();
  const auto context = Within(absl::Seconds(60));
  const auto reader = stub->ReadRecords(context.get(), {});
  std::map<std::string, std::map<int, int64_t>> next;  // by stream and client
  std::map<std::string, int64_t> offsets;
  int64_t position = 0;
  v1::ReadRecordsResponse part;
  while (reader->Read(&part)) {
    for (const v1::Record& record : part.records()) {
      ASSERT_EQ(record.position(), position++);
      ASSERT_EQ(record.offset(), offsets[record.stream()]++) << record.stream();
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
  const char* wanted = std::getenv("ICEPIE_CRASH_ROUNDS");
  const int rounds = wanted != nullptr ? std::atoi(wanted) : 20;
  const unsigned seed = std::random_device()();
  std::printf("seed %u\n", seed);
  std::mt19937 random(seed);
  DaemonFixture daemon;
  daemon.Start();
  ASSERT_TRUE(daemon.CreateStream("shared").ok());
  for (int client = 0; client < kClients; ++client) {
    ASSERT_TRUE(daemon.CreateStream(absl::StrCat("own", client)).ok());
  }
  Auditor auditor;
  auditor.Look(daemon);
  Clients clients;
  clients.SetDaemon(daemon.Core());
  clients.Start();
  for (int round = 0; round < rounds; ++round) {
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 300000));
    daemon.Kill();
    const absl::Time start = absl::Now();
    daemon.Start();
    // The long run has the machine to itself.
    if (wanted != nullptr) EXPECT_LT(absl::Now() - start, kRestartMax);
    if (::testing::Test::HasFatalFailure()) break;
    clients.SetDaemon(daemon.Core());
    auditor.Look(daemon);
  }
  const int64_t before = clients.sent(0);
  EXPECT_TRUE(Eventually([&] { return clients.sent(0) > before; })) << "appends do not go on";
  clients.Stop();
  EXPECT_THAT(clients.failures(), ::testing::IsEmpty());
  ExpectEachOnce(daemon, clients);
  int64_t records = 0;
  for (int client = 0; client < kClients; ++client) {
    records += clients.sent(client) * (kBatchRecords + 1);
  }
  auditor.Look(daemon, records);
  auditor.ExpectVerified(daemon);
  if (rounds >= kManyRounds) EXPECT_GT(clients.replayed(), 0);
  std::printf("%ld batches were found stored when sent again\n", clients.replayed());
}

}  // namespace
}  // namespace icepie::testing
