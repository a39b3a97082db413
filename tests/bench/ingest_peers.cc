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
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/check.h"

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

std::optional<double> Failed(const std::string& program, const Ran& ran) {
  Say(absl::StrCat(program, " failed: ", ran.output.substr(0, 400)));
  return std::nullopt;
}

// Waits, bounded, until a server answers.
bool WaitUntil(const std::vector<std::string>& probe) {
  for (int i = 0; i < 300; ++i) {
    if (RunToEnd(probe).exit_code == 0) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  return false;
}

}  // namespace

double FdatasyncP50Ms(const std::string& directory, int bytes, double seconds) {
  const std::string path = directory + "/fdatasync";
  const int fd = open(path.c_str(), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
  ICEPIE_CHECK(fd >= 0);
  const std::string data(static_cast<size_t>(bytes), 'x');
  std::vector<double> times;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  do {
    ICEPIE_CHECK(write(fd, data.data(), data.size()) == static_cast<ssize_t>(data.size()));
    const auto start = Clock::now();
    ICEPIE_CHECK(fdatasync(fd) == 0);
    times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
  } while (Clock::now() < end);
  close(fd);
  unlink(path.c_str());
  std::nth_element(times.begin(), times.begin() + static_cast<ptrdiff_t>(times.size() / 2),
                   times.end());
  return times[times.size() / 2];
}

std::optional<double> RunDbBench(const std::string& directory, const PeerLoad& load) {
  const auto program = FindProgram("db_bench");
  if (!program) return std::nullopt;
  const int seconds = std::max(1, static_cast<int>(std::lround(load.seconds)));
  const Ran ran = RunToEnd(
      {*program, "--benchmarks=fillrandom", "--sync=1",
       absl::StrCat("--db=", directory, "/db_bench"), "--use_existing_db=0", "--key_size=16",
       absl::StrCat("--value_size=", load.payload.size()),
       absl::StrCat("--batch_size=", load.batch), absl::StrCat("--threads=", load.clients),
       absl::StrCat("--duration=", seconds), "--num=100000000", "--compression_type=none"});
  const auto rate = NumberBefore(ran.output, " ops/sec");
  return ran.exit_code == 0 && rate ? rate : Failed("db_bench", ran);
}

std::unique_ptr<Redis> Redis::Start(const std::string& directory) {
  if (!FindProgram("redis-server") || !FindProgram("redis-benchmark")) return nullptr;
  const int port = FreePort();
  auto redis = std::unique_ptr<Redis>(new Redis(directory, port));
  if (WaitUntil({"redis-cli", "-p", absl::StrCat(port), "ping"})) return redis;
  Say("redis-server did not start");
  return nullptr;
}

Redis::Redis(const std::string& directory, int port)
    : port_(port),
      server_({"redis-server", "--port", absl::StrCat(port), "--bind", "127.0.0.1", "--dir",
               directory, "--appendonly", "yes", "--appendfsync", "always", "--save", "",
               "--daemonize", "no", "--logfile", directory + "/redis.log"},
              directory + "/redis.err") {}

std::optional<double> Redis::Run(const PeerLoad& load, int64_t records) const {
  const Ran ran =
      RunToEnd({"redis-benchmark", "-p", absl::StrCat(port_), "-n", absl::StrCat(records), "-c",
                absl::StrCat(load.clients), "-P", absl::StrCat(load.batch), "-q", "XADD", "bench",
                "*", "p", load.payload});
  const auto rate = NumberBefore(ran.output, " requests per second");
  (void)RunToEnd({"redis-cli", "-p", absl::StrCat(port_), "del", "bench"});
  return ran.exit_code == 0 && rate ? rate : Failed("redis-benchmark", ran);
}

std::optional<double> Redis::Add(const PeerLoad& load) {
  // It takes a number of requests and no time: a short run tells how many fill the time.
  const std::string name = absl::StrCat(load.clients, "x", load.batch);
  if (rates_.count(name) == 0) {
    const auto first = Run(load, int64_t{50} * load.clients * load.batch);
    if (!first) return first;
    rates_[name] = *first;
  }
  const int64_t least = int64_t{10} * load.clients * load.batch;
  const auto rate = Run(load, std::max(least, static_cast<int64_t>(rates_[name] * load.seconds)));
  if (rate) rates_[name] = *rate;
  return rate;
}

std::unique_ptr<Postgres> Postgres::Start(const std::string& directory) {
  const auto initdb = FindProgram("initdb", {"/usr/lib/postgresql/15/bin"});
  const std::string programs = "/usr/lib/postgresql/15/bin";
  if (!initdb || access((programs + "/pgbench").c_str(), X_OK) != 0) return nullptr;
  auto postgres =
      std::unique_ptr<Postgres>(new Postgres(directory + "/postgres", programs, FreePort()));
  return postgres->server_ ? std::move(postgres) : nullptr;
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
                  "fsync=on", "-c", "synchronous_commit=on", "-c", "max_connections=100"}),
      directory_ + ".log");
  if (WaitUntil(Psql("CREATE TABLE IF NOT EXISTS records "
                     "(id bigserial, time timestamptz DEFAULT now(), payload text)"))) {
    return;
  }
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

std::optional<double> Postgres::Bench(const PeerLoad& load, const std::string& script,
                                      int records) const {
  const std::string file = directory_ + ".sql";
  std::ofstream(file) << script;
  const int seconds = std::max(1, static_cast<int>(std::lround(load.seconds)));
  const Ran ran = RunToEnd({programs_ + "/pgbench", "-n", "-M", "prepared", "-h", "127.0.0.1", "-p",
                            absl::StrCat(port_), "-U", "bench", "-c", absl::StrCat(load.clients),
                            "-j", "2", "-T", absl::StrCat(seconds), "-f", file, "postgres"});
  const size_t at = ran.output.find("tps = ");
  double rate = 0;
  const bool parsed =
      at != std::string::npos &&
      absl::SimpleAtod(ran.output.substr(at + 6, ran.output.find(' ', at + 6) - at - 6), &rate);
  return ran.exit_code == 0 && parsed ? std::optional(rate * records) : Failed("pgbench", ran);
}

std::optional<double> Postgres::Insert(const PeerLoad& load) {
  return Bench(load, absl::StrCat("INSERT INTO records (payload) VALUES ('", load.payload, "');\n"),
               1);
}

std::optional<double> Postgres::Copy(const PeerLoad& load) {
  const std::string file = absl::StrCat(directory_, "_", load.batch, ".rows");
  std::ofstream rows(file);
  for (int i = 0; i < load.batch; ++i) rows << load.payload << '\n';
  rows.close();
  return Bench(load, absl::StrCat("COPY records (payload) FROM '", file, "';\n"), load.batch);
}

}  // namespace icepie::bench
