// Faults of domains that come and go, since those of the load could not keep their promises in
// them.
#include <algorithm>
#include <atomic>
#include <csignal>
#include <fstream>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/base/status.h"
#include "core/core.h"
#include "server/base/rpc_status.h"
#include "tests/fault/fault_domains.h"
#include "tests/fault/fault_kinds.h"

namespace icepie::fault {
namespace {

namespace v1 = icepie::v1;

constexpr absl::Duration kAnswerTimeout = absl::Seconds(30);
constexpr absl::Duration kStateTimeout = absl::Seconds(60);
constexpr int kRestsMax = 5;
// More than a domain may have waiting.
constexpr int kCrowd = 80;

// The stream is nobody's but the visitors': records of the load would let none rest.
constexpr const char* kQuiet = R"yaml(domain: $0
sources:
  quiet: {columns: {n: INTEGER}}
$1slices:
  counted: {sql: SELECT count(*) AS records FROM quiet}
)yaml";

Question HowMany(const std::string& domain) {
  return {domain, "SELECT records FROM counted", {"counted"}};
}

// Questions that end when they are called off.
class Crowd {
 public:
  Crowd(const std::shared_ptr<grpc::Channel>& channel, const std::string& domain) {
    v1::QueryRequest request;
    request.set_domain(domain);
    request.set_sql("SELECT count(*) FROM range(10000000) AS a, range(10000000) AS b");
    for (int i = 0; i < kCrowd; ++i) {
      contexts_.push_back(testing::Within(kStateTimeout));
      threads_.emplace_back(
          [this, request, stub = v1::Slices::NewStub(channel), context = contexts_.back().get()] {
            v1::QueryResponse response;
            const grpc::Status status = stub->Query(context, request, &response);
            const bool full = status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED &&
                              ErrorReason(server::FromGrpcStatus(status)) == "TOO_MANY_QUERIES";
            if (full) ++refused_;
          });
    }
  }
  ~Crowd() {
    for (const auto& context : contexts_) context->TryCancel();
    for (std::thread& thread : threads_) thread.join();
  }
  Crowd(const Crowd&) = delete;
  Crowd& operator=(const Crowd&) = delete;

  int refused() const { return refused_; }

 private:
  std::atomic<int> refused_{0};
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts_;
  std::vector<std::thread> threads_;
};

}  // namespace

// A domain of the kind's own, saved, with one record more than the one before.
absl::Status FaultInjector::Visit(FaultSpan* span, const std::string& name,
                                  const std::string& lines) {
  span->domain = absl::StrCat(name, "_", ++visitors_);
  if (quiet_records_ == 0) {
    ICEPIE_RETURN_IF_ERROR(Named("create stream quiet", daemon_.CreateStream("quiet")));
  }
  ICEPIE_RETURN_IF_ERROR(AppendQuiet());
  ICEPIE_RETURN_IF_ERROR(Apply(absl::StrReplaceAll(kQuiet, {{"$0", span->domain}, {"$1", lines}})));
  v1::Slice slice;
  const bool saved = testing::Eventually(
      [&] {
        slice = daemon_.GetSlice(span->domain + ".counted");
        return slice.state() == v1::RUNNING &&
               std::max(slice.standby_position(), slice.snapshot_position()) >= quiet_end_;
      },
      kStateTimeout);
  if (saved) return absl::OkStatus();
  return absl::DeadlineExceededError("not saved: " + slice.ShortDebugString());
}

absl::Status FaultInjector::AppendQuiet() {
  ICEPIE_ASSIGN_OR_RETURN(quiet_end_,
                          daemon_.Append("quiet", {absl::StrCat("{\"n\":", quiet_records_, "}")}));
  ++quiet_records_;
  return absl::OkStatus();
}

// With all records, whoever answers.
absl::Status FaultInjector::CheckQuiet(const std::string& domain) {
  v1::QueryResponse response;
  ICEPIE_RETURN_IF_ERROR(
      Named("a question to " + domain,
            AskGrpc(where_.channel(), HowMany(domain), quiet_end_, kAnswerTimeout, &response)));
  const std::string expected = absl::StrCat("[{\"records\":", quiet_records_, "}]");
  if (response.body() == expected) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat(domain, " answered ", response.body(), " and not ", expected));
}

absl::Status FaultInjector::AwaitRest(const std::string& domain) {
  const auto rests = [&](const char* role) {
    const v1::WorkerStatus worker = Worker(domain, role);
    return worker.state() == "hibernating" && worker.pid() == 0;
  };
  if (testing::Eventually([&] { return rests("live") && rests("standby"); }, kStateTimeout)) {
    return absl::OkStatus();
  }
  return absl::DeadlineExceededError(absl::StrCat(
      domain, " does not hibernate: ", daemon_.GetSlice(domain + ".counted").ShortDebugString()));
}

