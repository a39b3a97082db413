// Makes a failing case of the differential test small: fewer slices, steps, records, output
// columns, clauses and fields, as long as it still fails in the same way.
#ifndef ICEPIE_TESTS_SLICES_DIFFERENTIAL_SHRINK_H_
#define ICEPIE_TESTS_SLICES_DIFFERENTIAL_SHRINK_H_

#include "tests/slices/differential_case.h"
#include "tests/slices/differential_run.h"

namespace icepie::slices {

// Shrinks `test_case` in place; the failure that it has then. Takes a minute at most, beyond the
// run that it begins last.
CaseFailure Shrink(DifferentialCase& test_case, CaseFailure failure);

}  // namespace icepie::slices

#endif  // ICEPIE_TESTS_SLICES_DIFFERENTIAL_SHRINK_H_
