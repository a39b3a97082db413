// The records that benches append: the same ones for the daemon and for what it is compared with.
#ifndef ICEPIE_TESTS_BENCH_BENCH_RECORDS_H_
#define ICEPIE_TESTS_BENCH_BENCH_RECORDS_H_

#include <cstdint>
#include <string>
#include <vector>

namespace icepie::bench {

// Clients that go on until a time has passed do as much before that, to warm up.
constexpr double kWarmUpSeconds = 0.3;

enum class RecordKind {
  kTransfer,  // JSON of 200 bytes
  kNexmark,   // persons, auctions and bids (tests/slices/nexmark_events.h), about 200 bytes
};

struct BenchRecord {
  std::string stream;
  std::string payload;
};

// JSON of 200 bytes whose values are drawn at random, so that it compresses as real data does.
std::string MakeTransfer(uint64_t seed);

// Twenty thousand, made at the first call: `bench` of transfers, `person`, `auction` and `bid` in
// the order of the events. At least a batch of 1,000 follows any multiple of 1,000.
const std::vector<BenchRecord>& Records(RecordKind kind);
std::vector<std::string> StreamsOf(RecordKind kind);
double MeanPayloadBytes(RecordKind kind);
const char* NameOf(RecordKind kind);

}  // namespace icepie::bench

#endif  // ICEPIE_TESTS_BENCH_BENCH_RECORDS_H_
