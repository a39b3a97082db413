// Closed-loop clients of Core.AppendRecords, each of which sends its next batch when the last is
// answered, or of Core.StreamAppendRecords, each of which keeps some batches in flight.
#ifndef ICEPIE_TESTS_BENCH_APPEND_LOAD_H_
#define ICEPIE_TESTS_BENCH_APPEND_LOAD_H_

#include <cstdint>
#include <functional>
#include <string>

#include "tests/bench/bench_records.h"

namespace icepie::bench {

struct Load {
  std::string address;
  RecordKind kind = RecordKind::kTransfer;
  int clients = 1;
  int batch = 1;      // records of a call, or of a stream's message
  int in_flight = 0;  // batches of a stream that wait for their answers; 0: calls, no streams
  double seconds = 1;
  std::function<void()> on_prepared = nullptr;  // called before the first call
};

struct LoadResult {
  double records_per_second = 0;
  double p50_ms = 0;  // of a batch
  double p99_ms = 0;
  int64_t records = 0;  // all that were appended, before the measurement, too
};

// Ends the program when a call fails.
LoadResult RunLoad(const Load& load);

// Serves both on a free port, answering each batch at once and storing nothing: the cheapest server
// there can be of the same messages. Prints the port and serves until killed.
void ServeEcho();

}  // namespace icepie::bench

#endif  // ICEPIE_TESTS_BENCH_APPEND_LOAD_H_
