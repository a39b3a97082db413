// What the benchmarks are compared with, each started on loopback with its data in a scratch
// directory: RocksDB's own db_bench, Redis and PostgreSQL.
#ifndef ICEPIE_TESTS_BENCH_INGEST_PEERS_H_
#define ICEPIE_TESTS_BENCH_INGEST_PEERS_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/bench/bench_process.h"
#include "tests/bench/bench_records.h"

namespace icepie::bench {

struct PeerLoad {
  RecordKind kind = RecordKind::kTransfer;
  int clients = 1;
  int batch = 1;
  double seconds = 1;
};

// Median time of one fdatasync after writing `bytes` to the end of a file.
double FdatasyncP50Ms(const std::string& directory, int64_t bytes, double seconds);

// Records a second, after warming up, and nothing is left to do when they return: data is thrown
// away, and Redis and PostgreSQL are idle. Each is nullopt when the program fails, which standard
// error says. Start returns nullptr when a program is not installed or does not start, and reports
// it as a missing peer (figure.h).

// fillrandom --sync=1, values as long as the records are on average, a WriteBatch of `batch`. The
// seconds are whole ones, and as many again warm up.
class DbBench {
 public:
  static std::unique_ptr<DbBench> Start(const std::string& directory);
  std::optional<double> Fill(const PeerLoad& load) const;

 private:
  DbBench(std::string program, std::string directory)
      : program_(std::move(program)), directory_(std::move(directory)) {}
  const std::string program_;
  const std::string directory_;
};

// redis-server with appendfsync always, which rewrites its file after the measurements only.
class Redis {
 public:
  static std::unique_ptr<Redis> Start(const std::string& directory);
  // XADD, `batch` pipelined on each connection (redis_load.h).
  std::optional<double> Add(const PeerLoad& load) const;

 private:
  Redis(const std::string& directory, int port);
  Ran Command(const std::vector<std::string>& words) const;
  const int port_;
  Background server_;
};

// A cluster of its own, fsync and synchronous_commit on, autovacuum off.
class Postgres {
 public:
  static std::unique_ptr<Postgres> Start(const std::string& directory);
  ~Postgres();
  // One INSERT of one record a transaction, prepared. By pgbench, in whole seconds, after one to
  // warm up.
  std::optional<double> Insert(const PeerLoad& load) const;
  // One COPY of `batch` records a transaction, from a file of the server's.
  std::optional<double> Copy(const PeerLoad& load) const;
  // A session that runs these statements and prints bare values.
  std::vector<std::string> Psql(const std::string& sql) const;
  Ran Sql(const std::string& sql) const { return RunToEnd(Psql(sql)); }

 private:
  Postgres(std::string directory, std::string programs, int port);
  // Transactions drawn from `scripts`.
  std::optional<double> Bench(const PeerLoad& load, const std::vector<std::string>& scripts) const;
  const std::string directory_;
  const std::string programs_;
  const int port_;
  std::unique_ptr<Background> server_;
};

}  // namespace icepie::bench

#endif  // ICEPIE_TESTS_BENCH_INGEST_PEERS_H_
