// The faults that admin calls are part of.
#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/base/status.h"
#include "google/longrunning/operations.grpc.pb.h"
#include "tests/fault/fault_domains.h"
#include "tests/fault/fault_kinds.h"

namespace icepie::fault {
namespace {

namespace v1 = icepie::v1;

constexpr absl::Duration kCallTimeout = absl::Seconds(30);
constexpr absl::Duration kBuildTimeout = absl::Seconds(90);
constexpr absl::Duration kHeldTimeout = absl::Seconds(60);

constexpr size_t kFillerBytes = 3 << 20;

// A domain that comes and goes.
constexpr const char* kVisitor = R"yaml(domain: visitor_$0
sources:
  frames: {columns: {size: INTEGER}}
slices:
  counted: {sql: SELECT count(*) AS frames FROM frames}
)yaml";

}  // namespace

std::string FaultInjector::SomeSlice(const std::string& domain) {
  std::vector<std::string> names;
  for (const SliceSpec& slice : Slices()) {
    if (slice.domain == domain && slice.upstream.empty()) names.push_back(slice.FullName());
  }
  return names[random_() % names.size()];
}

absl::Status FaultInjector::Freeze(const std::string& slice) {
  v1::FreezeSliceRequest request;
  v1::Slice response;
  request.set_name(slice);
  request.set_reason("fault harness");
  request.set_actor("harness");
  ICEPIE_RETURN_IF_ERROR(
      Named("freeze", v1::Admin::NewStub(where_.channel())
                          ->FreezeSlice(testing::Within(kCallTimeout).get(), request, &response)));
  frozen_.push_back({slice, absl::Now()});
  return absl::OkStatus();
}

absl::Status FaultInjector::Thaw(const std::string& slice) {
  v1::ThawSliceRequest request;
  v1::Slice response;
  request.set_name(slice);
  request.set_actor("harness");
  for (FrozenSpan& span : frozen_) {
    if (span.slice == slice) span.end = std::min(span.end, absl::Now());
  }
  return Named("thaw", v1::Admin::NewStub(where_.channel())
                           ->ThawSlice(testing::Within(kCallTimeout).get(), request, &response));
}

absl::Status FaultInjector::ResumeWorkers(const std::string& domain) {
  std::string resumed;
  for (const SliceSpec& slice : Slices()) {
    if ((!domain.empty() && slice.domain != domain) || slice.domain == resumed) continue;
    ICEPIE_RETURN_IF_ERROR(Thaw(slice.FullName()));
    resumed = slice.domain;
  }
  return absl::OkStatus();
}

absl::Status FaultInjector::ResumeDomain(const std::string& domain) {
  v1::ChangeDomainRequest request;
  v1::ListSlicesResponse response;
  request.set_name(domain);
  request.set_actor("harness");
  return Named("resume the domain",
               v1::Admin::NewStub(where_.channel())
                   ->ResumeDomain(testing::Within(kCallTimeout).get(), request, &response));
}

// ---- Workers ------------------------------------------------------------------------------------

absl::Status FaultInjector::RollWorkers(FaultSpan* span) {
  v1::RollWorkersRequest request;
  v1::RollWorkersResponse response;
  request.set_domain(span->domain);
  request.set_actor("harness");
  const auto context = testing::Within(kBuildTimeout);
  const auto admin = v1::Admin::NewStub(where_.channel());
  const auto call = admin->RollWorkers(context.get(), request);
  while (call->Read(&response)) span->detail = absl::StrCat(response.elapsed_ms(), " ms");
  return Named("roll the workers", call->Finish());
}

absl::Status FaultInjector::Roll(FaultSpan* span) { return RollWorkers(span); }

absl::Status FaultInjector::KillAndRestart(FaultSpan* span) {
  const std::string slice = SomeSlice(span->domain);
  ICEPIE_RETURN_IF_ERROR(Signal(span, "live", SIGKILL));
  v1::RestartSliceRequest request;
  v1::Slice response;
  request.set_name(slice);
  request.set_actor("harness");
  return Named("restart",
               v1::Admin::NewStub(where_.channel())
                   ->RestartSlice(testing::Within(kCallTimeout).get(), request, &response));
}

