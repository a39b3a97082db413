#include "tests/bench/noise.h"

#include <grpcpp/grpcpp.h>
#include <sys/resource.h>

#include <csignal>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/check.h"
#include "tests/bench/append_load.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie::bench {
namespace {

namespace v1 = icepie::v1;
using testing::Within;

// More than the domain's memory: the one ends by its limit, the other goes to its disk.
constexpr const char* kHungry[] = {
    "SELECT len(list(a.range)) FROM range(100000) AS a, range(100000) AS b",
    "SELECT max(n) FROM (SELECT row_number() OVER (ORDER BY md5(CAST(range AS VARCHAR))) AS n "
    "FROM range(50000000))"};

}  // namespace

Noise::Noise(const std::string& address, const std::string& kind) : address_(address) {
  const auto channel = grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  slices_ = v1::Slices::NewStub(channel);
  admin_ = v1::Admin::NewStub(channel);
  operations_ = google::longrunning::Operations::NewStub(channel);
  const bool all = kind == "all";
  if (all || kind == "query") {
    for (int i = 0; i < 2; ++i) threads_.emplace_back([this] { AskEndlessly(); });
  }
  if (all || kind == "reslice") threads_.emplace_back([this] { ResliceAgain(); });
  if (kind == "crash") {
    threads_.emplace_back([this] { KillLiveWorker(); });
    for (int i = 0; i < 2; ++i) threads_.emplace_back([this] { AskStandby(); });
  }
  if (kind == "hungry") {
    for (const char* sql : kHungry)
      threads_.emplace_back([this, sql] { Ask(sql, absl::Seconds(5)); });
  }
  if (all || kind == "flood") threads_.emplace_back([this] { Flood(); });
}

void Noise::Stop() {
  stopping_ = true;
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void Noise::Ask(const std::string& sql, absl::Duration timeout) {
  while (!stopping_) {
    v1::QueryRequest request;
    v1::QueryResponse response;
    request.set_domain("noisy");
    request.set_sql(sql);
    (void)slices_->Query(Within(timeout).get(), request, &response);
  }
}

void Noise::AskEndlessly() {
  Ask("SELECT count(*) FROM range(10000000) AS a, range(10000000) AS b", absl::Seconds(1));
}

// A name of its own makes each another question: one that is often there when a worker dies would
// be refused as the one to blame.
void Noise::AskStandby() {
  while (!stopping_) {
    v1::QueryRequest request;
    v1::QueryResponse response;
    request.set_domain("noisy");
    request.set_sql(absl::StrCat("SELECT count(*) AS n", ++questions_,
                                 " FROM volume AS a, range(10000) AS b WHERE a.volume > b.range"));
    (void)slices_->Query(Within(absl::Seconds(1)).get(), request, &response);
  }
}

void Noise::KillLiveWorker() {
  while (!stopping_) {
    v1::ServerStatus status;
    ICEPIE_CHECK(admin_->GetServerStatus(Within(absl::Seconds(60)).get(), {}, &status).ok());
    for (const v1::WorkerStatus& worker : status.workers()) {
      if (worker.domain() != "noisy" || worker.role() != "live" || worker.pid() <= 0) continue;
      if (kill(static_cast<pid_t>(worker.pid()), SIGKILL) == 0) ++killed_;
    }
    // Ten failures in ten minutes suspend a worker.
    v1::ThawSliceRequest request;
    v1::Slice thawed;
    request.set_name("noisy.volume");
    (void)admin_->ThawSlice(Within(absl::Seconds(60)).get(), request, &thawed);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

void Noise::ResliceAgain() {
  while (!stopping_) {
    v1::ResliceSliceRequest request;
    google::longrunning::Operation operation;
    request.set_name("noisy.volume");
    ICEPIE_CHECK(admin_->ResliceSlice(Within(absl::Seconds(60)).get(), request, &operation).ok());
    google::longrunning::WaitOperationRequest wait;
    wait.set_name(operation.name());
    while (!operation.done() && !stopping_) {
      (void)operations_->WaitOperation(Within(absl::Seconds(1)).get(), wait, &operation);
    }
    if (operation.done()) ++resliced_;
    google::longrunning::CancelOperationRequest cancel;
    google::protobuf::Empty nothing;
    cancel.set_name(operation.name());
    (void)operations_->CancelOperation(Within(absl::Seconds(60)).get(), cancel, &nothing);
  }
}

void Noise::Flood() {
  while (!stopping_) {
    Load load;
    load.address = address_;
    load.clients = 4;
    load.batch = 1000;
    load.seconds = 0.5;
    appended_ += RunLoad(load).records;
  }
}

void RunNoise(const std::string& address, const std::string& kind) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ICEPIE_CHECK(setpriority(PRIO_PROCESS, 0, 19) == 0);
  Noise noise(address, kind);
  const absl::Time begin = absl::Now();
  std::printf("begins\n");
  std::fflush(stdout);
  int signal = 0;
  sigwait(&signals, &signal);
  const double seconds = absl::ToDoubleSeconds(absl::Now() - begin);
  noise.Stop();
  std::printf("%.0f %.3f %.3f\n", static_cast<double>(noise.appended()) / seconds,
              static_cast<double>(noise.resliced()) / seconds,
              static_cast<double>(noise.killed()) / seconds);
  std::fflush(stdout);
}

}  // namespace icepie::bench
