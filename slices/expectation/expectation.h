// Expectations as the engine runs and reports them. Each is one SELECT of the rows that should not
// be there, over the relations
//   slice   the rows to check: a copy of the slice's state that is about to become a snapshot, or
//           the rows that a batch has changed (by_row)
//   __to    relationships only: the rows of the other slice
#ifndef ICEPIE_SLICES_EXPECTATION_EXPECTATION_H_
#define ICEPIE_SLICES_EXPECTATION_EXPECTATION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "slices/definition/definition.h"

namespace icepie::slices {

struct ExpectationPlan {
  std::string name;
  std::string check;  // for people: "not_null(origin, hour)"
  ExpectationSeverity severity = ExpectationSeverity::kError;
  std::string sql;  // the rows that break it
  std::string to;   // the slice behind __to; empty when it reads none
  // Each row breaks it or does not, whatever the others are: what a batch changes can be checked
  // alone.
  bool by_row = false;
  bool may_fail = false;  // its SQL is the author's, and can fail on the data
};

inline bool operator==(const ExpectationPlan& a, const ExpectationPlan& b) {
  return a.name == b.name && a.check == b.check && a.severity == b.severity && a.sql == b.sql &&
         a.to == b.to && a.by_row == b.by_row;
}

// An operator's word that a failing expectation does not hold the slice.
struct ExpectationWaiver {
  std::string expectation;
  absl::Time until = absl::InfiniteFuture();
};

inline bool operator==(const ExpectationWaiver& a, const ExpectationWaiver& b) {
  return a.expectation == b.expectation && a.until == b.until;
}
inline bool operator!=(const ExpectationWaiver& a, const ExpectationWaiver& b) { return !(a == b); }

struct ExpectationResult {
  // The numbers are those of icepie.v1.ExpectationResult.Status.
  // kStopped: its check did not end within what the domain may use, of time, memory or disk.
  enum class Status { kNotChecked = 1, kPassed = 2, kFailed = 3, kStopped = 4 };
  std::string name;
  std::string check;
  std::string sql_digest;  // of what was run: another result is another check's, whatever its name
  ExpectationSeverity severity = ExpectationSeverity::kError;
  Status status = Status::kNotChecked;
  int64_t failing_rows = 0;
  std::vector<std::string> samples;  // JSON objects, a few of the failing rows
  int64_t position = 0;              // of the rows that were checked
  absl::Time time;                   // of the check
  std::string message;               // why it could not be checked, or what its SQL failed with
  // Its check has ended a worker, for it listens to no interrupt: kFailed, and not checked again.
  bool endless = false;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_EXPECTATION_EXPECTATION_H_