// A slice that was suspended is so whatever becomes of its worker.
absl::Status FaultInjector::SuspendAndKill(FaultSpan* span) {
  const std::string slice = SomeSlice(span->domain);
  v1::SuspendSliceRequest suspend;
  v1::Slice response;
  suspend.set_name(slice);
  suspend.set_reason("fault harness");
  suspend.set_actor("harness");
  const auto admin = v1::Admin::NewStub(where_.channel());
  ICEPIE_RETURN_IF_ERROR(Named(
      "suspend", admin->SuspendSlice(testing::Within(kCallTimeout).get(), suspend, &response)));
  frozen_.push_back({slice, absl::Now()});
  const absl::Status killed = Signal(span, "live", SIGKILL);
  span->detail = absl::StrCat(slice, ", ", span->detail);
  Sleep(Pause(50, 400));
  response = daemon_.GetSlice(slice);
  frozen_.back().end = absl::Now();
  v1::ResumeSliceRequest resume;
  resume.set_name(slice);
  resume.set_actor("harness");
  v1::Slice resumed;
  ICEPIE_RETURN_IF_ERROR(
      Named("resume", admin->ResumeSlice(testing::Within(kCallTimeout).get(), resume, &resumed)));
  if (response.desired().mode() == v1::DesiredState::SUSPEND) return killed;
  return absl::InternalError(absl::StrCat(
      slice, " was suspended, and is not after its worker died: ", response.ShortDebugString()));
}

// ---- Definitions --------------------------------------------------------------------------------

absl::Status FaultInjector::Apply(const std::string& file) {
  v1::ApplyDomainResponse response;
  return Named("apply", daemon_.Apply(file, &response));
}

std::string FaultInjector::FileOf(const std::string& domain) const {
  const auto changed = timeout_.find(domain);
  if (changed == timeout_.end()) return DomainFile(domain);
  return absl::StrReplaceAll(
      DomainFile(domain),
      {{"query_timeout: 10s", absl::StrCat("query_timeout: ", changed->second, "s")}});
}

// A file that was accepted is there after a kill -9 right after the answer.
absl::Status FaultInjector::EditAndKillDaemon(FaultSpan* span) {
  const std::string domain = Domains()[random_() % Domains().size()];
  int& timeout = timeout_[domain];
  timeout = timeout == 11 ? 10 : 11;
  span->detail = absl::StrCat(domain, " query_timeout ", timeout, "s");
  ICEPIE_RETURN_IF_ERROR(Apply(FileOf(domain)));
  ICEPIE_RETURN_IF_ERROR(RestartDaemon(absl::ZeroDuration()));
  return CheckFile(domain);
}

absl::Status FaultInjector::CheckFile(const std::string& domain) {
  v1::GetDomainRequest request;
  v1::Domain response;
  request.set_name(domain);
  ICEPIE_RETURN_IF_ERROR(
      Named("get the domain",
            daemon_.Admin()->GetDomain(testing::Within(kCallTimeout).get(), request, &response)));
  if (response.file() == FileOf(domain)) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat(domain, " lost the file that was accepted before the daemon was killed: ",
                   response.ShortDebugString()));
}

absl::Status FaultInjector::DeleteDomain(const std::string& domain) {
  v1::DeleteDomainRequest remove;
  v1::Domain response;
  remove.set_name(domain);
  remove.set_actor("harness");
  remove.mutable_keep()->set_seconds(0);
  return Named("delete the domain", daemon_.Admin()->DeleteDomain(
                                        testing::Within(kCallTimeout).get(), remove, &response));
}

