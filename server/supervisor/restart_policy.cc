#include "server/supervisor/restart_policy.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace icepie::server {
namespace {

constexpr absl::Duration kStandbyBackoffMax = absl::Seconds(5);

}  // namespace

RestartPolicyOptions StandbyRestart(RestartPolicyOptions options) {
  options.backoff_max = std::min(options.backoff_max, kStandbyBackoffMax);
  options.failures_max = std::numeric_limits<int>::max();
  return options;
}

RestartPolicy::RestartPolicy(RestartPolicyOptions options, std::function<double()> random)
    : options_(options), random_(std::move(random)) {}

void RestartPolicy::OnStart(absl::Time now) { started_ = now; }

absl::Duration RestartPolicy::Backoff() const {
  if (in_a_row_ <= 1) return absl::ZeroDuration();
  const double doublings = std::min(in_a_row_ - 2, 30);
  const absl::Duration wait =
      std::min(options_.first_backoff * std::exp2(doublings), options_.backoff_max);
  return wait * (1 + options_.jitter * random_());
}

RestartPolicy::Decision RestartPolicy::OnFailure(absl::Time now) {
  if (now - started_ >= options_.healthy_after) in_a_row_ = 0;
  ++in_a_row_;
  ++failures_;
  recent_.push_back(now);
  while (recent_.front() <= now - options_.window) recent_.pop_front();
  const bool first = in_a_row_ == 1;
  if (static_cast<int>(recent_.size()) < options_.failures_max) return {Backoff(), false, first};
  // After the suspension it gets a new series of attempts.
  Reset();
  return {options_.suspension, true, first};
}

void RestartPolicy::Reset() {
  recent_.clear();
  in_a_row_ = 0;
}

absl::Duration RestartPacer::Next(absl::Time now, bool first) {
  absl::Time& full = first ? first_ : again_;
  full = std::max(full, now) + interval_;
  return std::max(absl::ZeroDuration(), full - now - slack_);
}

}  // namespace icepie::server
