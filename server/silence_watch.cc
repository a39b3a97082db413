#include "server/silence_watch.h"

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

SilenceWatch::SilenceWatch(EventLoop& loop, Views views,
                           std::function<void(const std::string&)> silent)
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
bool SilenceWatch::IsSilent(const std::string& domain, const WorkerView& live) const {
  const MutexLock lock(mutex_);
  const auto found = silences_.find(domain);
  return found != silences_.end() && found->second.last == live.report;
}

// Goes on while questions wait.
void SilenceWatch::Look() {
  struct Ask {
    WorkerView live;
    absl::Duration timeout = kPatienceMax;
  };
  std::map<std::string, Ask> late;  // by domain
  {
    const absl::Time now = SteadyNow();
    const MutexLock lock(mutex_);
    looking_ = !waiting_.empty() && !stopped_;
    for (const auto& [question, entry] : waiting_) {
      if (now - entry.since < entry.patience || asked_.count(entry.waiting.domain) > 0) continue;
      Ask& ask = late[entry.waiting.domain];
      // Of two incarnations the newer one; the older one's questions have ended or are about to.
      if (entry.waiting.live.incarnation >= ask.live.incarnation) ask.live = entry.waiting.live;
      ask.timeout = std::min(ask.timeout, entry.patience);
    }
    if (stopped_) return;
    for (const auto& [domain, ask] : late) asked_[domain] = ask.live.incarnation;
    if (looking_) loop_.RunAfter(kSilenceLookInterval, [this] { Look(); });
  }
  for (const auto& [domain, ask] : late) AskWhetherThere(domain, ask.live, ask.timeout);
}

void SilenceWatch::AskWhetherThere(const std::string& domain, const WorkerView& live,
                                   absl::Duration timeout) {
  const Silence silence{views_(domain).live.report, SteadyNow()};
  live.client->GetStatus(
      timeout, false, [this, domain, incarnation = live.incarnation, silence](const auto& report) {
        const bool is_there = !absl::IsDeadlineExceeded(report.status()) &&
                              ErrorReason(report.status()) != "QUERIES_HANG";
        loop_.Post([this, domain, incarnation, silence, is_there] {
          if (is_there) {
            OnThere(domain, incarnation);
          } else {
            OnSilent(domain, incarnation, silence);
          }
        });
        const MutexLock lock(mutex_);
        asked_.erase(domain);
        if (asked_.empty()) idle_.SignalAll();
      });
}

void SilenceWatch::OnThere(const std::string& domain, int64_t incarnation) {
  const absl::Time now = SteadyNow();
  const MutexLock lock(mutex_);
  silences_.erase(domain);
  for (auto& [question, entry] : waiting_) {
    const Waiting& waiting = entry.waiting;
    if (waiting.domain == domain && waiting.live.incarnation == incarnation) entry.since = now;
  }
}

void SilenceWatch::OnSilent(const std::string& domain, int64_t incarnation,
                            const Silence& silence) {
  const DomainView view = views_(domain);
  const bool reported = view.live.incarnation != incarnation || view.live.report != silence.last;
  if (reported) {
    OnThere(domain, incarnation);
    return;
  }
  bool known = false;
  {
    const MutexLock lock(mutex_);
    const auto [found, is_new] = silences_.emplace(domain, silence);
    known = !is_new && found->second.last == silence.last;
    if (!known) found->second = silence;
  }
  if (!known) spdlog::warn("{} live: it does not answer; the standby is asked", domain);
  if (silent_) silent_(domain);
  CallOff(domain, incarnation);
}

void SilenceWatch::CallOff(const std::string& domain, int64_t incarnation) {
  std::vector<std::function<void()>> call_off;
  {
    const absl::Time now = SteadyNow();
    const MutexLock lock(mutex_);
    const auto silence = silences_.find(domain);
    if (silence == silences_.end()) return;
    for (const auto& [question, entry] : waiting_) {
      const Waiting& waiting = entry.waiting;
      const bool is_of_it = waiting.domain == domain && waiting.live.incarnation == incarnation;
      const absl::Duration waited = now - std::max(entry.since, silence->second.since);
      if (is_of_it && waited >= entry.patience) call_off.push_back(waiting.call_off);
    }
  }
  for (const auto& end_call : call_off) end_call();
}

void SilenceWatch::OnWorkerChange(const std::string& domain) {
  const WorkerView live = views_(domain).live;
  if (live.client && IsSilent(domain, live)) CallOff(domain, live.incarnation);
}

void SilenceWatch::Stop() {
  const MutexLock lock(mutex_);
  stopped_ = true;
  while (!asked_.empty()) idle_.Wait(mutex_);
}

}  // namespace icepie::server
