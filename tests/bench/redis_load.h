// Closed-loop clients of Redis' XADD. redis-benchmark sends one and the same payload; these send
// the records that the daemon gets, prepared before as its are, and look at the answers only to
// count them.
#ifndef ICEPIE_TESTS_BENCH_REDIS_LOAD_H_
#define ICEPIE_TESTS_BENCH_REDIS_LOAD_H_

#include <optional>

#include "tests/bench/ingest_peers.h"

namespace icepie::bench {

// Records a second. Each client sends `batch` commands at once, and the next when all are answered;
// one thread drives them all, as in redis-benchmark. Nullopt when Redis refuses one or hangs up.
std::optional<double> RunRedisLoad(int port, const PeerLoad& load);

}  // namespace icepie::bench

#endif  // ICEPIE_TESTS_BENCH_REDIS_LOAD_H_
