// The clients: some append and send again what was not acknowledged, as a client should, some ask
// questions by gRPC and HTTP. All they hear is recorded.
#ifndef ICEPIE_TESTS_FAULT_LOAD_H_
#define ICEPIE_TESTS_FAULT_LOAD_H_

#include <grpcpp/grpcpp.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/base/mutex.h"
#include "icepie/v1/core.grpc.pb.h"
#include "icepie/v1/slices.grpc.pb.h"
#include "tests/fault/call_record.h"
#include "tests/fault/fault_domains.h"

namespace icepie::fault {

// Where the daemon is, which has other ports after each start.
//
// Threads: any.
class Whereabouts {
 public:
  void Set(const std::string& grpc_address, const std::string& http_address);
  std::shared_ptr<grpc::Channel> channel() const;
  int http_port() const;

 private:
  mutable Mutex mutex_;
  std::shared_ptr<grpc::Channel> channel_ ABSL_GUARDED_BY(mutex_);
  int http_port_ ABSL_GUARDED_BY(mutex_) = 0;
};

struct LoadOptions {
  absl::Duration append_pause = absl::Milliseconds(60);
  absl::Duration read_pause = absl::Milliseconds(40);
  // What a reader waits for one answer, and a writer for one attempt.
  absl::Duration read_timeout = absl::Seconds(20);
  absl::Duration append_timeout = absl::Seconds(10);
  uint32_t seed = 0;
};

// Threads: Start and the destructor by one; the rest any.
class Load {
 public:
  Load(const Whereabouts& where, const LoadOptions& options) : where_(where), options_(options) {}
  ~Load();
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;

  void Start();
  // Ends the clients; those that append first have every batch acknowledged that they began, or
  // give up after `patience`.
  void Stop(absl::Duration patience);

  // The greatest end that was acknowledged so far.
  int64_t acknowledged_position() const { return acknowledged_; }
  // One batch of poison, by a client of its own. Threads: the caller's only.
  void AppendPoison();

  // Moves what was recorded into `record`; after Stop.
  void Take(CallRecord* record);

 private:
  void AppendFor(int client);
  // Until it is acknowledged, or Stop's patience is over.
  AppendCall Acknowledge(int client, int64_t batch, std::vector<StoredRecord> records);
  void ReadFor(int reader, const std::string& domain, bool by_http);
  ReadCall Prepare(int reader, int question, bool by_http, bool with_min_position) const;
  void AskByGrpc(ReadCall* read) const;
  void Record(AppendCall call);
  void Record(ReadCall call);

  const Whereabouts& where_;
  const LoadOptions options_;
  std::atomic<int64_t> acknowledged_{0};
  std::atomic<bool> stopping_{false};
  std::atomic<int64_t> give_up_at_ns_{INT64_MAX};
  int64_t poison_ = 0;
  std::vector<std::thread> threads_;
  Mutex mutex_;
  std::vector<AppendCall> appends_ ABSL_GUARDED_BY(mutex_);
  std::vector<ReadCall> reads_ ABSL_GUARDED_BY(mutex_);
};

// The calls that the load and the faults share.
grpc::Status AskGrpc(const std::shared_ptr<grpc::Channel>& channel, const Question& question,
                     int64_t min_position, absl::Duration timeout,
                     icepie::v1::QueryResponse* response);
// What an answer says of its slices.
void TakeMeta(const icepie::v1::Meta& meta, ReadCall* read);

}  // namespace icepie::fault

#endif  // ICEPIE_TESTS_FAULT_LOAD_H_
