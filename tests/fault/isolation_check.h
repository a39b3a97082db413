// P2: no fault is visible in another domain, neither in its answers nor in its workers.
#ifndef ICEPIE_TESTS_FAULT_ISOLATION_CHECK_H_
#define ICEPIE_TESTS_FAULT_ISOLATION_CHECK_H_

#include "tests/fault/call_record.h"
#include "tests/fault/verdict.h"

namespace icepie::fault {

// Adds to `verdict` what the neighbours' answers and workers show.
//
// Answers are judged against those in calm of the same run, because a machine that others load
// makes a slice lag and a read slow without any fault; those of moments in which it had no time for
// anybody (Pacer) are left out. Workers are judged exactly: one whose domain had no fault between
// two sights is the same process in both, unless it was ended for its silence at such a moment.
void CheckIsolation(const CallRecord& record, const CheckOptions& options, Verdict* verdict);

}  // namespace icepie::fault

#endif  // ICEPIE_TESTS_FAULT_ISOLATION_CHECK_H_
