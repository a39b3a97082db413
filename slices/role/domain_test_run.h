// Runs the tests of a domain file through the engine that serves it: no daemon, no core, records in
// memory. Each case runs twice: all records at once, and one by one with a restart (snapshot and
// restore) in between, which must show the same.
#ifndef ICEPIE_SLICES_ROLE_DOMAIN_TEST_RUN_H_
#define ICEPIE_SLICES_ROLE_DOMAIN_TEST_RUN_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "slices/definition/definition_tests.h"

namespace icepie::slices {

struct TestRunOptions {
  std::string file_name;  // for messages
  std::string directory;  // scratch; each run makes and removes a directory of its own in it
  absl::Duration timeout = absl::Seconds(30);  // until the slices have applied what they were given
  // The process must end: DuckDB is broken or does not listen. It should not return.
  std::function<void(const std::string& why)> on_fatal;
};

// One way in which a slice is not what was expected.
struct TestFailure {
  std::string run;    // "all at once" or "one by one"; "" when in both
  std::string slice;  // "" when it is the whole run
  std::string what;   // one line, without the slice
  FilePlace place;
  // Rows as text, e.g. {origin: ABE, flights: 2}; and which columns differ where the key is equal.
  std::vector<std::string> missing;
  std::vector<std::string> unexpected;
  std::vector<std::string> differences;
};

struct TestResult {
  std::string name;
  FilePlace place;
  absl::Duration took;
  std::vector<TestFailure> failures;  // none: passed
};

// Runs the cases of `file` that `wanted` names, in its order, telling `on_result` of each as it
// ends. INVALID_ARGUMENT as ParseDomain() and PlanDomain() for a bad file.
absl::Status RunDomainTests(const std::string& file, const TestRunOptions& options,
                            const std::function<bool(const std::string& name)>& wanted,
                            const std::function<void(const TestResult&)>& on_result);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_ROLE_DOMAIN_TEST_RUN_H_
