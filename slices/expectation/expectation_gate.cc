#include "slices/expectation/expectation_gate.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/status.h"
#include "core/base/utf8.h"
#include "slices/apply/slice_log.h"
#include "slices/expectation/expectation_store.h"

namespace icepie::slices {
namespace {

constexpr size_t kSampleShown = 200;

absl::Status NotChecked(const std::string& expectation, const std::string& why) {
  return MakeError(
      absl::StatusCode::kUnavailable,
      absl::StrCat("expectation ", expectation, " could not be checked: ", why,
                   "; let its SQL take less, raise limits.memory or limits.query_timeout in the "
                   "domain's file, or waive it (icepie slice expect SLICE --waive ",
                   expectation, " --reason …)"),
      "EXPECTATION_STOPPED", {{"expectation", expectation}});
}

absl::Status Broken(const std::vector<ExpectationResult>& failing) {
  return MakeError(absl::StatusCode::kFailedPrecondition, FailureText(failing),
                   "EXPECTATION_FAILED", {{"expectation", failing.front().name}});
}

}  // namespace

void ExpectationGate::SetPlans(std::vector<ExpectationPlan> plans) {
  MutexLock lock(mutex_);
  if (plans == plans_) return;
  plans_ = std::move(plans);
  ++version_;
  std::vector<ExpectationResult> endless = std::exchange(results_, {});
  endless.erase(std::remove_if(endless.begin(), endless.end(),
                               [](const ExpectationResult& result) { return !result.endless; }),
                endless.end());
  for (const ExpectationPlan& plan : plans_) results_.push_back(Unchecked(plan));
  Take(endless);
}

void ExpectationGate::SetWaivers(std::vector<ExpectationWaiver> waivers) {
  MutexLock lock(mutex_);
  waivers_ = std::move(waivers);
}

void ExpectationGate::Restore(const std::vector<ExpectationResult>& results) {
  MutexLock lock(mutex_);
  Take(results);
}

void ExpectationGate::Take(const std::vector<ExpectationResult>& earlier) {
  for (ExpectationResult& present : results_) {
    const ExpectationSeverity severity = present.severity;
    for (const ExpectationResult& result : earlier) {
      // Whether it is endless does not depend on its severity.
      const bool same = result.name == present.name && result.sql_digest == present.sql_digest &&
                        (result.severity == severity || result.endless);
      if (same) present = result;
    }
    present.severity = severity;
  }
}

std::vector<ExpectationResult> ExpectationGate::SetEndless(const ExpectationPlan& plan,
                                                           int64_t position) {
  const std::string digest = Unchecked(plan).sql_digest;
  std::vector<ExpectationResult> told;
  MutexLock lock(mutex_);
  for (ExpectationResult& result : results_) {
    if (result.name == plan.name && result.sql_digest == digest) {
      result.status = ExpectationResult::Status::kFailed;
      result.endless = true;
      result.failing_rows = 0;
      result.samples.clear();
      result.position = position;
      result.time = absl::Now();
      result.message =
          "its check did not end within the domain's limit for queries and listens to no "
          "interrupt, which ended the worker; it is not checked again before its SQL has changed";
    }
    if (result.endless || !FailingIn({result}, absl::Now()).empty()) told.push_back(result);
  }
  return told;
}

const ExpectationResult* ExpectationGate::FindEndless(const std::string& name) const {
  const auto found = std::find_if(
      results_.begin(), results_.end(),
      [&](const ExpectationResult& result) { return result.name == name && result.endless; });
  return found == results_.end() ? nullptr : &*found;
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
    return NotChecked(result.name, result.message);
  }
  return absl::OkStatus();
}

absl::Status ExpectationGate::Check(DuckConnection& connection, const ExpectationScope& scope,
                                    std::vector<ExpectationResult>& results) {
  std::vector<ExpectationPlan> plans;
  std::vector<ExpectationResult> endless;
  int64_t version = 0;
  {
    MutexLock lock(mutex_);
    if (plans_.empty()) return absl::OkStatus();
    for (const ExpectationPlan& plan : plans_) {
      const ExpectationResult* known = FindEndless(plan.name);
      if (known == nullptr) {
        plans.push_back(plan);
      } else {
        endless.push_back(*known);
      }
    }
    version = version_;
  }
  ICEPIE_ASSIGN_OR_RETURN(std::vector<ExpectationResult> found,
                          CheckExpectations(connection, plans, scope));
  found.insert(found.end(), endless.begin(), endless.end());
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
  return failing.empty() ? undecided_ : Broken(failing);
}

absl::Status ExpectationGate::CheckBatch(DuckConnection& connection, const std::string& rows,
                                         const BatchCheckScope& scope) {
  std::vector<ExpectationPlan> plans;
  {
    MutexLock lock(mutex_);
    for (const ExpectationPlan& plan : plans_) {
      // A waived one is left alone: where its SQL fails, it would undo the batch.
      if (!plan.by_row || IsWaived(plan.name, absl::Now())) continue;
      const ExpectationResult* known = FindEndless(plan.name);
      if (known == nullptr) {
        plans.push_back(plan);
      } else if (const auto failing = FailingIn({*known}, absl::Now()); !failing.empty()) {
        return Broken(failing);
      }
    }
  }
  if (plans.empty()) return absl::OkStatus();
  std::string stopped;
  const auto checked = slices::CheckBatch(connection, plans, rows, scope, &stopped);
  if (absl::IsDeadlineExceeded(checked.status()) && !stopped.empty()) {
    return NotChecked(stopped, TookTooLong(scope.limit));
  }
  ICEPIE_RETURN_IF_ERROR(checked.status());
  const std::vector<ExpectationResult>& broken = *checked;
  if (broken.empty()) return absl::OkStatus();
  MutexLock lock(mutex_);
  ++notes_;
  for (ExpectationResult& result : results_) {
    for (const ExpectationResult& each : broken) {
      if (each.name == result.name) result = each;
    }
  }
  const std::vector<ExpectationResult> failing = FailingIn(broken, absl::Now());
  return failing.empty() ? absl::OkStatus() : Broken(failing);
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

void HoldForEndless(const std::string& path, const std::string& slice, ExpectationGate& gate,
                    const ExpectationPlan& plan, int64_t position) {
  std::vector<ExpectationResult> told = gate.SetEndless(plan, position);
  if (told.empty()) return;
  const absl::Status written = WriteHold(path, {position, absl::Now(), std::move(told)});
  if (!written.ok())
    SliceWarn(slice, "{}; the next process will check it, too", written.ToString());
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