absl::Status FaultInjector::DeleteAndKillDaemon(FaultSpan* span) {
  const std::string file = absl::StrReplaceAll(kVisitor, {{"$0", absl::StrCat(++visitors_)}});
  span->detail = absl::StrCat("visitor_", visitors_);
  ICEPIE_RETURN_IF_ERROR(Apply(file));
  ICEPIE_RETURN_IF_ERROR(DeleteDomain(span->detail));
  ICEPIE_RETURN_IF_ERROR(RestartDaemon(absl::ZeroDuration()));
  v1::GetDomainRequest request;
  v1::Domain response;
  request.set_name(span->detail);
  const grpc::Status found =
      daemon_.Admin()->GetDomain(testing::Within(kCallTimeout).get(), request, &response);
  if (found.error_code() == grpc::StatusCode::NOT_FOUND) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(span->detail,
                                          " was deleted before the daemon was killed, and is there "
                                          "after its restart: ",
                                          response.ShortDebugString(), found.error_message()));
}

// Rows that a check refuses: the slice is held, its last good snapshot stays.
absl::Status FaultInjector::FailedExpectation(FaultSpan* span) {
  const std::string slice = SomeSlice(span->domain);
  const std::string short_name = slice.substr(span->domain.size() + 1);
  span->detail = slice;
  const std::string file = FileOf(span->domain);
  const std::string entry = absl::StrCat("  ", short_name, ":\n");
  ICEPIE_RETURN_IF_ERROR(Apply(absl::StrReplaceAll(
      file, {{entry, absl::StrCat(entry,
                                  "    expect: [{name: none, sql: SELECT 1 AS one FROM "
                                  "slice LIMIT 1}]\n")}})));
  // A machine that others load makes snapshots, which it is checked for, seldom.
  v1::CreateSnapshotRequest save;
  save.set_slice(slice);
  save.set_name(absl::StrCat("harness", span->number));
  save.set_actor("harness");
  v1::Snapshot saved;
  (void)daemon_.Admin()->CreateSnapshot(testing::Within(kCallTimeout).get(), save, &saved);
  const bool held = testing::Eventually([&] { return daemon_.GetSlice(slice).state() == v1::HELD; },
                                        kHeldTimeout);
  const v1::Slice seen = daemon_.GetSlice(slice);
  ICEPIE_RETURN_IF_ERROR(Apply(file));
  if (held) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(
      slice, " is not held although its expectation fails: ", seen.ShortDebugString()));
}

// The domain has used up what it may have of the disk: it goes on, and says what is not saved.
absl::Status FaultInjector::DiskBudget(FaultSpan* span) {
  const std::string slice = SomeSlice(span->domain);
  span->detail = slice;
  const auto not_saved = [&] {
    const v1::Slice seen = daemon_.GetSlice(slice);
    const auto* condition = testing::FindCondition(seen, "NOT_SAVED");
    return condition != nullptr ? condition->reason() : "";
  };
  const std::string filler = DomainDirectory(span->domain) + "/filler";
  std::ofstream(filler) << std::string(kFillerBytes, 'x');
  const std::string file = FileOf(span->domain);
  const absl::Status limited =
      Apply(absl::StrReplaceAll(file, {{"limits: {", "limits: {disk: 2MB, "}}));
  const bool said =
      limited.ok() &&
      testing::Eventually([&] { return not_saved() == "DOMAIN_DISK_FULL"; }, kHeldTimeout);
  const v1::Slice seen = daemon_.GetSlice(slice);
  std::error_code error;
  std::filesystem::remove(filler, error);
  ICEPIE_RETURN_IF_ERROR(limited);
  ICEPIE_RETURN_IF_ERROR(Apply(file));
  if (!said) {
    return absl::InternalError(
        absl::StrCat(slice, " does not say that it has no disk left: ", seen.ShortDebugString()));
  }
  if (testing::Eventually([&] { return not_saved().empty(); }, kHeldTimeout)) {
    return absl::OkStatus();
  }
  return absl::DeadlineExceededError(absl::StrCat(slice, " is not saved with disk left"));
}

// ---- Freezing -----------------------------------------------------------------------------------

