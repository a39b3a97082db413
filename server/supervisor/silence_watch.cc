#include "server/supervisor/silence_watch.h"

#include <algorithm>
#include <utility>

#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "spdlog/spdlog.h"

namespace icepie::server {
namespace {

constexpr absl::Duration kSilenceLookInterval = absl::Milliseconds(50);
constexpr absl::Duration kPatienceMin = absl::Milliseconds(50);
constexpr absl::Duration kPatienceMax = absl::Seconds(1);

}  // namespace

SilenceWatch::SilenceWatch(EventLoop& loop, Views views, Silent silent)
    : loop_(loop), views_(std::move(views)), silent_(std::move(silent)) {}

void SilenceWatch::Add(int64_t question, Waiting waiting) {
  const absl::Time now = SteadyNow();
  const absl::Duration patience =
      std::clamp((waiting.deadline - now) / 4, kPatienceMin, kPatienceMax);
  const MutexLock lock(mutex_);
  waiting_[question] = {std::move(waiting), now, patience};
  if (std::exchange(looking_, true)) return;
  loop_.RunAfter(kSilenceLookInterval, [this] { Look(); });
}

void SilenceWatch::Remove(int64_t question) {
  const MutexLock lock(mutex_);
  waiting_.erase(question);
}

// A report is a new one each time.
bool SilenceWatch::IsSilent(const WorkerView& worker) const {
  const MutexLock lock(mutex_);
  const auto found = silences_.find(worker.incarnation);
  return found != silences_.end() && found->second.last == worker.report;
}

// Goes on while questions wait.
void SilenceWatch::Look() {
  struct Ask {
    std::string domain;
    WorkerView worker;
    absl::Duration timeout = kPatienceMax;
  };
  std::map<int64_t, Ask> late;  // by incarnation
  {
    const absl::Time now = SteadyNow();
    const MutexLock lock(mutex_);
    looking_ = !waiting_.empty() && !stopped_;
    for (const auto& [question, entry] : waiting_) {
      const int64_t incarnation = entry.waiting.worker.incarnation;
      if (now - entry.since < entry.patience || asked_.count(incarnation) > 0) continue;
      Ask& ask = late[incarnation];
      ask.domain = entry.waiting.domain;
      ask.worker = entry.waiting.worker;
      ask.timeout = std::min(ask.timeout, entry.patience);
    }
    if (stopped_) return;
    for (const auto& [incarnation, ask] : late) asked_.insert(incarnation);
    if (looking_) loop_.RunAfter(kSilenceLookInterval, [this] { Look(); });
  }
  for (const auto& [incarnation, ask] : late) AskWhetherThere(ask.domain, ask.worker, ask.timeout);
}

// As it is now; without an incarnation when it is none of the domain's any more.
WorkerView SilenceWatch::Find(const std::string& domain, int64_t incarnation) const {
  const DomainView view = views_(domain);
  for (const WorkerView& worker : {view.live, view.standby}) {
    if (worker.incarnation == incarnation) return worker;
  }
  return {};
}

void SilenceWatch::AskWhetherThere(const std::string& domain, const WorkerView& worker,
                                   absl::Duration timeout) {
  const int64_t incarnation = worker.incarnation;
  const Silence silence{domain, Find(domain, incarnation).report, SteadyNow()};
  worker.client->GetStatus(timeout, false, [this, incarnation, silence](const auto& report) {
    const bool is_there = !absl::IsDeadlineExceeded(report.status()) &&
                          ErrorReason(report.status()) != "QUERIES_HANG";
    loop_.Post([this, incarnation, silence, is_there] {
      if (is_there) {
        OnThere(incarnation);
      } else {
        OnSilent(incarnation, silence);
      }
    });
    const MutexLock lock(mutex_);
    asked_.erase(incarnation);
    if (asked_.empty()) idle_.SignalAll();
  });
}

void SilenceWatch::OnThere(int64_t incarnation) {
  const absl::Time now = SteadyNow();
  const MutexLock lock(mutex_);
  silences_.erase(incarnation);
  for (auto& [question, entry] : waiting_) {
    if (entry.waiting.worker.incarnation == incarnation) entry.since = now;
  }
}

void SilenceWatch::OnSilent(int64_t incarnation, const Silence& silence) {
  const WorkerView worker = Find(silence.domain, incarnation);
  const bool reported = worker.incarnation != incarnation || worker.report != silence.last;
  if (reported) {
    OnThere(incarnation);
    return;
  }
  bool known = false;
  {
    const MutexLock lock(mutex_);
    const auto [found, is_new] = silences_.emplace(incarnation, silence);
    known = !is_new && found->second.last == silence.last;
    if (!known) found->second = silence;
  }
  if (!known) {
    spdlog::warn("{} {}: it does not answer; the other worker is asked", silence.domain,
                 worker.status.role());
  }
  if (silent_) silent_(silence.domain, incarnation);
  CallOff(incarnation);
}

void SilenceWatch::CallOff(int64_t incarnation) {
  std::vector<std::function<void()>> call_off;
  {
    const absl::Time now = SteadyNow();
    const MutexLock lock(mutex_);
    const auto silence = silences_.find(incarnation);
    if (silence == silences_.end()) return;
    for (const auto& [question, entry] : waiting_) {
      const absl::Duration waited = now - std::max(entry.since, silence->second.since);
      const bool is_of_it = entry.waiting.worker.incarnation == incarnation;
      if (is_of_it && waited >= entry.patience) call_off.push_back(entry.waiting.call_off);
    }
  }
  for (const auto& end_call : call_off) end_call();
}

void SilenceWatch::OnWorkerChange(const std::string& domain) {
  std::vector<int64_t> silent;
  {
    const MutexLock lock(mutex_);
    for (const auto& [incarnation, silence] : silences_) {
      if (silence.domain == domain) silent.push_back(incarnation);
    }
  }
  for (const int64_t incarnation : silent) {
    const WorkerView worker = Find(domain, incarnation);
    if (worker.client && IsSilent(worker)) {
      CallOff(incarnation);
    } else {
      const MutexLock lock(mutex_);
      silences_.erase(incarnation);
    }
  }
}

void SilenceWatch::Stop() {
  const MutexLock lock(mutex_);
  stopped_ = true;
  while (!asked_.empty()) idle_.Wait(mutex_);
}

}  // namespace icepie::server
