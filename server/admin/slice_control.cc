#include "server/admin/slice_control.h"

#include <algorithm>
#include <future>
#include <iterator>
#include <memory>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "server/base/proto_time.h"
#include "server/domain/live_report.h"
#include "server/domain/slice_facts.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;
namespace wv1 = icepie::worker::v1;
using v1::DesiredState;
using wv1::SliceReport;

// For the last state of frozen slices: a gigabyte, at the pace at which snapshots are written.
constexpr absl::Duration kSavedTimeout = absl::Seconds(15);
// A process that is restarted saves its state first and then reads it again.
constexpr absl::Duration kRestartTimeout = absl::Seconds(20);
constexpr absl::Duration kRollTimeout = absl::Minutes(2);

// The live worker shows the slice as `action` wants it.
bool Shows(SliceAction action, const SliceReport& report) {
  switch (action) {
    case SliceAction::kFreeze:
      return report.state() == v1::FROZEN || report.state() == v1::SUSPENDED;
    case SliceAction::kSuspend:
      // What it showed last is saved, so that it is shown after any restart.
      return report.state() == v1::SUSPENDED &&
             (report.snapshot().path().empty() ||
              report.snapshot().position() >= report.applied_position());
    case SliceAction::kThaw:
      return report.state() != v1::FROZEN;
    case SliceAction::kResume:
      return report.state() != v1::SUSPENDED;
    default:
      return true;
  }
}

// A restart shows the same rows, or that they cannot be saved is known and told (NOT_SAVED).
bool IsSaved(const SliceReport& report) {
  if (report.no_rows() || report.has_not_saved()) return true;
  return !report.snapshot().path().empty() &&
         report.snapshot().position() >= report.applied_position();
}

absl::Status CheckNoReminder(const v1::ChangeDomainRequest& request) {
  if (!request.has_remind_after()) return absl::OkStatus();
  return MakeError(absl::StatusCode::kInvalidArgument,
                   "remind_after: only a freeze is meant to last for a time; leave it out",
                   "PARAMETER_INVALID", {{"field", "remind_after"}});
}

template <typename Test>
bool AllReport(const DomainView& view, int64_t epoch, const std::vector<std::string>& slices,
               const Test& test) {
  return std::all_of(slices.begin(), slices.end(),
                     [&](const std::string& slice) { return LiveHas(view, epoch, slice, test); });
}

}  // namespace

SliceControl::SliceControl(Core& core, Catalog& catalog, Supervisor& supervisor,
                           DomainManager& manager)
    : core_(core),
      catalog_(catalog),
      supervisor_(supervisor),
      manager_(manager),
      reader_(manager.reader()) {}

absl::StatusOr<int64_t> SliceControl::Store(const SliceVerb& verb, const std::string& domain,
                                            const SliceNames& slices) {
  const absl::Time now = absl::Now();
  // What is found and not stored by then is void from then on, and what is stored is lifted.
  const auto resume = [&] {
    if (EndsSuspension(verb.action)) supervisor_.Resume(domain, slices);
  };
  ICEPIE_RETURN_IF_ERROR(catalog_.ChangeDesired(
      domain, slices, [&](const auto& slice) { return DesiredAfter(verb, slice, now); }, resume));
  return manager_.Configure(domain);
}

void SliceControl::WaitUntilTaken(const SliceVerb& verb, const std::string& domain,
                                  const SliceNames& changed, int64_t epoch) {
  SliceNames slices;
  const auto current = reader_.Find(domain);
  for (const std::string& name : changed) {
    // What is held answers from its snapshots, whatever is wanted of it.
    const bool held = !current.ok() || !(*current)->held.empty();
    if (!held && (*current)->slices.count(name) > 0) slices.push_back(name);
  }
  const auto shows = [&](const SliceReport& report) { return Shows(verb.action, report); };
  const bool taken = supervisor_.WaitFor(
      domain, Supervisor::kTakenOnTimeout,
      [&](const DomainView& view) { return AllReport(view, epoch, slices, shows); });
  // It answers its heartbeat and yet does not listen: its apply thread hangs.
  if (!taken && verb.action == SliceAction::kRestart) supervisor_.Restart(domain, "live");
  if (verb.action != SliceAction::kFreeze) return;
  // One that does not listen is no reason to leave out the others.
  const DomainView view = supervisor_.View(domain);
  SliceNames frozen;
  std::copy_if(slices.begin(), slices.end(), std::back_inserter(frozen),
               [&](const std::string& slice) { return LiveHas(view, epoch, slice, shows); });
  WaitUntilSaved(domain, frozen, epoch);
}

