#include "server/hibernation.h"

#include <algorithm>
#include <utility>

#include "core/base/steady_clock.h"
#include "server/proto_time.h"
#include "spdlog/spdlog.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;
namespace wv1 = icepie::worker::v1;

// A refresh that is due so soon is not worth a stop in between.
constexpr absl::Duration kDueSoon = absl::Seconds(10);

// Records that concern the slice wait, and its refresh promise does not allow them to wait until
// `until`.
bool WantsLive(const DomainFacts& facts, const wv1::SliceReport& report, absl::Time until) {
  if (report.state() == v1::FROZEN) return false;
  if (report.has_next_refresh_time() && FromProto(report.next_refresh_time()) > until) return false;
  return HasUnseen(facts, report.slice(), report.applied_position());
}

// The standby has found an older snapshot than the live worker has saved: the newest is damaged.
bool HasOlder(const WorkerView& standby, const wv1::SliceReport& saved) {
  if (!standby.client) return false;
  const auto* report = FindServingReport(standby.report.get(), saved.slice());
  return report != nullptr && !report->snapshot().path().empty() &&
         (report->generation() < saved.generation() ||
          report->snapshot().position() < saved.snapshot().position());
}

bool IsSettled(const wv1::SliceReport& report) {
  const bool is_well = report.state() == v1::RUNNING || report.state() == v1::FROZEN;
  return is_well && !report.snapshot().path().empty();
}

}  // namespace

Hibernation::Hibernation(const Catalog& catalog, Supervisor& supervisor, FactsSource facts,
                         HibernationOptions options)
    : catalog_(catalog), supervisor_(supervisor), facts_(std::move(facts)), options_(options) {}

Hibernation::~Hibernation() { Stop(); }

void Hibernation::Start() {
  clock_.RunAfter(options_.look_interval, [this] { Look(); });
}

void Hibernation::Stop() { clock_.Stop(); }

void Hibernation::OnQuestion(const std::string& domain) {
  const MutexLock lock(mutex_);
  last_question_[domain] = SteadyNow();
}

absl::Time Hibernation::LastQuestion(const std::string& domain) const {
  const MutexLock lock(mutex_);
  auto found = last_question_.find(domain);
  return found == last_question_.end() ? absl::InfinitePast() : found->second;
}

void Hibernation::OnUnanswered(const std::string& domain, bool standby_is_not_enough) {
  const DomainView view = supervisor_.View(domain);
  // After the daemon's start hundreds may be before it.
  if (IsResting(view.standby) || AwaitsFirstStart(view.standby)) supervisor_.WakeStandby(domain);
  if (standby_is_not_enough && (IsResting(view.live) || AwaitsFirstStart(view.live))) {
    supervisor_.WakeLive(domain);
  }
}

void Hibernation::OnWorkerChange(const std::string& domain) {
  if (!options_.standby_on_demand) return;
  const DomainView view = supervisor_.View(domain);
  const bool was_lost = !view.live.client && view.live.lost_since < absl::InfiniteFuture();
  if (was_lost && !IsResting(view.live) && IsResting(view.standby)) {
    supervisor_.WakeStandby(domain);
  }
}

absl::Duration Hibernation::IdleAfter(const CatalogDomain& domain) const {
  return domain.entry.has_idle_after_ms() ? absl::Milliseconds(domain.entry.idle_after_ms())
                                          : options_.idle_after;
}

void Hibernation::Look() {
  for (const auto& domain : catalog_.Domains()) LookAt(*domain);
  clock_.RunAfter(options_.look_interval, [this] { Look(); });
}

// By what changes and not by its time, which goes by a clock that somebody may set.
const Hibernation::Seen& Hibernation::NoteSeen(const DomainFacts& facts) {
  const auto& [live, standby, safe_mode, spare] = facts.workers;
  absl::Time applied = absl::InfinitePast();
  if (live.report) {
    for (const wv1::SliceReport& slice : live.report->slices()) {
      if (slice.has_applied_time()) applied = std::max(applied, FromProto(slice.applied_time()));
    }
  }
  Seen& seen = seen_[facts.domain->entry.name()];
  if (live.incarnation != seen.live || applied != seen.applied) seen.since = SteadyNow();
  if (standby.incarnation != seen.standby) seen.standby_since = SteadyNow();
  seen.live = live.incarnation;
  seen.standby = standby.incarnation;
  seen.applied = applied;
  return seen;
}

void Hibernation::LookAt(const CatalogDomain& domain) {
  const absl::Duration idle_after = IdleAfter(domain);
  if (!domain.held.empty()) return;
  if (idle_after <= absl::ZeroDuration() && !options_.standby_on_demand) return;
  const std::string& name = domain.entry.name();
  const DomainFacts facts = facts_(domain);
  const Seen& seen = NoteSeen(facts);
  const auto& [live, standby, safe_mode, spare] = facts.workers;
  if (IsResting(live)) return LookAtSleeping(facts, seen, idle_after);
  if (!live.client) return;
  const absl::Time now = SteadyNow();
  if (idle_after > absl::ZeroDuration() &&
      now - std::max(seen.since, LastQuestion(name)) >= idle_after && CanSleep(facts)) {
    spdlog::info("{}: idle for {}: its workers rest", name, absl::FormatDuration(idle_after));
    supervisor_.Rest(name);
    return;
  }
  if (options_.standby_on_demand && standby.client &&
      now - seen.standby_since >= options_.standby_rest_after) {
    supervisor_.RestStandby(name);
  }
}

void Hibernation::LookAtSleeping(const DomainFacts& facts, const Seen& seen,
                                 absl::Duration idle_after) {
  const std::string& name = facts.domain->entry.name();
  const auto& report = facts.workers.live.report;
  const bool wanted =
      !report || std::any_of(report->slices().begin(), report->slices().end(),
                             [&](const wv1::SliceReport& slice) {
                               return slice.serving() && (WantsLive(facts, slice, facts.now) ||
                                                          HasOlder(facts.workers.standby, slice));
                             });
  if (wanted) {
    supervisor_.WakeLive(name);
    if (!options_.standby_on_demand) supervisor_.WakeStandby(name);
    return;
  }
  const absl::Time idle_since = std::max(LastQuestion(name), seen.standby_since);
  const absl::Duration rest_after = std::max(idle_after, options_.look_interval);
  if (facts.workers.standby.client && SteadyNow() - idle_since >= rest_after) {
    supervisor_.RestStandby(name);
  }
}

bool Hibernation::HasBuild(const std::string& domain) const {
  const auto operations = catalog_.Operations();
  return std::any_of(operations.begin(), operations.end(), [&](const auto& operation) {
    return !operation.done() && operation.domain() == domain;
  });
}

bool Hibernation::CanSleep(const DomainFacts& facts) const {
  const std::string& name = facts.domain->entry.name();
  if (HasBuild(name)) return false;
  for (const auto& [slice, entry] : facts.domain->slices) {
    const auto* report = FindServingReport(facts.workers.live.report.get(), slice);
    if (report == nullptr || !IsSettled(*report) ||
        WantsLive(facts, *report, facts.now + kDueSoon)) {
      return false;
    }
  }
  return !facts.domain->slices.empty();
}

}  // namespace icepie::server
