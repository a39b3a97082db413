#include "cli/top_sample.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "cli/format.h"
#include "cli/status_text.h"

namespace icepie::cli {
namespace {

using icepie::v1::ServerStatus;
using icepie::v1::Slice;
using icepie::v1::WorkerStatus;

// A counter may begin anew: with another generation, or another process.
double Rate(int64_t before, int64_t now, absl::Duration span) {
  if (span <= absl::ZeroDuration()) return 0;
  return std::max(0.0, static_cast<double>(now - before) / absl::ToDoubleSeconds(span));
}

TopSlice MakeSlice(const Slice* before, const Slice& now, absl::Duration span) {
  TopSlice out;
  out.name = now.name();
  out.state = icepie::v1::SliceState_Name(now.state());
  out.healthy = IsHealthy(now);
  if (now.meta().has_lag_time()) out.lag = ToDuration(now.meta().lag_time());
  out.lag_records = now.meta().lag_records();
  if (before != nullptr && before->meta().generation() == now.meta().generation()) {
    out.applied_per_second = Rate(before->counts().input(), now.counts().input(), span);
  }
  out.queries_per_second = now.queries().per_second();
  out.p99_us = now.queries().p99_us();
  out.quarantined = now.meta().quarantined_count();
  return out;
}

TopWorker MakeWorker(const WorkerStatus* before, const WorkerStatus& now, absl::Duration span) {
  TopWorker out;
  out.domain = now.domain();
  out.role = now.role();
  out.state = now.state();
  out.pid = now.pid();
  out.restarts = now.restarts();
  out.resident_bytes = now.resident_bytes();
  if (before != nullptr && before->pid() == now.pid() && span > absl::ZeroDuration()) {
    const absl::Duration used = ToDuration(now.cpu_time()) - ToDuration(before->cpu_time());
    out.cpu_percent = std::max(0.0, 100 * absl::FDivDuration(used, span));
  }
  return out;
}

std::string KeyOf(const WorkerStatus& worker) {
  return worker.domain() + "/" + worker.role() + "/" + std::to_string(worker.pid());
}

}  // namespace

TopSample MakeTopSample(const ServerStatus& before, const ServerStatus& now, absl::Duration span,
                        absl::Time time) {
  TopSample sample;
  sample.time = time;
  sample.core = CoreText(now);
  sample.states = StatesText(now);
  sample.core_is_well = IsCoreWell(now);
  sample.head_position = now.head_position();
  sample.appended_per_second = Rate(before.head_position(), now.head_position(), span);
  std::map<std::string, const Slice*> slices;
  for (const Slice& slice : before.slices()) slices[slice.name()] = &slice;
  for (const Slice& slice : now.slices()) {
    sample.slices.push_back(MakeSlice(slices[slice.name()], slice, span));
  }
  std::map<std::string, const WorkerStatus*> workers;
  for (const WorkerStatus& worker : before.workers()) workers[KeyOf(worker)] = &worker;
  for (const WorkerStatus& worker : now.workers()) {
    sample.workers.push_back(MakeWorker(workers[KeyOf(worker)], worker, span));
  }
  return sample;
}

std::string TopJson(const TopSample& sample) {
  nlohmann::json slices = nlohmann::json::array();
  for (const TopSlice& slice : sample.slices) {
    slices.push_back({{"name", slice.name},
                      {"state", slice.state},
                      {"lag_seconds", absl::ToDoubleSeconds(slice.lag)},
                      {"lag_records", slice.lag_records},
                      {"applied_per_second", slice.applied_per_second},
                      {"queries_per_second", slice.queries_per_second},
                      {"p99_us", slice.p99_us},
                      {"quarantined", slice.quarantined}});
  }
  nlohmann::json workers = nlohmann::json::array();
  for (const TopWorker& worker : sample.workers) {
    workers.push_back({{"domain", worker.domain},
                       {"role", worker.role},
                       {"state", worker.state},
                       {"pid", worker.pid},
                       {"restarts", worker.restarts},
                       {"resident_bytes", worker.resident_bytes},
                       {"cpu_percent", worker.cpu_percent}});
  }
  const nlohmann::json all = {
      {"time", absl::FormatTime(absl::RFC3339_full, sample.time, absl::UTCTimeZone())},
      {"core", sample.core},
      {"head_position", sample.head_position},
      {"appended_per_second", sample.appended_per_second},
      {"slices", slices},
      {"workers", workers}};
  return all.dump() + "\n";
}

void SortSlices(TopSort sort, std::vector<TopSlice>* slices) {
  const auto key = [sort](const TopSlice& slice) -> double {
    switch (sort) {
      case TopSort::kHealth:
        return slice.healthy ? 1 : 0;
      case TopSort::kName:
        return 0;
      case TopSort::kLag:
        return -absl::ToDoubleSeconds(slice.lag);
      case TopSort::kApplied:
        return -slice.applied_per_second;
      case TopSort::kQueries:
        return -slice.queries_per_second;
      case TopSort::kP99:
        return -static_cast<double>(slice.p99_us);
    }
    return 0;
  };
  std::stable_sort(slices->begin(), slices->end(), [&](const TopSlice& a, const TopSlice& b) {
    const double key_a = key(a);
    const double key_b = key(b);
    return std::tie(key_a, a.name) < std::tie(key_b, b.name);
  });
}

}  // namespace icepie::cli
