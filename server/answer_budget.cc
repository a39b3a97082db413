#include "server/answer_budget.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"

namespace icepie::server {
namespace {

absl::Status Exhausted(const std::string& domain, const std::string& whose, int64_t bytes_max) {
  return MakeError(
      absl::StatusCode::kResourceExhausted,
      absl::StrCat("answers ", whose, " that are still being read take ", bytes_max >> 20,
                   " MiB of the daemon's memory, which is their limit; read what was asked for, "
                   "ask for fewer rows, or try again"),
      ErrorDetail{"TOO_MANY_QUERIES", {{"domain", domain}}, {}, 1000});
}

}  // namespace

AnswerBudget::AnswerBudget(AnswerLimits limits) : state_(new State{limits, {}, 0, {}}) {}

std::shared_ptr<AnswerBudget::Share> AnswerBudget::Open(const std::string& domain) const {
  return std::make_shared<Share>(state_, domain);
}

int64_t AnswerBudget::bytes() const {
  const MutexLock lock(state_->mutex);
  return state_->bytes;
}

AnswerBudget::Share::Share(std::shared_ptr<State> state, std::string domain)
    : state_(std::move(state)), domain_(std::move(domain)) {}

AnswerBudget::Share::~Share() {
  const MutexLock lock(state_->mutex);
  state_->bytes -= bytes_;
  const auto found = state_->by_domain.find(domain_);
  if (found != state_->by_domain.end() && (found->second -= bytes_) == 0) {
    state_->by_domain.erase(found);
  }
}

absl::Status AnswerBudget::Share::GrowTo(int64_t bytes) {
  const MutexLock lock(state_->mutex);
  const int64_t more = bytes - bytes_;
  if (more <= 0) return absl::OkStatus();
  const bool small = bytes <= kSmallBytes;
  const auto room = [small](int64_t limit) { return small ? limit + limit / 16 : limit; };
  const auto found = state_->by_domain.find(domain_);
  const int64_t of_domain = found == state_->by_domain.end() ? 0 : found->second;
  const AnswerLimits& limits = state_->limits;
  if (of_domain + more > room(limits.domain_bytes_max)) {
    return Exhausted(domain_, absl::StrCat("of domain ", domain_), limits.domain_bytes_max);
  }
  if (state_->bytes + more > room(limits.bytes_max)) {
    return Exhausted(domain_, "of all domains", limits.bytes_max);
  }
  bytes_ = bytes;
  state_->bytes += more;
  state_->by_domain[domain_] += more;
  return absl::OkStatus();
}

}  // namespace icepie::server
