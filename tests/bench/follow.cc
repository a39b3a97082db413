// What it costs to have many followers at the head, on the real daemon: 1, 16 and 64 readers that
// follow one stream while records of 200 bytes are appended to it. One JSON object a line,
// {"name","value","unit"[,"ratio"]}; the ratio is against one follower. Followers are in this
// process, on the same processors, and parse what they get.
//   icepie-bench-follow [RECORDS]
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "tests/bench/append_load.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kBatchRecords = 1000;
constexpr int kRequests = 20;  // different ones, sent over and over
constexpr int kFollowerCounts[] = {1, 16, 64};

// Processor time of the daemon so far.
double CpuSeconds(pid_t pid) {
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
      record->set_payload(MakePayload(RecordKind::kTransfer, seed++));
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
  const double cpu = CpuSeconds(daemon.pid());
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
  outcome.cpu_seconds = CpuSeconds(daemon.pid()) - cpu;
  return outcome;
}

void Print(const std::string& name, int followers, double value, const char* unit, double one) {
  std::printf("{\"name\":\"follow.%s.%d\",\"value\":%.0f,\"unit\":\"%s\",\"ratio\":%.2f}\n",
              name.c_str(), followers, value, unit, value / one);
  std::fflush(stdout);
}

void Run(int64_t records) {
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
    Print("delivered", followers, rate, "records/s", rate_of_one);
    Print("daemon_cpu", followers, cpu_ns, "ns/record", cpu_of_one);
    std::printf("{\"name\":\"follow.memory.%d\",\"value\":%lld,\"unit\":\"bytes/follower\"}\n",
                followers, static_cast<long long>(outcome.memory_bytes / followers));
  }
}

}  // namespace
}  // namespace icepie::bench

int main(int argc, char** argv) {
  icepie::bench::Run(argc > 1 ? std::atoll(argv[1]) : 400000);
  return 0;
}
