// Opens a core and appends to it until it is killed, for tests/core/core_crash_test.cc:
//   append_child DIRECTORY THREADS [SEAL_STEP | WRITE_STEP TIME]
// Each thread t appends batches of 5 records to its stream own<t> ({"n":offset}) and one to stream
// shared ({"t":t,"n":batch}): thread 0 under a condition, 1 with request ids, 2 as a producer,
// others plain. What was stored under an identity is sent again after a start, and now and then in
// between; exit 5 when it is not recognised. A thread prints "t end_offset" once a batch is
// acknowledged. With 0 threads it only opens the core, and with SEAL_STEP appends records one by
// one to stream alone ({"n":offset}), as thread 0. It seals very small segments; with SEAL_STEP (a
// number of SealStep) it ends itself there the moment a sealing gets so far, with WRITE_STEP (a
// number of WriteStep) when a commit or a signature gets there for the TIME-th time (from 1). Exit
// 3 and the error on standard error when it does not open.
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/core.h"
#include "tests/core/append_batches.h"

namespace icepie {
namespace {

void Announce(int thread, int64_t end_offset) {
  const std::string line = std::to_string(thread) + " " + std::to_string(end_offset) + "\n";
  // One write, so that lines stay whole whenever the process ends.
  if (::write(STDOUT_FILENO, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    std::_Exit(4);
  }
}

// The last batch of the thread, which ended at `end`, must be known under its identity.
void SendAgain(Core& core, int thread, int64_t end) {
  if (end < kCrashBatchRecords) return;
  AppendBatch batch = CrashBatch(thread, end - kCrashBatchRecords);
  if (!batch.identity) return;
  const auto again = core.AppendAndWait(std::move(batch));
  if (again.ok() && again->replayed && again->streams[0].end_offset == end) return;
  std::fprintf(stderr, "thread %d: %s\n", thread, again.status().ToString().c_str());
  std::_Exit(5);
}

void AppendForEver(Core& core, int thread) {
  int64_t next = core.GetStream("own" + std::to_string(thread))->end_offset;
  SendAgain(core, thread, next);
  while (true) {
    const auto result = core.AppendAndWait(CrashBatch(thread, next));
    if (!result.ok()) {
      std::fprintf(stderr, "%s\n", result.status().ToString().c_str());
      std::_Exit(4);
    }
    next = result->streams[0].end_offset;
    Announce(thread, next);
    if (next % (7 * kCrashBatchRecords) == 0) SendAgain(core, thread, next);
  }
}

// Record by record, to one stream: its segments are far smaller than what they are made of.
void AppendAlone(Core& core) {
  if (!core.CreateStream("alone", PayloadFormat::kJson).ok()) std::_Exit(4);
  int64_t next = core.GetStream("alone")->end_offset;
  while (true) {
    AppendBatch batch;
    batch.records.emplace_back();
    batch.records[0].stream = "alone";
    batch.records[0].payload = "{\"n\":" + std::to_string(next) + "}";
    if (!core.AppendAndWait(std::move(batch)).ok()) std::_Exit(4);
    Announce(0, ++next);
  }
}

SealingOptions SmallSegments(int end_at) {
  SealingOptions sealing;
  sealing.segment_bytes = 16 << 10;
  sealing.hot_bytes_min = 4 << 10;
  sealing.age_min = absl::ZeroDuration();
  sealing.look_interval = absl::Milliseconds(1);
  sealing.on_step = [end_at](SealStep step) {
    if (static_cast<int>(step) == end_at) ::kill(::getpid(), SIGKILL);
    return absl::OkStatus();
  };
  return sealing;
}

void EndAtWriteStep(CoreOptions& options, int step, int time) {
  options.on_write_step = [step, time, seen = std::make_shared<std::atomic<int>>(0)](WriteStep at) {
    if (static_cast<int>(at) == step && ++*seen == time) ::kill(::getpid(), SIGKILL);
  };
}

int Run(CoreOptions options, int threads, bool alone) {
  auto core = Core::Open(options);
  if (!core.ok()) {
    std::fprintf(stderr, "%s\n", std::string(core.status().message()).c_str());
    return 3;
  }
  if (!(*core)->CreateStream("shared", PayloadFormat::kJson).ok()) return 4;
  if (alone) AppendAlone(**core);
  std::vector<std::thread> running;
  for (int t = 0; t < threads; ++t) {
    if (!(*core)->CreateStream("own" + std::to_string(t), PayloadFormat::kJson).ok()) return 4;
    running.emplace_back([&core, t] { AppendForEver(**core, t); });
  }
  for (std::thread& thread : running) thread.join();
  return 0;
}

}  // namespace
}  // namespace icepie

int main(int argc, char** argv) {
  if (argc < 3 || argc > 5) return 2;
  icepie::CoreOptions options;
  options.directory = argv[1];
  options.checkpoint_interval = absl::Milliseconds(1);
  options.sealing = icepie::SmallSegments(argc == 4 ? std::atoi(argv[3]) : -1);
  if (argc == 5) icepie::EndAtWriteStep(options, std::atoi(argv[3]), std::atoi(argv[4]));
  const int threads = std::atoi(argv[2]);
  return icepie::Run(options, threads, /*alone=*/threads == 0 && argc == 4);
}
