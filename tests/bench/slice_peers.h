// PostgreSQL keeping Nexmark queries fresh, as teams do without a slice engine: by statement
// triggers that maintain a table (where that is a statement or two), and by REFRESH MATERIALIZED
// VIEW after each batch.
#ifndef ICEPIE_TESTS_BENCH_SLICE_PEERS_H_
#define ICEPIE_TESTS_BENCH_SLICE_PEERS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/bench/bench_process.h"
#include "tests/bench/ingest_peers.h"
#include "tests/bench/slice_bench.h"

namespace icepie::slices {

// A cluster of its own with the auctions and bids of the events, read from their JSON into typed
// columns as each batch comes: reading is in its figures as it is in ours.
class PostgresSlices {
 public:
  enum class Way { kTriggers, kRefresh };

  // Nullptr when PostgreSQL does not start, which is reported as a missing peer (figure.h), or does
  // not take `before`.
  static std::unique_ptr<PostgresSlices> Start(const RecordBlocks& before);
  // Whether the query is written for PostgreSQL in this way.
  static bool Knows(const std::string& query, Way way);

  struct Figure {
    double rate = 0;   // records a second, of the streams that the query reads
    int64_t rows = 0;  // of the query in the end
  };
  // Of these batches, each from its COPY until the rows are committed with it; nullopt when that
  // fails. The batches are taken away again.
  std::optional<Figure> Run(const std::string& query, Way way,
                            const std::vector<RecordBlocks>& batches);

 private:
  PostgresSlices() = default;
  // Of one COPY of each of these streams' records and what follows from it; negative when it fails.
  double SecondsOf(const RecordBlocks& blocks, const std::vector<std::string>& streams,
                   const std::string& then);
  bool Do(const std::string& sql);

  bench::Scratch scratch_;
  std::unique_ptr<bench::Postgres> postgres_;
};

}  // namespace icepie::slices

#endif  // ICEPIE_TESTS_BENCH_SLICE_PEERS_H_