// The standby that a question starts dies before it can answer; then a record comes.
absl::Status FaultInjector::WakeAndKill(FaultSpan* span) {
  const std::string& domain = span->domain;
  span->injected = false;
  for (int i = 0; i < kRestsMax && !span->injected; ++i) {
    ICEPIE_RETURN_IF_ERROR(AwaitRest(domain));
    std::atomic<bool> answered{false};
    absl::Status asked;
    std::thread asking([&] {
      asked = CheckQuiet(domain);
      answered = true;
    });
    while (!answered && !span->injected) {
      const auto pid = static_cast<pid_t>(Worker(domain, "standby").pid());
      span->injected = pid > 0 && kill(pid, SIGKILL) == 0;
      if (pid == 0) Sleep(absl::Milliseconds(1));
    }
    asking.join();
    ICEPIE_RETURN_IF_ERROR(asked);
    ICEPIE_RETURN_IF_ERROR(AppendQuiet());
    ICEPIE_RETURN_IF_ERROR(CheckQuiet(domain));
  }
  return absl::OkStatus();
}

absl::Status FaultInjector::HibernatingDomain(FaultSpan* span) {
  absl::Status done = Visit(span, "resting", "idle_after: 1s\n");
  if (done.ok()) done = WakeAndKill(span);
  const absl::Status deleted = DeleteDomain(span->domain);
  return done.ok() ? deleted : done;
}

// Who asks more than may wait is told so at once; nobody else is.
absl::Status FaultInjector::FillQueue(FaultSpan* span) {
  const Crowd crowd(where_.channel(), span->domain);
  if (!testing::Eventually([&] { return crowd.refused() > 0; }, kAnswerTimeout)) {
    return absl::InternalError(
        absl::StrCat("none of ", kCrowd, " questions to ", span->domain, " was refused"));
  }
  v1::QueryResponse response;
  for (const Question& question : Questions()) {
    ICEPIE_RETURN_IF_ERROR(
        Named(absl::StrCat("a question to ", question.domain, " beside a full queue"),
              AskGrpc(where_.channel(), question, -1, kAnswerTimeout, &response)));
  }
  span->detail = absl::StrCat(crowd.refused(), " refused");
  return absl::OkStatus();
}

absl::Status FaultInjector::FullQueue(FaultSpan* span) {
  absl::Status done = Visit(span, "crowded", "limits: {query_timeout: 60s}\n");
  if (done.ok()) done = FillQueue(span);
  // Those that were called off leave room.
  const auto answers = [&] { return (done = CheckQuiet(span->domain)).ok(); };
  if (done.ok()) testing::Eventually(answers, kStateTimeout);
  const absl::Status deleted = DeleteDomain(span->domain);
  return done.ok() ? deleted : done;
}

// As with `damaged_catalog`, and the copy is none either: the domain is held, says so and answers
// from its snapshot, until its file is applied again.
absl::Status FaultInjector::DamageCatalogAndCopy(const std::string& domain) {
  downs_.push_back({absl::Now()});
  daemon_.Kill();
  const absl::Status damaged = DamageCatalog(domain);
  std::ofstream(absl::StrCat(daemon_.data_directory(), "/catalog/", domain)) << "no copy";
  ICEPIE_RETURN_IF_ERROR(StartDaemon());
  ICEPIE_RETURN_IF_ERROR(damaged);
  const v1::Slice held = daemon_.GetSlice(domain + ".counted");
  if (held.state() != v1::HELD || held.last_error().reason() != "CATALOG_DAMAGED") {
    return absl::InternalError("a damaged domain does not say so: " + held.ShortDebugString());
  }
  v1::QueryResponse response;
  ICEPIE_RETURN_IF_ERROR(
      Named("a question to a damaged domain",
            AskGrpc(where_.channel(), HowMany(domain), -1, kAnswerTimeout, &response)));
  if (response.meta().slices(0).stale_reason() != v1::SLICE_HELD) {
    return absl::InternalError("its answer does not say so: " + response.meta().ShortDebugString());
  }
  for (const std::string& other : Domains()) ICEPIE_RETURN_IF_ERROR(CheckFile(other));
  return absl::OkStatus();
}

absl::Status FaultInjector::LostCatalogEntry(FaultSpan* span) {
  ICEPIE_RETURN_IF_ERROR(Visit(span, "lost", ""));
  // All workers are replaced: the fault is everybody's.
  const std::string domain = std::exchange(span->domain, "");
  span->detail = domain;
  absl::Status done = DamageCatalogAndCopy(domain);
  if (done.ok()) done = Apply(absl::StrReplaceAll(kQuiet, {{"$0", domain}, {"$1", ""}}));
  if (done.ok()) done = AppendQuiet();
  if (done.ok()) done = CheckQuiet(domain);
  const absl::Status deleted = DeleteDomain(domain);
  return done.ok() ? deleted : done;
}

}  // namespace icepie::fault