void SliceControl::WaitUntilSaved(const std::string& domain, const SliceNames& slices,
                                  int64_t epoch) {
  supervisor_.WaitFor(domain, kSavedTimeout, [&](const DomainView& view) {
    return !view.live.client || AllReport(view, epoch, slices, IsSaved);
  });
}

absl::StatusOr<v1::Slice> SliceControl::ChangeSlice(const SliceVerb& verb, const std::string& name,
                                                    AdminAction& action) {
  ICEPIE_RETURN_IF_ERROR(reader_.GetSliceToChange(name).status());
  action.BeginAnyhow();
  ICEPIE_ASSIGN_OR_RETURN(const SliceName parts, ParseSliceName(name));
  ICEPIE_ASSIGN_OR_RETURN(const int64_t epoch, Store(verb, parts.domain, {parts.slice}));
  WaitUntilTaken(verb, parts.domain, {parts.slice}, epoch);
  return reader_.GetSlice(name);
}

absl::StatusOr<v1::Slice> SliceControl::Freeze(const v1::FreezeSliceRequest& request,
                                               AdminAction& action) {
  SliceVerb verb{SliceAction::kFreeze, request.actor(), request.reason(), {}};
  if (request.has_remind_after()) {
    ICEPIE_ASSIGN_OR_RETURN(verb.remind_after, RemindAfter(request.remind_after()));
  }
  return ChangeSlice(verb, request.name(), action);
}

// The live worker first, while the standby answers; then that one, if the live one answers again.
void SliceControl::RestartProcesses(const std::string& domain, int64_t epoch) {
  const DomainView before = supervisor_.View(domain);
  const auto is_back = [epoch](const WorkerView& now, const WorkerView& then) {
    return now.suspended || (now.client && now.incarnation != then.incarnation && now.report &&
                             now.report->epoch() >= epoch);
  };
  supervisor_.Restart(domain, "live");
  const bool live = supervisor_.WaitFor(domain, kRestartTimeout, [&](const DomainView& view) {
    return is_back(view.live, before.live);
  });
  const DomainView now = supervisor_.View(domain);
  if (now.standby.client && !(live && now.live.client)) return;
  supervisor_.Restart(domain, "standby");
  supervisor_.WaitFor(domain, kRestartTimeout, [&](const DomainView& view) {
    return is_back(view.standby, before.standby);
  });
}

absl::StatusOr<v1::ListSlicesResponse> SliceControl::ChangeDomain(
    SliceAction change, const v1::ChangeDomainRequest& request, AdminAction& action) {
  SliceVerb verb{change, request.actor(), request.reason(), {}};
  if (change != SliceAction::kFreeze) ICEPIE_RETURN_IF_ERROR(CheckNoReminder(request));
  if (request.has_remind_after()) {
    ICEPIE_ASSIGN_OR_RETURN(verb.remind_after, RemindAfter(request.remind_after()));
  }
  const std::string& domain = request.name();
  ICEPIE_ASSIGN_OR_RETURN(const auto current, reader_.Find(domain));
  SliceNames slices;
  for (const auto& [name, slice] : current->slices) slices.push_back(name);
  for (const auto& [name, damaged] : current->damaged_slices) slices.push_back(name);
  if (slices.empty() && !current->held.empty()) return HeldError(domain, current->held);
  action.BeginAnyhow();
  if (change == SliceAction::kRestart) {
    supervisor_.Resume(domain);
    RestartProcesses(domain, manager_.Configure(domain));
  } else {
    ICEPIE_ASSIGN_OR_RETURN(const int64_t epoch, Store(verb, domain, slices));
    WaitUntilTaken(verb, domain, slices, epoch);
  }
  return reader_.ListSlices(domain);
}

absl::StatusOr<std::vector<std::string>> SliceControl::BeginRoll(
    const v1::RollWorkersRequest& request, AdminAction& action) {
  std::vector<std::string> domains;
  for (const auto& domain : catalog_.Domains()) {
    const std::string& name = domain->entry.name();
    if (domain->held.empty() && (request.domain().empty() || request.domain() == name)) {
      domains.push_back(name);
    }
  }
  if (domains.empty() && !request.domain().empty()) {
    ICEPIE_ASSIGN_OR_RETURN(const auto domain, reader_.Find(request.domain()));
    return HeldError(request.domain(), domain->held);
  }
  action.BeginAnyhow();
  supervisor_.RenewAhead();
  return domains;
}

