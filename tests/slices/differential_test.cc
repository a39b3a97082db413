// Random domains, SQL, records, batches and restarts: after each step every slice equals plain
// DuckDB (differential_run.h). ICEPIE_DIFFERENTIAL_CASES (2000 for a long run) and
// ICEPIE_DIFFERENTIAL_SEED choose other cases; a failure is made small before it is printed.
#include <cstdlib>
#include <iostream>
#include <map>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "spdlog/spdlog.h"
#include "tests/slices/differential_grammar.h"
#include "tests/slices/differential_run.h"
#include "tests/slices/differential_shrink.h"

namespace icepie::slices {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(60);

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  uint64_t value = 0;
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : otherwise;
}

TEST(DifferentialTest, SlicesEqualPlainDuckDb) {
  spdlog::set_level(spdlog::level::critical);
  const uint64_t cases = FromEnvironment("ICEPIE_DIFFERENTIAL_CASES", 30);
  const uint64_t first = FromEnvironment("ICEPIE_DIFFERENTIAL_SEED", 20261126);
  std::cout << "seeds " << first << " to " << first + cases - 1 << std::endl;
  std::map<std::string, int> strategies;
  int comparisons = 0;
  int errors = 0;
  int blamed = 0;
  for (uint64_t seed = first; seed < first + cases; ++seed) {
    DifferentialCase test_case = MakeCase(seed);
    const CaseResult result = RunCase(test_case, kPatience);
    for (const auto& [name, count] : result.strategies) strategies[name] += count;
    comparisons += result.comparisons;
    errors += result.errors_shared;
    blamed += result.blamed;
    if (!result.failure) continue;
    const CaseFailure failure = Shrink(test_case, *result.failure);
    ADD_FAILURE() << "ICEPIE_DIFFERENTIAL_SEED=" << seed << " ICEPIE_DIFFERENTIAL_CASES=1\n"
                  << Describe(test_case) << failure.what;
    if (std::getenv("ICEPIE_DIFFERENTIAL_KEEP_GOING") == nullptr) break;
  }
  std::cout << comparisons << " comparisons, " << errors << " errors shared with the reference, "
            << blamed << " records blamed; slices:";
  for (const auto& [name, count] : strategies) std::cout << " " << name << " " << count;
  std::cout << std::endl;
}

}  // namespace
}  // namespace icepie::slices
