#include "server/supervisor/hibernation.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/steady_clock.h"
#include "server/base/proto_time.h"
#include "server/domain/promotion.h"
#include "spdlog/spdlog.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;
namespace wv1 = icepie::worker::v1;

// A refresh that is due so soon is not worth a stop in between.
constexpr absl::Duration kDueSoon = absl::Seconds(10);
// A live worker is there that long before a snapshot is due, which then holds what came by then.
constexpr absl::Duration kBeforeNamed = absl::Seconds(5);
// A live worker changes its schedules' times rarely.
constexpr absl::Duration kNamedTrusted = absl::Seconds(10);
// After it a standby that runs beside a live worker has seen the last snapshot of that.
constexpr absl::Duration kStandbyFollows = absl::Seconds(10);
// Where there is no room for all: a domain counts as idle, and a standby as not needed, after this.
constexpr absl::Duration kIdleWhenCrowded = absl::Milliseconds(500);

// Records that concern the slice wait, and its refresh promise does not allow them to wait until
// `until`.
bool WantsLive(const DomainFacts& facts, const wv1::SliceReport& report, absl::Time until) {
  if (report.state() == v1::FROZEN) return false;
  if (report.has_next_refresh_time() && FromProto(report.next_refresh_time()) > until) return false;
  return HasUnseen(facts, report.slice(), report.applied_position());
}

// The standby holds an older snapshot than the live worker has saved. When it has looked for the
// newest since then, that is damaged.
bool HasOlder(const WorkerView& standby, const wv1::SliceReport& saved) {
  if (!standby.client) return false;
  const auto* report = FindServingReport(standby.report.get(), saved.slice());
  return report != nullptr && !report->snapshot().path().empty() &&
         (report->generation() < saved.generation() ||
          report->snapshot().position() < saved.snapshot().position());
}

// `late`: also one that lags. What it has not applied it applies when it is awake again.
bool IsSettled(const wv1::SliceReport& report, bool late) {
  const bool is_well = report.state() == v1::RUNNING || report.state() == v1::FROZEN ||
                       (late && report.state() == v1::LAGGING);
  // What cannot be saved would be lost.
  return is_well && !report.snapshot().path().empty() && !report.has_not_saved();
}

// When a schedule names the slice's next snapshot, as slices/snapshot/named_snapshots.cc writes it.
absl::Time NextNamedOf(const std::string& directory, const std::string& slice) {
  const auto text = ReadFile(absl::StrCat(directory, "/next_named/", slice));
  if (!text.ok()) return absl::InfiniteFuture();
  const auto json = nlohmann::json::parse(*text, nullptr, false);
  const bool known =
      json.is_object() && json.contains("next_us") && json["next_us"].is_number_integer();
  return known ? absl::FromUnixMicros(json["next_us"].get<int64_t>()) : absl::InfiniteFuture();
}

}  // namespace

Hibernation::Hibernation(const Catalog& catalog, Supervisor& supervisor, FactsSource facts,
                         HibernationOptions options)
    : catalog_(catalog),
      supervisor_(supervisor),
      facts_(std::move(facts)),
      options_(options),
      queue_(options.awake_max, options.turn) {}

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
  queue_.Begin(SteadyNow());
  answering_.clear();
  builds_.reset();
  for (const auto& domain : catalog_.Domains()) LookAt(*domain);
  TakeTurns();
  RestStandbys();
  clock_.RunAfter(options_.look_interval, [this] { Look(); });
}

void Hibernation::TakeTurns() {
  const WakeQueue::Turns turns = queue_.End();
  // The memory is for the records of others before it is for standbys.
  for (const std::string& domain : turns.wake) Wake(domain, !turns.crowded);
  for (const std::string& domain : turns.wait) supervisor_.AwaitTurn(domain);
  for (const std::string& name : turns.rest) {
    const auto domain = catalog_.Find(name);
    if (!domain) continue;
    spdlog::debug("{}: its live worker rests for others", name);
    if (SteadyNow() - LastQuestion(name) >= IdleAfter(*domain)) {
      supervisor_.Rest(name);
    } else {
      supervisor_.RestLive(name);
      supervisor_.WakeStandby(name);
    }
  }
}

