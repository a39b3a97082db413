#include "server/query/answer_budget.h"

#include <algorithm>
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

// It would not fit either if it were the only one: trying again is of no use.
absl::Status TooLarge(const std::string& domain, const char* setting, int64_t bytes_max) {
  return MakeError(
      absl::StatusCode::kResourceExhausted,
      absl::StrCat("the answer is larger than ", bytes_max, " bytes, the limit ", setting,
                   " of the daemon; select fewer rows or columns, or raise it"),
      "RESULT_TOO_LARGE",
      {{"domain", domain}, {"limit", absl::StrCat(bytes_max)}, {"setting", setting}});
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

absl::StatusOr<int64_t> AnswerBudget::Share::Grow(int64_t least, int64_t most) {
  const MutexLock lock(state_->mutex);
  if (least <= bytes_) return bytes_;
  const bool small = least <= kSmallBytes;
  const auto room = [small](int64_t limit) { return small ? limit + limit / 16 : limit; };
  const auto found = state_->by_domain.find(domain_);
  const int64_t of_domain = found == state_->by_domain.end() ? 0 : found->second;
  const AnswerLimits& limits = state_->limits;
  // What the share may have beside all others, of the domain's room and of all.
  const int64_t domain_left = room(limits.domain_bytes_max) - (of_domain - bytes_);
  const int64_t left = room(limits.bytes_max) - (state_->bytes - bytes_);
  if (least > room(limits.domain_bytes_max)) {
    return TooLarge(domain_, "readers.domain_answer_bytes_max", limits.domain_bytes_max);
  }
  if (least > room(limits.bytes_max)) {
    return TooLarge(domain_, "readers.answer_bytes_max", limits.bytes_max);
  }
  if (least > domain_left) {
    return Exhausted(domain_, absl::StrCat("of domain ", domain_), limits.domain_bytes_max);
  }
  if (least > left) return Exhausted(domain_, "of all domains", limits.bytes_max);
  const int64_t more = std::min({most, domain_left, left}) - bytes_;
  bytes_ += more;
  state_->bytes += more;
  state_->by_domain[domain_] += more;
  return bytes_;
}

}  // namespace icepie::server
