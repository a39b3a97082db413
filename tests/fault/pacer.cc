#include "tests/fault/pacer.h"

#include <sys/resource.h>
#include <unistd.h>

#include "absl/time/clock.h"

namespace icepie::fault {
namespace {

constexpr absl::Duration kBeat = absl::Milliseconds(50);
constexpr absl::Duration kStall = absl::Milliseconds(300);
constexpr int kNice = 10;  // as a worker's own threads of low priority

}  // namespace

Pacer::Pacer() : thread_([this] { Run(); }) {}

std::vector<StallSpan> Pacer::Stop() {
  stopping_ = true;
  if (thread_.joinable()) thread_.join();
  return stalls_;
}

void Pacer::Run() {
  setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kNice);  // this thread alone
  while (!stopping_) {
    const absl::Time begin = absl::Now();
    std::this_thread::sleep_for(absl::ToChronoMicroseconds(kBeat));
    const absl::Time end = absl::Now();
    if (end - begin > kBeat + kStall) stalls_.push_back({begin, end});
  }
}

}  // namespace icepie::fault
