// Holds the promises against the full record of calls and answers. It knows nothing of the daemon,
// so that tests can show it wrong records.
#ifndef ICEPIE_TESTS_FAULT_CHECKER_H_
#define ICEPIE_TESTS_FAULT_CHECKER_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tests/fault/call_record.h"
#include "tests/fault/verdict.h"

namespace icepie::fault {

// Kinds of which no fault was injected.
std::vector<std::string> NeverHappened(const CallRecord& record);

// An error is the reference's own.
absl::StatusOr<Verdict> Check(const CallRecord& record, const CheckOptions& options);

}  // namespace icepie::fault

#endif  // ICEPIE_TESTS_FAULT_CHECKER_H_
