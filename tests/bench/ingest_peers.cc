#include "tests/bench/ingest_peers.h"

#include <fcntl.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/check.h"
#include "tests/bench/figure.h"
#include "tests/bench/redis_load.h"

namespace icepie::bench {
namespace {

using Clock = std::chrono::steady_clock;

void Say(const std::string& what) { std::fprintf(stderr, "icepie-bench: %s\n", what.c_str()); }

// The number in front of the last `unit` in a program's output.
std::optional<double> NumberBefore(const std::string& output, const std::string& unit) {
  const size_t at = output.rfind(unit);
  if (at == std::string::npos) return std::nullopt;
  const std::vector<std::string> words =
      absl::StrSplit(output.substr(0, at), absl::ByAnyChar(" \n=:\t"), absl::SkipEmpty());
  double number = 0;
  if (words.empty() || !absl::SimpleAtod(words.back(), &number)) return std::nullopt;
  return number;
}

// The first one behind the first `label`.
std::optional<double> NumberAfter(const std::string& output, const std::string& label) {
  const size_t at = output.find(label);
  if (at == std::string::npos) return std::nullopt;
  const size_t begin = at + label.size();
  double number = 0;
  const size_t end = output.find_first_not_of("0123456789.", begin);
  if (!absl::SimpleAtod(output.substr(begin, end - begin), &number)) return std::nullopt;
  return number;
}

std::optional<double> Failed(const std::string& program, const Ran& ran) {
  Say(absl::StrCat(program, " failed: ", ran.output.substr(0, 400)));
  return std::nullopt;
}

int64_t WholeSeconds(double seconds) { return std::max<int64_t>(1, std::lround(seconds)); }

// Bounded.
bool WaitUntil(const std::function<bool()>& holds) {
  for (int i = 0; i < 300; ++i) {
    if (holds()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  return false;
}

}  // namespace

double FdatasyncP50Ms(const std::string& directory, int64_t bytes, double seconds) {
  const std::string path = directory + "/fdatasync";
  const int fd = open(path.c_str(), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
  ICEPIE_CHECK(fd >= 0);
  const std::string data(static_cast<size_t>(bytes), 'x');
  std::vector<double> times;
  const auto begin = Clock::now();
  const auto since = [](Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  do {
    ICEPIE_CHECK(write(fd, data.data(), data.size()) == static_cast<ssize_t>(data.size()));
    const auto start = Clock::now();
    ICEPIE_CHECK(fdatasync(fd) == 0);
    const double ms = since(start) * 1000;
    if (times.empty() || since(begin) > kWarmUpSeconds) times.push_back(ms);
  } while (since(begin) < kWarmUpSeconds + seconds);
  close(fd);
  unlink(path.c_str());
  return *Median(std::move(times));
}

std::unique_ptr<DbBench> DbBench::Start(const std::string& directory) {
  const auto program = FindProgram("db_bench");
  if (program) return std::unique_ptr<DbBench>(new DbBench(*program, directory));
  ReportMissingPeer("db_bench");
  return nullptr;
}

std::optional<double> DbBench::Fill(const PeerLoad& load) const {
  const Ran ran = RunToEnd(
      {program_, "--benchmarks=fillrandom[W1]", "--sync=1",
       absl::StrCat("--db=", directory_, "/db_bench"), "--use_existing_db=0", "--key_size=16",
       absl::StrCat("--value_size=", std::lround(MeanPayloadBytes(load.kind))),
       absl::StrCat("--batch_size=", load.batch), absl::StrCat("--threads=", load.clients),
       absl::StrCat("--duration=", WholeSeconds(load.seconds)), "--num=100000000",
       "--compression_type=none"});
  const auto rate = NumberBefore(ran.output, " ops/sec");
  return ran.exit_code == 0 && rate ? rate : Failed("db_bench", ran);
}

std::unique_ptr<Redis> Redis::Start(const std::string& directory) {
  if (FindProgram("redis-server") && FindProgram("redis-cli")) {
    auto redis = std::unique_ptr<Redis>(new Redis(directory, FreePort()));
    if (WaitUntil([&] { return redis->Command({"ping"}).exit_code == 0; })) return redis;
  }
  ReportMissingPeer("Redis");
  return nullptr;
}

Redis::Redis(const std::string& directory, int port)
    : port_(port),
      server_(
          {"redis-server", "--port", absl::StrCat(port), "--bind", "127.0.0.1", "--dir", directory,
           "--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0",
           "--save", "", "--daemonize", "no", "--logfile", directory + "/redis.log"},
          directory + "/redis.err") {}

Ran Redis::Command(const std::vector<std::string>& words) const {
  std::vector<std::string> all = {"redis-cli", "-p", absl::StrCat(port_)};
  all.insert(all.end(), words.begin(), words.end());
  return RunToEnd(std::move(all));
}

std::optional<double> Redis::Add(const PeerLoad& load) const {
  const auto rate = RunRedisLoad(port_, load);
  if (!rate) Say("Redis refused records");
  (void)Command({"flushall"});
  (void)Command({"bgrewriteaof"});
  const bool rewritten = WaitUntil([&] {
    const Ran ran = Command({"info", "persistence"});
    return absl::StrContains(ran.output, "aof_rewrite_in_progress:0") &&
           absl::StrContains(ran.output, "aof_rewrite_scheduled:0");
  });
  if (!rewritten) Say("Redis does not end rewriting its file");
  return rate;
}

std::unique_ptr<Postgres> Postgres::Start(const std::string& directory) {
  const std::string programs = "/usr/lib/postgresql/15/bin";
  if (FindProgram("initdb", {programs}) && FindProgram("pgbench", {programs})) {
    auto postgres =
        std::unique_ptr<Postgres>(new Postgres(directory + "/postgres", programs, FreePort()));
    if (postgres->server_) return postgres;
  }
  ReportMissingPeer("PostgreSQL");
  return nullptr;
}

namespace {

// PostgreSQL refuses to run as root.
std::vector<std::string> AsPostgres(std::vector<std::string> arguments) {
  if (getuid() != 0) return arguments;
  // A change of the account forgets the signal, so it is asked for again.
  std::vector<std::string> all = {"setpriv",        "--reuid=postgres", "--regid=postgres",
                                  "--clear-groups", "--pdeathsig",      "KILL"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return all;
}

}  // namespace

Postgres::Postgres(std::string directory, std::string programs, int port)
    : directory_(std::move(directory)), programs_(std::move(programs)), port_(port) {
  (void)RunToEnd({"mkdir", "-p", directory_});
  if (getuid() == 0) {
    (void)RunToEnd({"chmod", "755", directory_ + "/.."});
    (void)RunToEnd({"chown", "postgres:postgres", directory_});
  }
  const Ran made = RunToEnd(AsPostgres({programs_ + "/initdb", "-D", directory_ + "/data", "-A",
                                        "trust", "-U", "bench", "-E", "UTF8", "--locale=C"}));
  if (made.exit_code != 0) {
    Say("initdb failed: " + made.output.substr(0, 400));
    return;
  }
  server_ = std::make_unique<Background>(
      AsPostgres({programs_ + "/postgres", "-D", directory_ + "/data", "-p", absl::StrCat(port_),
                  "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c",
                  "fsync=on", "-c", "synchronous_commit=on", "-c", "autovacuum=off", "-c",
                  "max_connections=100"}),
      directory_ + ".log");
  const bool started = WaitUntil([&] {
    return Sql("CREATE TABLE IF NOT EXISTS records (id bigserial, time timestamptz DEFAULT now(), "
               "stream text, payload text)")
               .exit_code == 0;
  });
  if (started) return;
  Say("postgres did not start");
  server_.reset();
}

std::vector<std::string> Postgres::Psql(const std::string& sql) const {
  return {programs_ + "/psql", "-h",    "127.0.0.1", "-p", absl::StrCat(port_), "-U", "bench", "-d",
          "postgres",          "-qAtc", sql};
}

Postgres::~Postgres() {
  if (server_) server_->Interrupt();
}

std::optional<double> Postgres::Bench(const PeerLoad& load,
                                      const std::vector<std::string>& scripts) const {
  constexpr double kWarmUp = 1;  // the least that it reports progress of
  std::vector<std::string> arguments = {programs_ + "/pgbench",
                                        "-n",
                                        "-M",
                                        "prepared",
                                        "-h",
                                        "127.0.0.1",
                                        "-p",
                                        absl::StrCat(port_),
                                        "-U",
                                        "bench",
                                        "-c",
                                        absl::StrCat(load.clients),
                                        "-j",
                                        "2",
                                        "-P",
                                        absl::StrCat(kWarmUp),
                                        "-T",
                                        absl::StrCat(kWarmUp + WholeSeconds(load.seconds))};
  for (size_t i = 0; i < scripts.size(); ++i) {
    const std::string file = absl::StrCat(directory_, "_", i, ".sql");
    std::ofstream(file) << scripts[i];
    arguments.insert(arguments.end(), {"-f", file});
  }
  arguments.push_back("postgres");
  const Ran ran = RunToEnd(std::move(arguments));
  for (const char* sql : {"TRUNCATE records", "CHECKPOINT"}) (void)Sql(sql);
  // "progress: 1.0 s, 5120.3 tps, ..." of the first second, and in the end of all of them.
  const auto all = NumberAfter(ran.output, "number of transactions actually processed: ");
  const auto rate = NumberAfter(ran.output, "tps = ");
  const auto warm_up_end = NumberAfter(ran.output, "progress: ");
  const auto warm_up_rate = NumberAfter(ran.output, " s, ");
  if (ran.exit_code != 0 || !all || !rate || !warm_up_end || !warm_up_rate || *rate <= 0) {
    return Failed("pgbench", ran);
  }
  const double seconds = *all / *rate - *warm_up_end;
  return (*all - *warm_up_rate * *warm_up_end) / seconds;
}

std::optional<double> Postgres::Insert(const PeerLoad& load) const {
  constexpr size_t kScripts = 50;  // of Nexmark's events, a round: one person, three auctions
  std::vector<std::string> scripts;
  for (size_t i = 0; i < kScripts; ++i) {
    const BenchRecord& record = Records(load.kind)[i];
    scripts.push_back(absl::StrCat("INSERT INTO records (stream, payload) VALUES ('", record.stream,
                                   "', '", record.payload, "');\n"));
  }
  return Bench(load, scripts);
}

std::optional<double> Postgres::Copy(const PeerLoad& load) const {
  constexpr size_t kScripts = 16;
  std::vector<std::string> scripts;
  for (size_t i = 0; i < kScripts; ++i) {
    const std::string file = absl::StrCat(directory_, "_", i, ".rows");
    std::ofstream rows(file);
    for (size_t j = 0; j < static_cast<size_t>(load.batch); ++j) {
      const BenchRecord& record =
          Records(load.kind)[(i * static_cast<size_t>(load.batch) + j) % Records(load.kind).size()];
      rows << record.stream << '\t' << record.payload << '\n';
    }
    scripts.push_back(absl::StrCat("COPY records (stream, payload) FROM '", file, "';\n"));
  }
  const auto rate = Bench(load, scripts);
  return rate ? std::optional(*rate * load.batch) : rate;
}

}  // namespace icepie::bench
