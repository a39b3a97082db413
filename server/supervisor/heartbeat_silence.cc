#include "server/supervisor/heartbeat_silence.h"

#include <algorithm>

namespace icepie::server {

HeartbeatSilence::HeartbeatSilence(absl::Duration interval, absl::Duration timeout)
    : interval_(interval), timeout_(timeout) {}

void HeartbeatSilence::OnAnswer(absl::Time now) {
  last_answer_ = now;
  excuses_ = 0;
}

bool HeartbeatSilence::Excuse(absl::Time now) {
  const bool late = now - due_ > std::max(interval_, absl::Seconds(1));
  if (!late || excuses_ == kExcusesMax) return false;
  ++excuses_;
  last_answer_ = now;
  return true;
}

void HeartbeatSilence::OnAsk(absl::Time now) {
  Excuse(now);  // it was not asked meanwhile
  due_ = now + timeout_;
}

bool HeartbeatSilence::OnFailure(absl::Time now) {
  if (Excuse(now)) return false;  // perhaps it has answered in time
  return now - last_answer_ >= timeout_;
}

}  // namespace icepie::server
