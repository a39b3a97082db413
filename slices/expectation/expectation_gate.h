// The expectations of one generation: decides whether a copy of its state may become a snapshot,
// and remembers what was found.
#ifndef ICEPIE_SLICES_EXPECTATION_EXPECTATION_GATE_H_
#define ICEPIE_SLICES_EXPECTATION_EXPECTATION_GATE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "slices/duckdb/duckdb.h"
#include "slices/expectation/expectation.h"
#include "slices/expectation/expectation_check.h"

namespace icepie::slices {

// Threads: any; one Check() at a time.
class ExpectationGate {
 public:
  explicit ExpectationGate(std::vector<ExpectationPlan> plans) { SetPlans(std::move(plans)); }

  // They are unchecked again, but what is endless is not checked before its SQL is another.
  void SetPlans(std::vector<ExpectationPlan> plans);
  void SetWaivers(std::vector<ExpectationWaiver> waivers);
  // What an earlier process found; of expectations that are still the same.
  void Restore(const std::vector<ExpectationResult>& results);
  // The check of this one, of the rows at `position`, listens to no interrupt. Returns what the
  // next process has to know of it: nothing when its SQL has become another meanwhile.
  std::vector<ExpectationResult> SetEndless(const ExpectationPlan& plan, int64_t position);

  bool empty() const;
  // Whether a failure could hold the slice.
  bool holds() const;

  // Checks the rows of `scope`. FAILED_PRECONDITION/EXPECTATION_FAILED when one of severity error
  // fails that is not waived; UNAVAILABLE/EXPECTATION_STOPPED when the check of such a one did not
  // end; UNAVAILABLE when the plans changed meanwhile. `results` are also set then. What is endless
  // fails without being run.
  absl::Status Check(DuckConnection& connection, const ExpectationScope& scope,
                     std::vector<ExpectationResult>& results);

  // Checks what a batch has changed (CheckBatch). FAILED_PRECONDITION/EXPECTATION_FAILED when one
  // of severity error is broken that is not waived, UNAVAILABLE/EXPECTATION_STOPPED when the check
  // of such a one did not end: the batch must not stay. What is broken becomes its result; that
  // nothing is says nothing of the other rows.
  absl::Status CheckBatch(DuckConnection& connection, const std::string& rows,
                          const BatchCheckScope& scope);
  // Grows when CheckBatch has set a result.
  int64_t notes() const;

  std::vector<ExpectationResult> results() const;
  // Number of checks that are done, and what the last one could not decide: OK, or
  // UNAVAILABLE/EXPECTATION_STOPPED.
  int64_t rounds() const;
  absl::Status undecided() const;
  // Those of severity error that failed last and are not waived at `now`.
  std::vector<ExpectationResult> Failing(absl::Time now) const;

 private:
  bool IsWaived(const std::string& name, absl::Time now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::vector<ExpectationResult> FailingIn(const std::vector<ExpectationResult>& results,
                                           absl::Time now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status StoppedIn(const std::vector<ExpectationResult>& results, absl::Time now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Take(const std::vector<ExpectationResult>& earlier) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  const ExpectationResult* FindEndless(const std::string& name) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  std::vector<ExpectationPlan> plans_ ABSL_GUARDED_BY(mutex_);
  std::vector<ExpectationWaiver> waivers_ ABSL_GUARDED_BY(mutex_);
  std::vector<ExpectationResult> results_ ABSL_GUARDED_BY(mutex_);
  int64_t version_ ABSL_GUARDED_BY(mutex_) = 0;  // of the plans
  int64_t rounds_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t notes_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status undecided_ ABSL_GUARDED_BY(mutex_);
};

// SetEndless(), written to the hold file at `path` for the next process.
void HoldForEndless(const std::string& path, const std::string& slice, ExpectationGate& gate,
                    const ExpectationPlan& plan, int64_t position);

// "expectation late_le_all failed at position 71: 12 rows, e.g. {…}", with the count of others.
std::string FailureText(const std::vector<ExpectationResult>& failing);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_EXPECTATION_EXPECTATION_GATE_H_
