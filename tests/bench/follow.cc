// What it costs to have many followers at the head, on the real daemon: 1, 16 and 64 readers that
// follow one stream while records of 200 bytes are appended to it. The floor is the figure with one
// follower. Followers are in this process, on the same processors, and parse what they get.
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "tests/bench/bench.h"
#include "tests/bench/bench_records.h"
#include "tests/bench/figure.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kBatchRecords = 1000;
constexpr int kRequests = 20;  // different ones, sent over and over
constexpr int kFollowerCounts[] = {1, 16, 64};

// Processor time of the daemon so far.
double CpuSecondsOf(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::string field;
  long ticks = 0;
  for (int i = 1; i <= 15 && file >> field; ++i) {
    if (i >= 14) ticks += std::atol(field.c_str());  // utime, stime
  }
  return static_cast<double>(ticks) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

// Memory that the daemon has and no file has: what readers cost.
int64_t AnonymousBytes(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/status"));
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("RssAnon:", 0) == 0) return std::atoll(line.c_str() + 8) * 1024;
  }
  return 0;
}

std::vector<icepie::v1::AppendRecordsRequest> MakeRequests(const std::string& stream) {
  std::vector<icepie::v1::AppendRecordsRequest> requests(kRequests);
  uint64_t seed = 1;
  for (auto& request : requests) {
    for (int i = 0; i < kBatchRecords; ++i) {
      auto* record = request.add_records();
      record->set_stream(stream);
      record->set_payload(MakeTransfer(seed++));
    }
  }
  return requests;
}

struct Outcome {
  double seconds = 0;
  double cpu_seconds = 0;  // the daemon's
  int64_t memory_bytes = 0;
};

// One follower, to the end of the stream's first `records`.
void Follow(icepie::v1::Core::Stub& core, const std::string& stream, int64_t records,
            std::atomic<int>& waiting) {
  icepie::v1::ReadRecordsRequest request;
  request.add_streams(stream);
  request.set_from_offset(0);
  request.set_end_offset(records);
  request.set_follow(true);
  grpc::ClientContext context;
  const auto reader = core.ReadRecords(&context, request);
  icepie::v1::ReadRecordsResponse response;
  ICEPIE_CHECK(reader->Read(&response));  // caught up with nothing
  ++waiting;
  int64_t received = response.records_size();
  while (reader->Read(&response)) received += response.records_size();
  ICEPIE_CHECK(reader->Finish().ok() && received == records);
}

Outcome RunWith(const testing::DaemonFixture& daemon, const std::string& stream, int followers,
                int64_t records) {
  ICEPIE_CHECK(daemon.CreateStream(stream).ok());
  const auto requests = MakeRequests(stream);
  const auto core = daemon.Core();
  const int64_t memory = AnonymousBytes(daemon.pid());
  std::atomic<int> waiting{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < followers; ++i) {
    threads.emplace_back([&] { Follow(*core, stream, records, waiting); });
  }
  ICEPIE_CHECK(testing::Eventually([&] { return waiting == followers; }, absl::Seconds(60)));
  Outcome outcome;
  const double cpu = CpuSecondsOf(daemon.pid());
  const auto begin = Clock::now();
  for (int64_t sent = 0; sent < records; sent += kBatchRecords) {
    const auto& request = requests[static_cast<size_t>(sent / kBatchRecords % kRequests)];
    icepie::v1::AppendRecordsResponse response;
    ICEPIE_CHECK(
        core->AppendRecords(testing::Within(absl::Seconds(60)).get(), request, &response).ok());
    outcome.memory_bytes = std::max(outcome.memory_bytes, AnonymousBytes(daemon.pid()) - memory);
  }
  for (std::thread& thread : threads) thread.join();
  outcome.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  outcome.cpu_seconds = CpuSecondsOf(daemon.pid()) - cpu;
  return outcome;
}

void RunFollow(int64_t records) {
  testing::DaemonFixture daemon;
  daemon.SetSettings("logging: {level: warn}\n");
  daemon.Start();
  RunWith(daemon, "warm_up", 1, records);                      // buffers and caches get their size
  const Outcome alone = RunWith(daemon, "alone", 0, records);  // what appending costs by itself
  double rate_of_one = 0;
  double cpu_of_one = 0;
  for (const int followers : kFollowerCounts) {
    const Outcome outcome =
        RunWith(daemon, absl::StrCat("followed_by_", followers), followers, records);
    const double delivered = static_cast<double>(records) * followers;
    const double rate = delivered / outcome.seconds;
    const double cpu_ns = (outcome.cpu_seconds - alone.cpu_seconds) * 1e9 / delivered;
    if (followers == 1) {
      rate_of_one = rate;
      cpu_of_one = cpu_ns;
    }
    Print({.name = absl::StrCat("follow.delivered.", followers),
           .value = rate,
           .unit = "records/s",
           .floor = rate_of_one});
    Print({.name = absl::StrCat("follow.daemon_cpu.", followers),
           .value = cpu_ns,
           .unit = "ns/record",
           .floor = cpu_of_one});
    Print({.name = absl::StrCat("follow.memory.", followers),
           .value = static_cast<double>(outcome.memory_bytes / followers),
           .unit = "bytes/follower"});
  }
}

}  // namespace

RunBench AddFollow(CLI::App& command, CommonOptions&) {
  const auto records = std::make_shared<int64_t>(400000);
  command.add_option("--records", *records, "appended before each number of followers")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{kBatchRecords}, int64_t{1000000000}));
  return [records] { RunFollow(*records / kBatchRecords * kBatchRecords); };
}

}  // namespace icepie::bench