namespace {

// It answers for every slice for which its predecessor did; one that had never come up did for
// none.
bool HasComeBack(const WorkerView& now, const WorkerView& before, bool live) {
  // With a client it holds the assignment.
  if (!now.client || now.incarnation == before.incarnation || !now.report) return false;
  if (!before.report) return true;
  if (now.report->epoch() < before.report->epoch()) return false;
  return std::all_of(before.report->slices().begin(), before.report->slices().end(),
                     [&](const wv1::SliceReport& slice) {
                       const auto* report = FindServingReport(now.report.get(), slice.slice());
                       if (!slice.serving() || report == nullptr) return !slice.serving();
                       if (live)
                         return LiveAnswers(now, slice.slice()) || slice.no_rows() ||
                                slice.state() == v1::BACKFILLING;
                       return !report->snapshot().path().empty() || slice.snapshot().path().empty();
                     });
}

// The first slice that the present program does not run, as its predecessor did; nullptr: none.
const SliceReport* FindTurned(const WorkerView& now, const WorkerView& before) {
  const auto stands = [](const SliceReport& report) {
    return report.state() == v1::HELD || report.state() == v1::FAULTED;
  };
  if (!before.report || !now.report) return nullptr;
  for (const SliceReport& slice : before.report->slices()) {
    if (!slice.serving() || stands(slice)) continue;
    const SliceReport* report = FindServingReport(now.report.get(), slice.slice());
    if (report != nullptr && stands(*report)) return report;
  }
  return nullptr;
}

absl::Status SliceTurned(const std::string& domain, const SliceReport& slice) {
  const std::string name = absl::StrCat(domain, ".", slice.slice());
  return MakeError(
      absl::StatusCode::kFailedPrecondition,
      absl::StrCat("slice ", name, " is ", v1::SliceState_Name(slice.state()),
                   " with the present program: ", slice.last_error().message(),
                   "; it answers from its last snapshot, and no further domain was rolled. Put a "
                   "program in place that runs it, or roll again to go on without"),
      "ROLL_FAILED", {{"domain", domain}, {"role", "live"}, {"slice", name}});
}

absl::Status RollFailed(const std::string& domain, const std::string& role,
                        const WorkerView& worker) {
  const std::string& error = worker.status.last_error();
  return MakeError(absl::StatusCode::kFailedPrecondition,
                   absl::StrCat("the ", role, " worker of domain ", domain,
                                " does not come back with the present program: ",
                                error.empty() ? "it is not ready yet" : error, "; the ",
                                role == "live" ? "standby" : "live worker",
                                " answers. Put a working program in place and roll again"),
                   "ROLL_FAILED", {{"domain", domain}, {"role", role}});
}

}  // namespace

absl::Status SliceControl::RollWorker(const std::string& domain, const std::string& role) {
  const bool live = role == "live";
  const auto view_of = [live](const DomainView& view) -> const WorkerView& {
    return live ? view.live : view.standby;
  };
  const WorkerView before = view_of(supervisor_.View(domain));
  if (IsResting(before)) return absl::OkStatus();  // it wakes with the present program
  supervisor_.Restart(domain, role);
  if (before.suspended) return absl::OkStatus();
  bool back = false;
  WorkerView now;
  supervisor_.WaitFor(domain, kRollTimeout, [&](const DomainView& view) {
    now = view_of(view);
    back = HasComeBack(now, before, live);
    return back || now.status.restarts() > before.status.restarts();
  });
  if (!back) return RollFailed(domain, role, now);
  const SliceReport* turned = live ? FindTurned(now, before) : nullptr;
  return turned == nullptr ? absl::OkStatus() : SliceTurned(domain, *turned);
}

// Two workers stand all the time: the standby's successor comes before it goes, and it goes when
// the live worker has come back.
absl::Status SliceControl::RollBoth(const std::string& domain) {
  const WorkerView before = supervisor_.View(domain).standby;
  if (IsResting(before)) return RollWorker(domain, "live");
  supervisor_.StartSpare(domain);
  const auto stopping = absl::MakeCleanup([&] { supervisor_.StopSpare(domain); });
  bool back = false;
  WorkerView spare;
  supervisor_.WaitFor(domain, kRollTimeout, [&](const DomainView& view) {
    spare = view.spare;
    back = HasComeBack(spare, before, false);
    return back || spare.status.restarts() > 0;
  });
  if (!back) return RollFailed(domain, "standby", spare);
  supervisor_.TakeSpare(domain);
  return RollWorker(domain, "live");
}

