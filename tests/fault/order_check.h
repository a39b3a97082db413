// What one reader is shown, answer after answer: time does not go back, and the live worker, once
// it answers again, keeps answering.
#ifndef ICEPIE_TESTS_FAULT_ORDER_CHECK_H_
#define ICEPIE_TESTS_FAULT_ORDER_CHECK_H_

#include "tests/fault/call_record.h"
#include "tests/fault/verdict.h"

namespace icepie::fault {

// Adds to `verdict`, of each reader and slice:
// - a fresh answer that lacks what an earlier one had, whatever happened between them;
// - an answer of the live worker that lacks what its earlier one had, without a fault of the
// domain;
// - more than one way back from the live worker to the standby after a fault was over, which is a
//   flap. A busy machine may have a few.
void CheckOrder(const CallRecord& record, const CheckOptions& options, Verdict* verdict);

}  // namespace icepie::fault

#endif  // ICEPIE_TESTS_FAULT_ORDER_CHECK_H_
