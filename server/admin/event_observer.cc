#include "server/admin/event_observer.h"

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/proto_time.h"
#include "server/domain/desired_change.h"

namespace icepie::server {
namespace {

using icepie::v1::Event;

// States in which a slice shows why.
bool HasCause(icepie::v1::SliceState state) {
  return state == icepie::v1::FAULTED || state == icepie::v1::HELD ||
         state == icepie::v1::BLOCKED || state == icepie::v1::SUSPENDED;
}

const icepie::v1::SliceCondition* FindCondition(const icepie::v1::Slice& slice,
                                                const std::string& type) {
  for (const auto& condition : slice.conditions()) {
    if (condition.type() == type) return &condition;
  }
  return nullptr;
}

// Somebody wants it in its state.
bool IsWanted(const icepie::v1::Slice& slice) {
  const auto mode = slice.desired().mode();
  return (slice.state() == icepie::v1::FROZEN && mode == icepie::v1::DesiredState::FREEZE) ||
         (slice.state() == icepie::v1::SUSPENDED && mode == icepie::v1::DesiredState::SUSPEND);
}

void ExplainDesired(const icepie::v1::DesiredState& desired, Event& event) {
  event.set_reason(desired.reason().empty() ? "DESIRED" : desired.reason());
  event.set_message(absl::StrCat("asked for by ", desired.actor()));
}

void ExplainLag(const icepie::v1::Slice& slice, Event& event) {
  const auto& meta = slice.meta();
  const auto* rests = FindCondition(slice, "HIBERNATING");
  event.set_reason(rests != nullptr && rests->reason() == "AWAITS_TURN" ? "AWAITS_TURN"
                   : meta.has_lag_time()                                ? "RECORDS_WAIT"
                                                                        : "NOT_CAUGHT_UP");
  event.set_message(absl::StrCat("at position ", meta.applied_position(), ", ", meta.lag_records(),
                                 " behind the head"));
  if (!meta.has_lag_time()) return;
  const absl::Duration waits = absl::Trunc(FromProto(meta.lag_time()), absl::Milliseconds(1));
  event.set_message(absl::StrCat(event.message(), "; its oldest record has waited for ",
                                 absl::FormatDuration(waits)));
}

}  // namespace

void ExplainState(const icepie::v1::Slice& slice, Event& event) {
  if (IsWanted(slice)) {
    ExplainDesired(slice.desired(), event);
  } else if (HasCause(slice.state())) {
    event.set_reason(slice.last_error().reason());
    event.set_message(slice.last_error().message());
  } else if (slice.state() == icepie::v1::FROZEN) {
    if (FindCondition(slice, "SAFE_MODE") != nullptr) event.set_reason("SAFE_MODE");
  } else if (slice.state() == icepie::v1::LAGGING) {
    ExplainLag(slice, event);
  } else if (const auto* answers = FindCondition(slice, "ANSWERS"); answers != nullptr) {
    const bool lost = slice.state() == icepie::v1::STARTING && !answers->message().empty();
    if (lost) event.set_reason("WORKER_DOWN");
    if (slice.state() == icepie::v1::DELETING) event.set_reason(answers->reason());
    if (!event.reason().empty()) event.set_message(answers->message());
  }
}

void EventObserver::LookAtDomain(const std::string& domain) {
  // Held while they are listed: what another thread has seen later must not be noted before.
  const MutexLock lock(mutex_);
  const auto slices = reader_.GlanceAtSlices(domain);  // the supervisor's loop waits meanwhile
  const auto known = reader_.GetDomain(domain);
  if (!slices.ok() && !absl::IsNotFound(slices.status())) return;
  std::map<std::string, Seen> before = std::move(slices_[domain]);
  slices_.erase(domain);
  const icepie::v1::ListSlicesResponse none;
  for (const auto& slice : slices.ok() ? slices->slices() : none.slices()) {
    const auto old = before.extract(slice.name());
    if (!old.empty()) slices_[domain][slice.name()] = old.mapped();
    Note(slice);
  }
  for (const auto& [name, seen] : before) {
    Event event;
    event.set_kind(Event::SLICE);
    event.set_domain(domain);
    event.set_slice(name);
    event.set_from(seen.state);
    event.set_to("REMOVED");
    log_.Add(std::move(event));
  }
  if (!known.ok()) return;
  std::set<std::string> noted;
  for (const auto& worker : known->workers()) {
    // Builds come and go; their operations tell of them. A second standby, while workers are
    // rolled, is the standby's successor and not its next state.
    const bool stays = worker.role() != "build" && noted.insert(worker.role()).second;
    if (stays) Note(worker);
  }
}

void EventObserver::Note(const icepie::v1::Slice& slice) {
  const std::string domain = slice.name().substr(0, slice.name().find('.'));
  // How far it lags is no other state.
  const bool cause = HasCause(slice.state()) && !IsWanted(slice);
  Seen now = {icepie::v1::SliceState_Name(slice.state()), cause ? slice.last_error().reason() : ""};
  Seen& seen = slices_[domain][slice.name()];
  if (now == seen) return;
  Event event;
  event.set_kind(Event::SLICE);
  event.set_domain(domain);
  event.set_slice(slice.name());
  event.set_from(seen.state);
  event.set_to(now.state);
  ExplainState(slice, event);
  seen = std::move(now);
  log_.Add(std::move(event));
}

void EventObserver::Note(const icepie::v1::WorkerStatus& worker) {
  Seen now = {worker.state(), worker.state() == "running" ? "" : worker.last_error()};
  Seen& seen = workers_[{worker.domain(), worker.role()}];
  if (now == seen) return;
  Event event;
  event.set_kind(Event::WORKER);
  event.set_domain(worker.domain());
  event.set_subject(worker.role());
  event.set_from(seen.state);
  event.set_to(now.state);
  event.set_message(worker.pid() > 0 ? absl::StrCat("process ", worker.pid()) : now.reason);
  seen = std::move(now);
  log_.Add(std::move(event));
}

void EventObserver::LookAtCore() {
  Seen now = {"OK", core_.ReadOnlyCause()};
  if (!now.reason.empty()) {
    now.state = "READ_ONLY";
  } else if (core_.Disk().full) {
    now = {"DISK_FULL", "appends are refused until there is space"};
  }
  const MutexLock lock(mutex_);
  if (now == core_seen_) return;
  Event event;
  event.set_kind(Event::CORE);
  event.set_from(core_seen_.state);
  event.set_to(now.state);
  event.set_message(now.reason);
  core_seen_ = std::move(now);
  log_.Add(std::move(event));
}

void EventObserver::LookAtFreezes(const std::vector<std::shared_ptr<const CatalogDomain>>& domains,
                                  absl::Time now) {
  const MutexLock lock(mutex_);
  std::map<std::string, absl::Time> before = std::move(reminded_);
  reminded_.clear();
  for (const auto& domain : domains) {
    for (const auto& [slice, entry] : domain->slices) {
      const auto& desired = entry.desired();
      if (!IsFreezeOverdue(desired, now)) continue;
      const std::string name = absl::StrCat(domain->entry.name(), ".", slice);
      const absl::Time due = FromProto(desired.remind_time());
      reminded_[name] = due;
      const auto known = before.find(name);
      if (known == before.end() || known->second != due) Remind(name, desired);
    }
  }
}

void EventObserver::Remind(const std::string& slice, const icepie::v1::DesiredState& desired) {
  Event event;
  event.set_kind(Event::SLICE);
  event.set_domain(slice.substr(0, slice.find('.')));
  event.set_slice(slice);
  event.set_from(icepie::v1::SliceState_Name(icepie::v1::FROZEN));
  event.set_to(event.from());
  event.set_reason("FREEZE_OVERDUE");
  event.set_message(OverdueMessage(slice, desired));
  log_.Add(std::move(event));
}

}  // namespace icepie::server
