// Runs a slice's expectations over one state of it.
#ifndef ICEPIE_SLICES_EXPECTATION_EXPECTATION_CHECK_H_
#define ICEPIE_SLICES_EXPECTATION_EXPECTATION_CHECK_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "slices/apply/batch_check_watch.h"
#include "slices/duckdb/duckdb.h"
#include "slices/expectation/expectation.h"

namespace icepie::slices {

// The rows of another slice, for `relationships`.
struct ExpectationTarget {
  std::string relation;              // quoted, with its database; empty: it cannot be read now …
  std::string unavailable;           // … and why
  std::shared_ptr<const void> keep;  // what must live while it is read
};

// A check does not listen to its interrupt: the process must end.
using OnStuckCheck =
    std::function<void(const ExpectationPlan& expectation, const std::string& why)>;

struct ExpectationScope {
  std::string slice;       // for messages
  std::string generation;  // "slice/number", for the flight record
  std::string relation;    // the rows to check, quoted, with their database
  int64_t position = 0;    // of them
  std::function<ExpectationTarget(const std::string& slice)> find_target;
  absl::Duration limit = absl::Seconds(10);  // for each expectation
  absl::Duration grace = absl::Seconds(2);   // from its interrupt to on_stuck
  OnStuckCheck on_stuck;
};

// Of what is checked in a batch.
struct BatchCheckScope {
  std::string slice;
  std::string generation;
  int64_t position = 0;
  absl::Duration limit = absl::Seconds(10);
  BatchCheckWatch* watch = nullptr;
  OnStuckCheck on_stuck;
};

// Of an expectation that has not been checked.
ExpectationResult Unchecked(const ExpectationPlan& plan);

// One result for each plan, in order. SQL that fails on the data breaks its expectation. One whose
// target is not there is kNotChecked, one that time, memory or the disk ended is kStopped, with the
// reason. Makes temporary views `slice` and `__to` on `connection`; reads only. INTERNAL: the
// process must end.
absl::StatusOr<std::vector<ExpectationResult>> CheckExpectations(
    DuckConnection& connection, const std::vector<ExpectationPlan>& plans,
    const ExpectationScope& scope);

// Those that hold row by row, over the rows that a batch has changed: `rows` is a SELECT of them.
// To be run in the batch's transaction, which it only reads in; after SQL that failed, that can
// only be rolled back. One result for each that is broken. DEADLINE_EXCEEDED, with `stopped` (may
// not be null) set to the expectation, when one was interrupted.
absl::StatusOr<std::vector<ExpectationResult>> CheckBatch(DuckConnection& connection,
                                                          const std::vector<ExpectationPlan>& plans,
                                                          const std::string& rows,
                                                          const BatchCheckScope& scope,
                                                          std::string* stopped);

// What a result says of a check that its time limit has ended.
std::string TookTooLong(absl::Duration limit);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_EXPECTATION_EXPECTATION_CHECK_H_
