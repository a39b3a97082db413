// What the benchmarks of slices share: ending on an error, and blocks of records for a feed.
#ifndef ICEPIE_TESTS_BENCH_SLICE_BENCH_H_
#define ICEPIE_TESTS_BENCH_SLICE_BENCH_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/slices/nexmark_events.h"

namespace icepie::slices {

struct RecordBlock {
  std::string stream;
  std::vector<std::string> payloads;
};
using RecordBlocks = std::vector<RecordBlock>;

// Ends the program with the error.
void Check(const absl::Status& status);
template <typename T>
T Checked(absl::StatusOr<T> value) {
  Check(value.status());
  return *std::move(value);
}

// The next `count` events, in blocks as the core would have them.
RecordBlocks NexmarkBlocks(NexmarkGenerator& generator, int64_t count);

// The file with the Nexmark queries, from the source tree in which the benchmark is run.
std::string NexmarkDomain();

}  // namespace icepie::slices

#endif  // ICEPIE_TESTS_BENCH_SLICE_BENCH_H_
