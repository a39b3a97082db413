// What the benchmarks are compared with, each started on loopback with its data in a scratch
// directory: RocksDB's own db_bench, Redis and PostgreSQL, driven by their own load programs.
#ifndef ICEPIE_TESTS_BENCH_INGEST_PEERS_H_
#define ICEPIE_TESTS_BENCH_INGEST_PEERS_H_

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/bench/bench_process.h"

namespace icepie::bench {

struct PeerLoad {
  std::string payload;
  int clients = 1;
  int batch = 1;
  double seconds = 1;
};

// Median time of one fdatasync after writing `bytes` to the end of a file.
double FdatasyncP50Ms(const std::string& directory, int bytes, double seconds);

// Records a second; each is nullopt when the program is not installed or fails, which standard
// error says.

// db_bench fillrandom --sync=1, values as long as the payload, a WriteBatch of `batch`.
std::optional<double> RunDbBench(const std::string& directory, const PeerLoad& load);

// redis-server with appendfsync always.
class Redis {
 public:
  static std::unique_ptr<Redis> Start(const std::string& directory);
  // XADD, `batch` pipelined on each connection.
  std::optional<double> Add(const PeerLoad& load);

 private:
  Redis(const std::string& directory, int port);
  std::optional<double> Run(const PeerLoad& load, int64_t records) const;
  const int port_;
  Background server_;
  std::map<std::string, double> rates_;  // of the last run of each load, for the next one's size
};

// A cluster of its own, synchronous_commit on.
class Postgres {
 public:
  static std::unique_ptr<Postgres> Start(const std::string& directory);
  ~Postgres();
  // One INSERT of one record a transaction, prepared.
  std::optional<double> Insert(const PeerLoad& load);
  // One COPY of `batch` records a transaction, from a file of the server's.
  std::optional<double> Copy(const PeerLoad& load);
  // A session that runs these statements and prints bare values.
  std::vector<std::string> Psql(const std::string& sql) const;
  Ran Sql(const std::string& sql) const { return RunToEnd(Psql(sql)); }

 private:
  Postgres(std::string directory, std::string programs, int port);
  std::optional<double> Bench(const PeerLoad& load, const std::string& script, int records) const;
  const std::string directory_;
  const std::string programs_;
  const int port_;
  std::unique_ptr<Background> server_;
};

}  // namespace icepie::bench

#endif  // ICEPIE_TESTS_BENCH_INGEST_PEERS_H_