absl::Status FaultInjector::FreezeAndKill(FaultSpan* span) {
  const std::string slice = SomeSlice(span->domain);
  span->detail = slice;
  ICEPIE_RETURN_IF_ERROR(Signal(span, "live", SIGKILL));
  ICEPIE_RETURN_IF_ERROR(Freeze(slice));  // also with the worker dead
  Sleep(Pause(50, 400));
  ICEPIE_RETURN_IF_ERROR(Signal(span, "live", SIGKILL));
  Sleep(Pause(50, 400));
  return Thaw(slice);
}

absl::Status FaultInjector::FreezeAndKillDaemon(FaultSpan* span) {
  const std::string slice = SomeSlice(Domains()[random_() % Domains().size()]);
  span->detail = slice;
  ICEPIE_RETURN_IF_ERROR(Freeze(slice));
  ICEPIE_RETURN_IF_ERROR(RestartDaemon(absl::ZeroDuration()));
  v1::GetSliceRequest request;
  v1::Slice response;
  request.set_name(slice);
  ICEPIE_RETURN_IF_ERROR(
      Named("get", v1::Slices::NewStub(where_.channel())
                       ->GetSlice(testing::Within(kCallTimeout).get(), request, &response)));
  if (response.desired().mode() != v1::DesiredState::FREEZE) {
    return absl::InternalError(absl::StrCat(slice,
                                            " was frozen before the daemon was killed, and "
                                            "is not after its restart"));
  }
  return Thaw(slice);
}

// ---- Generations --------------------------------------------------------------------------------

// Killed at any stage, or stopped once it answers: a process that is stopped while it starts is
// given the whole time for a start, a minute.
absl::Status FaultInjector::HurtBuild(FaultSpan* span) {
  if (random_() % 2 == 0) {
    Sleep(Pause(0, 250));
    return Signal(span, "build", SIGKILL);
  }
  testing::Eventually([&] { return Worker(span->domain, "build").state() == "running"; },
                      absl::Seconds(1));
  if (Worker(span->domain, "build").state() != "running") {
    span->injected = false;
    return absl::OkStatus();
  }
  return Signal(span, "build", SIGSTOP);
}

absl::Status FaultInjector::ResliceAndPromote(FaultSpan* span, bool kill) {
  const std::string slice = SomeSlice(span->domain);
  span->detail = slice;
  v1::ResliceSliceRequest request;
  google::longrunning::Operation operation;
  request.set_name(slice);
  request.set_reason("fault harness");
  request.set_actor("harness");
  const auto admin = v1::Admin::NewStub(where_.channel());
  ICEPIE_RETURN_IF_ERROR(Named(
      "reslice", admin->ResliceSlice(testing::Within(kCallTimeout).get(), request, &operation)));
  if (kill) ICEPIE_RETURN_IF_ERROR(HurtBuild(span));
  google::longrunning::WaitOperationRequest wait;
  wait.set_name(operation.name());
  const absl::Time deadline = absl::Now() + kBuildTimeout;
  const auto operations = google::longrunning::Operations::NewStub(where_.channel());
  while (!operation.done()) {
    if (absl::Now() > deadline) return absl::DeadlineExceededError("the build did not end");
    ICEPIE_RETURN_IF_ERROR(
        Named("wait for the build",
              operations->WaitOperation(testing::Within(kCallTimeout).get(), wait, &operation)));
  }
  if (operation.has_error()) {
    return absl::InternalError(absl::StrCat("the build failed: ", operation.error().message()));
  }
  v1::PromoteGenerationRequest promote;
  v1::Slice response;
  promote.set_name(slice);
  promote.set_actor("harness");
  return Named("promote",
               admin->PromoteGeneration(testing::Within(kBuildTimeout).get(), promote, &response));
}

absl::Status FaultInjector::Reslice(FaultSpan* span) { return ResliceAndPromote(span, false); }
absl::Status FaultInjector::KillBuild(FaultSpan* span) { return ResliceAndPromote(span, true); }

}  // namespace icepie::fault
