// The real daemon with real workers in a temporary directory, for tests from the outside.
//
//   DaemonFixture daemon;
//   daemon.Start();
//   daemon.Slices()->Query(…);
#ifndef ICEPIE_TESTS_E2E_DAEMON_FIXTURE_H_
#define ICEPIE_TESTS_E2E_DAEMON_FIXTURE_H_

#include <grpcpp/grpcpp.h>
#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "google/longrunning/operations.grpc.pb.h"
#include "icepie/v1/admin.grpc.pb.h"
#include "icepie/v1/core.grpc.pb.h"
#include "icepie/v1/slices.grpc.pb.h"

namespace icepie::testing {

// How a program ended and what it wrote to standard error.
struct ProgramEnd {
  int exit_code = -1;  // 128 + signal when a signal ended it
  std::string errors;
};

// Nullptr when the slice has no such condition.
const icepie::v1::SliceCondition* FindCondition(const icepie::v1::Slice& slice,
                                                const std::string& type);

// Threads: one, except the stubs, which are gRPC's.
// Lifetime: the destructor kills the daemon and removes the directory.
class DaemonFixture {
 public:
  DaemonFixture();
  ~DaemonFixture();
  DaemonFixture(const DaemonFixture&) = delete;
  DaemonFixture& operator=(const DaemonFixture&) = delete;

  // Settings (YAML) for the next Start; short snapshot and heartbeat intervals by default.
  void SetSettings(std::string yaml) { settings_ = std::move(yaml); }

  // Leaves the directory behind, for a look at what went wrong.
  void KeepDirectory() { keep_directory_ = true; }
  // A further argument of every Start from now on.
  void AddArgument(std::string argument) { more_arguments_.push_back(std::move(argument)); }

  // Starts icepied on free ports and waits until it is ready. Fails the test otherwise.
  void Start();
  // SIGTERM, and the exit code.
  int Stop();
  // SIGKILL, and waits for the end.
  void Kill();
  // Runs a second icepied with these further arguments until it ends by itself.
  ProgramEnd RunIcepied(const std::vector<std::string>& arguments) const;

  pid_t pid() const { return pid_; }
  const std::string& directory() const { return directory_; }
  const std::string& data_directory() const { return data_directory_; }
  const std::string& grpc_address() const { return grpc_address_; }
  const std::string& http_address() const { return http_address_; }
  // What the daemon has logged so far.
  std::string Log() const;

  std::unique_ptr<icepie::v1::Core::Stub> Core() const;
  std::unique_ptr<icepie::v1::Slices::Stub> Slices() const;
  std::unique_ptr<icepie::v1::Admin::Stub> Admin() const;
  std::unique_ptr<google::longrunning::Operations::Stub> Operations() const;

  // The calls most tests begin with; errors as they came.
  grpc::Status CreateStream(const std::string& name) const;
  // Appends JSON payloads to one stream and returns the end position.
  absl::StatusOr<int64_t> Append(const std::string& stream,
                                 const std::vector<std::string>& payloads) const;
  grpc::Status Apply(const std::string& file, icepie::v1::ApplyDomainResponse* response) const;
  // An answer that has everything below `min_position` (-1: whatever there is).
  grpc::Status Query(const std::string& domain, const std::string& sql, int64_t min_position,
                     icepie::v1::QueryResponse* response) const;
  icepie::v1::Slice GetSlice(const std::string& name) const;
  // The domain's worker in `role`; pid 0 while it is not running.
  icepie::v1::WorkerStatus Worker(const std::string& domain, const std::string& role) const;
  // Sends `signal` to it, once it is there, and returns its pid. -1 and a failure of the test when
  // it does not come: a signal to pid 0 would meet the test itself and all that runs with it.
  pid_t SignalWorker(const std::string& domain, const std::string& role, int signal) const;

 private:
  std::vector<std::string> Arguments() const;
  void ReadAnnouncement();
  // The ends of what the domains' workers have logged.
  std::string WorkerLogs() const;

  std::string directory_;
  std::string data_directory_;
  std::string settings_;
  std::vector<std::string> more_arguments_;
  bool keep_directory_ = false;
  std::string grpc_address_;
  std::string http_address_;
  std::shared_ptr<grpc::Channel> channel_;
  pid_t pid_ = 0;
};

// Polls until `holds` or `timeout`; returns whether it held.
bool Eventually(const std::function<bool()>& holds, absl::Duration timeout = absl::Seconds(60));

// A context with a deadline, so that no test hangs.
std::unique_ptr<grpc::ClientContext> Within(absl::Duration timeout);

}  // namespace icepie::testing

#endif  // ICEPIE_TESTS_E2E_DAEMON_FIXTURE_H_