absl::StatusOr<v1::RollWorkersResponse> SliceControl::RollDomain(const std::string& domain) {
  const absl::Time begin = SteadyNow();
  {
    // Two at once would share the spare worker, and swap the old standby back.
    const MutexLock lock(rolling_mutex_);
    if (!rolling_.insert(domain).second) {
      return MakeError(absl::StatusCode::kAborted,
                       absl::StrCat("the workers of domain ", domain,
                                    " are being rolled already; wait for that"),
                       "OPERATION_IN_PROGRESS", {{"domain", domain}});
    }
  }
  const auto ended = absl::MakeCleanup([&] {
    const MutexLock lock(rolling_mutex_);
    rolling_.erase(domain);
  });
  ICEPIE_RETURN_IF_ERROR(RollBoth(domain));
  const DomainView view = supervisor_.View(domain);
  v1::RollWorkersResponse rolled;
  rolled.set_domain(domain);
  rolled.set_standby_pid(view.standby.status.pid());
  rolled.set_live_pid(view.live.status.pid());
  rolled.set_elapsed_ms(absl::ToInt64Milliseconds(SteadyNow() - begin));
  return rolled;
}

absl::Status SliceControl::RefreshSlices(const std::string& domain, const SliceNames& slices,
                                         absl::Duration timeout) {
  const absl::Time deadline = SteadyNow() + timeout;
  const auto client = supervisor_.AwakeView(domain, std::min(timeout, kAwakeTimeout)).live.client;
  if (!client) {
    return MakeError(absl::StatusCode::kUnavailable,
                     absl::StrCat("the live worker of domain ", domain,
                                  " is down and is being restarted; try again"),
                     "WORKER_LOST", {{"domain", domain}});
  }
  // What was acknowledged before the call is in the new rows.
  const int64_t head = core_.head_position();
  std::vector<std::future<absl::Status>> results;
  for (const std::string& slice : slices) {
    auto refreshed = std::make_shared<std::promise<absl::Status>>();
    results.push_back(refreshed->get_future());
    client->RefreshSlice(slice, head, deadline - SteadyNow(), [refreshed](const auto& response) {
      refreshed->set_value(response.status());
    });
  }
  absl::Status first;
  for (auto& result : results) first.Update(result.get());
  if (absl::IsDeadlineExceeded(first)) {  // of whichever of us looked at the clock first
    return MakeError(absl::StatusCode::kDeadlineExceeded,
                     absl::StrCat("domain ", domain, ": the recompute goes on"), "REFRESH_GOES_ON",
                     {{"domain", domain}});
  }
  if (!first.ok()) return first;
  // The facts that are returned are at least as new as the refresh.
  const absl::Time done = absl::Now();
  const absl::Duration left = std::min(deadline - SteadyNow(), absl::Seconds(1));
  supervisor_.WaitFor(domain, left, [&](const DomainView& view) {
    return !view.live.client || view.live.report_time > done;
  });
  return absl::OkStatus();
}

absl::StatusOr<v1::Slice> SliceControl::Refresh(const v1::RefreshSliceRequest& request,
                                                AdminAction& action, absl::Duration timeout) {
  ICEPIE_ASSIGN_OR_RETURN(const SliceName parts, ParseSliceName(request.name()));
  ICEPIE_ASSIGN_OR_RETURN(const auto domain, reader_.Find(parts.domain));
  ICEPIE_RETURN_IF_ERROR(reader_.FindSlice(*domain, parts.slice).status());
  ICEPIE_RETURN_IF_ERROR(manager_.CheckNotSafeMode());
  action.BeginAnyhow();
  ICEPIE_RETURN_IF_ERROR(RefreshSlices(parts.domain, {parts.slice}, timeout));
  return reader_.GetSlice(request.name());
}

absl::StatusOr<v1::ListSlicesResponse> SliceControl::RefreshDomain(
    const v1::ChangeDomainRequest& request, AdminAction& action, absl::Duration timeout) {
  ICEPIE_RETURN_IF_ERROR(CheckNoReminder(request));
  ICEPIE_ASSIGN_OR_RETURN(const auto domain, reader_.Find(request.name()));
  if (!domain->held.empty()) return HeldError(request.name(), domain->held);
  ICEPIE_RETURN_IF_ERROR(manager_.CheckNotSafeMode());
  SliceNames slices;
  for (const auto& [name, slice] : domain->slices) {
    // One that is stopped on purpose is left out; of the others it is told when they cannot.
    if (slice.desired().mode() == DesiredState::RUN) slices.push_back(name);
  }
  action.BeginAnyhow();
  ICEPIE_RETURN_IF_ERROR(RefreshSlices(request.name(), slices, timeout));
  return reader_.ListSlices(request.name());
}

absl::Status SliceControl::LeaveSafeMode(AdminAction& action) {
  if (!supervisor_.safe_mode()) return absl::OkStatus();
  action.BeginAnyhow();
  manager_.LeaveSafeMode();
  return absl::OkStatus();
}

}  // namespace icepie::server
