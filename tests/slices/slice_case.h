// Cases of tests/slices/data/*.sql; data/README.md describes the format.
#ifndef ICEPIE_TESTS_SLICES_SLICE_CASE_H_
#define ICEPIE_TESTS_SLICES_SLICE_CASE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "slices/plan/plan.h"

namespace icepie::slices {

struct CaseRecord {
  std::string source;
  std::string payload;
};

struct CaseSlice {
  std::string name;
  std::string sql;
  std::string options;  // further keys of the slice, as in a YAML flow map
};

struct SliceCase {
  std::string name;
  int line = 0;
  std::vector<std::string> sources;  // "r: {columns: …}"
  std::vector<CaseSlice> upstream;
  CaseSlice slice;
  std::vector<CaseRecord> records;
  // What is expected; absent: not said.
  std::string strategy;
  std::string why;        // a part of it
  std::string reference;  // SQL that it is compared with; empty: its own
  std::optional<std::vector<std::string>> rows;
  std::optional<int64_t> quarantined;
  std::optional<int64_t> filtered;
  bool random = true;

  // The domain file with these sources and slices.
  std::string Yaml() const;
};

// INVALID_ARGUMENT names file and line.
absl::StatusOr<std::vector<SliceCase>> ParseCases(absl::string_view text,
                                                  const std::string& file_name);

// A record of `source` that depends on `seed` only: few different keys, NULLs, missing members,
// records that its `where` drops.
std::string RandomPayload(const SourceDef& source, uint32_t seed);

}  // namespace icepie::slices

#endif  // ICEPIE_TESTS_SLICES_SLICE_CASE_H_