// Questions start as many standbys as they want; those that were not asked lately go first.
void Hibernation::RestStandbys() {
  const auto room = static_cast<size_t>(options_.awake_max);
  if (room == 0 || answering_.size() <= room) return;
  std::sort(answering_.begin(), answering_.end());
  answering_.resize(answering_.size() - room);
  for (const auto& [asked, domain] : answering_) {
    if (SteadyNow() - asked >= kIdleWhenCrowded) supervisor_.RestStandby(domain);
  }
}

void Hibernation::Wake(const std::string& domain, bool with_standby) {
  supervisor_.WakeLive(domain);
  if (with_standby && !options_.standby_on_demand) supervisor_.WakeStandby(domain);
}

// By what changes and not by its time, which goes by a clock that somebody may set.
Hibernation::Seen& Hibernation::NoteSeen(const DomainFacts& facts) {
  const auto& [live, standby, safe_mode, spare] = facts.workers;
  absl::Time applied = absl::InfinitePast();
  if (live.report) {
    for (const wv1::SliceReport& slice : live.report->slices()) {
      if (slice.has_applied_time()) applied = std::max(applied, FromProto(slice.applied_time()));
    }
  }
  Seen& seen = seen_[facts.domain->entry.name()];
  if (live.incarnation != seen.live || applied != seen.applied) seen.since = SteadyNow();
  if (live.incarnation != seen.live) seen.live_since = SteadyNow();
  if (IsResting(live) != seen.asleep) seen.asleep_since = SteadyNow();
  if (standby.incarnation != seen.standby) seen.standby_since = SteadyNow();
  seen.asleep = IsResting(live);
  if (!seen.asleep) seen.next_named.reset();
  seen.live = live.incarnation;
  seen.standby = standby.incarnation;
  seen.applied = applied;
  return seen;
}

void Hibernation::LookAt(const CatalogDomain& domain) {
  const absl::Duration idle_after = IdleAfter(domain);
  if (!domain.held.empty()) return;
  const bool may_rest = idle_after > absl::ZeroDuration();
  if (!may_rest && !options_.standby_on_demand) return;
  const std::string& name = domain.entry.name();
  const DomainFacts facts = facts_(domain);
  Seen& seen = NoteSeen(facts);
  const auto& [live, standby, safe_mode, spare] = facts.workers;
  if (IsResting(live) && live.status.pid() != 0) return queue_.Leaves();
  if (IsResting(live)) return LookAtSleeping(facts, seen, idle_after);
  if (live.suspended) {  // without a process
    if (may_rest) LookAtSuspended(facts, seen, idle_after);
    return;
  }
  if (may_rest && LookAtAwake(facts, seen, idle_after)) return;
  if (live.client && options_.standby_on_demand && standby.client &&
      SteadyNow() - seen.standby_since >= options_.standby_rest_after) {
    supervisor_.RestStandby(name);
  }
}

// True: it goes to rest.
bool Hibernation::LookAtAwake(const DomainFacts& facts, const Seen& seen,
                              absl::Duration idle_after) {
  const std::string& name = facts.domain->entry.name();
  const absl::Time now = SteadyNow();
  const absl::Time idle_since = std::max(seen.since, LastQuestion(name));
  const bool is_up = facts.workers.live.client != nullptr;
  const bool is_idle =
      is_up && now - idle_since >= std::min(idle_after, kIdleWhenCrowded) && CanSleep(facts, false);
  if (is_idle && now - idle_since >= idle_after) {
    spdlog::info("{}: idle for {}: its workers rest", name, absl::FormatDuration(idle_after));
    supervisor_.Rest(name);
    queue_.Leaves();
    return true;
  }
  if (is_idle) {
    queue_.Awake(name, WakeQueue::Work::kNothing, idle_since);
  } else if (is_up && CanSleep(facts, true)) {
    queue_.Awake(name, WakeQueue::Work::kRecords, seen.live_since);
  } else {
    const bool starts = AwaitsFirstStart(facts.workers.live);
    queue_.Awake(name, WakeQueue::Work::kCannotRest, starts ? now : seen.live_since);
  }
  // One that was woken without its standby, and stays.
  if (is_up && !options_.standby_on_demand && now - seen.live_since >= queue_.turn() &&
      IsResting(facts.workers.standby)) {
    supervisor_.WakeStandby(name);
  }
  return false;
}

