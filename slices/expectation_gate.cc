#include "slices/expectation_gate.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/status.h"
#include "core/base/utf8.h"

namespace icepie::slices {
namespace {

constexpr size_t kSampleShown = 200;

}  // namespace

void ExpectationGate::SetPlans(std::vector<ExpectationPlan> plans) {
  MutexLock lock(mutex_);
  if (plans == plans_) return;
  plans_ = std::move(plans);
  ++version_;
  results_.clear();
  for (const ExpectationPlan& plan : plans_) results_.push_back(Unchecked(plan));
}

void ExpectationGate::SetWaivers(std::vector<ExpectationWaiver> waivers) {
  MutexLock lock(mutex_);
  waivers_ = std::move(waivers);
}

void ExpectationGate::Restore(const std::vector<ExpectationResult>& results) {
  MutexLock lock(mutex_);
  for (ExpectationResult& present : results_) {
    for (const ExpectationResult& earlier : results) {
      const bool same = earlier.name == present.name && earlier.severity == present.severity &&
                        earlier.sql_digest == present.sql_digest;
      if (same) present = earlier;
    }
  }
}

bool ExpectationGate::empty() const {
  MutexLock lock(mutex_);
  return plans_.empty();
}

bool ExpectationGate::holds() const {
  MutexLock lock(mutex_);
  return std::any_of(plans_.begin(), plans_.end(), [](const ExpectationPlan& plan) {
    return plan.severity == ExpectationSeverity::kError;
  });
}

bool ExpectationGate::IsWaived(const std::string& name, absl::Time now) const {
  return std::any_of(waivers_.begin(), waivers_.end(), [&](const ExpectationWaiver& waiver) {
    return waiver.expectation == name && now < waiver.until;
  });
}

std::vector<ExpectationResult> ExpectationGate::FailingIn(
    const std::vector<ExpectationResult>& results, absl::Time now) const {
  std::vector<ExpectationResult> failing;
  for (const ExpectationResult& result : results) {
    if (result.status != ExpectationResult::Status::kFailed) continue;
    if (result.severity != ExpectationSeverity::kError || IsWaived(result.name, now)) continue;
    failing.push_back(result);
  }
  return failing;
}

// The first of severity error whose check did not end and that nobody has waived.
absl::Status ExpectationGate::StoppedIn(const std::vector<ExpectationResult>& results,
                                        absl::Time now) const {
  for (const ExpectationResult& result : results) {
    const bool stopped = result.status == ExpectationResult::Status::kStopped;
    if (!stopped || result.severity != ExpectationSeverity::kError) continue;
    if (IsWaived(result.name, now)) continue;
    return MakeError(
        absl::StatusCode::kUnavailable,
        absl::StrCat("expectation ", result.name, " could not be checked: ", result.message,
                     "; let its SQL take less, raise limits.memory or limits.query_timeout in the "
                     "domain's file, or waive it (icepie slice expect SLICE --waive ",
                     result.name, " --reason …)"),
        "EXPECTATION_STOPPED", {{"expectation", result.name}});
  }
  return absl::OkStatus();
}

absl::Status ExpectationGate::Check(DuckConnection& connection, const ExpectationScope& scope,
                                    std::vector<ExpectationResult>& results) {
  std::vector<ExpectationPlan> plans;
  int64_t version = 0;
  {
    MutexLock lock(mutex_);
    plans = plans_;
    version = version_;
  }
  if (plans.empty()) return absl::OkStatus();
  ICEPIE_ASSIGN_OR_RETURN(std::vector<ExpectationResult> found,
                          CheckExpectations(connection, plans, scope));
  results = found;
  MutexLock lock(mutex_);
  if (version != version_) return absl::UnavailableError("the expectations changed meanwhile");
  const std::vector<ExpectationResult> failing = FailingIn(found, absl::Now());
  // What an undone batch has broken is not in these rows, and still stands in the way.
  for (ExpectationResult& result : found) {
    for (const ExpectationResult& undone : FailingIn(results_, absl::Now())) {
      if (undone.name == result.name && undone.position > scope.position) result = undone;
    }
  }
  undecided_ = StoppedIn(found, absl::Now());
  results_ = std::move(found);
  ++rounds_;
  if (failing.empty()) return undecided_;
  return MakeError(absl::StatusCode::kFailedPrecondition, FailureText(failing),
                   "EXPECTATION_FAILED", {{"expectation", failing.front().name}});
}

absl::Status ExpectationGate::CheckBatch(DuckConnection& connection, const std::string& rows,
                                         int64_t position) {
  std::vector<ExpectationPlan> plans;
  {
    MutexLock lock(mutex_);
    for (const ExpectationPlan& plan : plans_) {
      // A waived one is left alone: where its SQL fails, it would undo the batch.
      if (plan.by_row && !IsWaived(plan.name, absl::Now())) plans.push_back(plan);
    }
  }
  if (plans.empty()) return absl::OkStatus();
  ICEPIE_ASSIGN_OR_RETURN(const std::vector<ExpectationResult> broken,
                          slices::CheckBatch(connection, plans, rows, position));
  if (broken.empty()) return absl::OkStatus();
  MutexLock lock(mutex_);
  ++notes_;
  for (ExpectationResult& result : results_) {
    for (const ExpectationResult& each : broken) {
      if (each.name == result.name) result = each;
    }
  }
  const std::vector<ExpectationResult> failing = FailingIn(broken, absl::Now());
  if (failing.empty()) return absl::OkStatus();
  return MakeError(absl::StatusCode::kFailedPrecondition, FailureText(failing),
                   "EXPECTATION_FAILED", {{"expectation", failing.front().name}});
}

int64_t ExpectationGate::notes() const {
  MutexLock lock(mutex_);
  return notes_;
}

std::vector<ExpectationResult> ExpectationGate::results() const {
  MutexLock lock(mutex_);
  return results_;
}

int64_t ExpectationGate::rounds() const {
  MutexLock lock(mutex_);
  return rounds_;
}

absl::Status ExpectationGate::undecided() const {
  MutexLock lock(mutex_);
  return undecided_;
}

std::vector<ExpectationResult> ExpectationGate::Failing(absl::Time now) const {
  MutexLock lock(mutex_);
  return FailingIn(results_, now);
}

std::string FailureText(const std::vector<ExpectationResult>& failing) {
  if (failing.empty()) return "an expectation failed; its hold file cannot be read";
  const ExpectationResult& first = failing.front();
  std::string text =
      absl::StrCat("expectation ", first.name, " failed at position ", first.position, ": ");
  if (!first.message.empty()) {
    absl::StrAppend(&text, first.message);
  } else {
    absl::StrAppend(&text, first.failing_rows, first.failing_rows == 1 ? " row" : " rows");
  }
  if (!first.samples.empty()) {
    absl::StrAppend(&text, ", e.g. ", CutUtf8(first.samples.front(), kSampleShown));
  }
  if (failing.size() > 1) absl::StrAppend(&text, " (and ", failing.size() - 1, " more)");
  return text;
}

}  // namespace icepie::slices
