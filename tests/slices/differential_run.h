// Runs a case of the differential test: the engine over a feed in memory on one side, plain DuckDB
// over tables of the same records on the other.
#ifndef ICEPIE_TESTS_SLICES_DIFFERENTIAL_RUN_H_
#define ICEPIE_TESTS_SLICES_DIFFERENTIAL_RUN_H_

#include <cstddef>
#include <map>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "tests/slices/differential_case.h"

namespace icepie::slices {

struct CaseFailure {
  enum class Is {
    kInvalid,  // the definition is refused or the case cannot be set up
    kWrong,    // rows or quarantine differ
    kStuck,    // a slice did not get to the head in time
  };
  Is is = Is::kWrong;
  std::string what;
};

struct CaseResult {
  std::optional<CaseFailure> failure;
  std::map<std::string, int> strategies;  // how many slices got which
  int comparisons = 0;
  int errors_shared = 0;  // the slice stopped at an error that the reference run has too
  int blamed = 0;         // records quarantined because the SQL fails on them
};

// After each step every slice equals the reference run (DESIGN.md P5): its SQL by DuckDB with one
// thread over the records in position order, less the quarantined ones, which are exactly those
// that a model of the strict reading finds bad and those that the SQL fails on. At the end one
// slice is built anew and compared in the same way. `patience` is how long a slice may take to get
// to the head.
CaseResult RunCase(const DifferentialCase& test_case, absl::Duration patience);

}  // namespace icepie::slices

#endif  // ICEPIE_TESTS_SLICES_DIFFERENTIAL_RUN_H_