bool Hibernation::IsStandbyAsked(const DomainFacts& facts, const Seen& seen,
                                 absl::Duration idle_after) {
  const std::string& name = facts.domain->entry.name();
  const absl::Time idle_since = std::max(LastQuestion(name), seen.standby_since);
  const absl::Duration rest_after = std::max(idle_after, options_.look_interval);
  if (SteadyNow() - idle_since >= rest_after) return false;
  answering_.emplace_back(idle_since, name);
  return true;
}

void Hibernation::LookAtSuspended(const DomainFacts& facts, const Seen& seen,
                                  absl::Duration idle_after) {
  const std::string& name = facts.domain->entry.name();
  if (!facts.workers.standby.client || IsStandbyAsked(facts, seen, idle_after)) return;
  // For a live worker that was lost it would be woken at once (OnWorkerChange).
  const bool was_lost = facts.workers.live.lost_since < absl::InfiniteFuture();
  if (options_.standby_on_demand && was_lost) return;
  if (!HasBuild(name)) supervisor_.RestStandby(name);
}

void Hibernation::LookAtSleeping(const DomainFacts& facts, Seen& seen, absl::Duration idle_after) {
  const std::string& name = facts.domain->entry.name();
  const WorkerView& live = facts.workers.live;
  const WorkerView& standby = facts.workers.standby;
  const auto& report = live.report;
  const bool looked =
      seen.standby_since >= seen.asleep_since || SteadyNow() - seen.asleep_since >= kStandbyFollows;
  if (!seen.next_named) seen.next_named = NextNamed(*facts.domain);
  const bool wanted =
      AwaitsTurn(live) || !report || *seen.next_named <= facts.now + kBeforeNamed ||
      std::any_of(
          report->slices().begin(), report->slices().end(), [&](const wv1::SliceReport& slice) {
            return slice.serving() &&
                   (WantsLive(facts, slice, facts.now) || (looked && HasOlder(standby, slice)));
          });
  if (wanted && idle_after > absl::ZeroDuration()) {
    queue_.Want(name);
  } else if (wanted) {
    Wake(name, true);
  }
  if (!standby.client || IsStandbyAsked(facts, seen, idle_after)) return;
  if (!wanted || AwaitsTurn(live)) supervisor_.RestStandby(name);
}

bool Hibernation::HasBuild(const std::string& domain) {
  if (!builds_) {
    builds_.emplace();
    for (const auto& operation : catalog_.Operations()) {
      if (!operation.done()) builds_->insert(operation.domain());
    }
  }
  return builds_->count(domain) > 0;
}

bool Hibernation::CanSleep(const DomainFacts& facts, bool with_unseen) {
  if (HasPromotion(*facts.domain, facts.now)) return false;
  if (HasBuild(facts.domain->entry.name())) return false;
  if (facts.workers.live.rest_lost) return false;
  for (const auto& [slice, entry] : facts.domain->slices) {
    const auto* report = FindServingReport(facts.workers.live.report.get(), slice);
    if (report == nullptr || !IsSettled(*report, with_unseen)) return false;
    if (!with_unseen && WantsLive(facts, *report, facts.now + kDueSoon)) return false;
  }
  // Nor before a snapshot that is due has been made.
  return !facts.domain->slices.empty() && NextNamedOfAwake(facts) > facts.now + kDueSoon;
}

absl::Time Hibernation::NextNamed(const CatalogDomain& domain) const {
  const std::string directory = supervisor_.DomainDirectory(domain.entry.name());
  absl::Time next = absl::InfiniteFuture();
  for (const auto& [slice, entry] : domain.slices) {
    next = std::min(next, NextNamedOf(directory, slice));
  }
  return next;
}

// Not from the files of each slice of all domains at each look; one that is far is read again when
// the domain has gone to sleep.
absl::Time Hibernation::NextNamedOfAwake(const DomainFacts& facts) {
  Seen& seen = seen_[facts.domain->entry.name()];
  const absl::Time now = SteadyNow();
  if (now >= seen.awake_named_until || seen.awake_named <= facts.now + kDueSoon) {
    seen.awake_named = NextNamed(*facts.domain);
    seen.awake_named_until = now + kNamedTrusted;
  }
  return seen.awake_named;
}

}  // namespace icepie::server
