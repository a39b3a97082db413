#include "tests/fault/isolation_check.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tests/fault/fault_domains.h"
#include "tests/fault/weather.h"

namespace icepie::fault {
namespace {

struct Disturbance {
  bool stale = false;
  bool not_live = false;
  bool any() const { return stale || not_live; }
};

Disturbance DisturbanceOf(const ReadCall& read) {
  Disturbance found;
  for (const SliceStand& stand : read.slices) {
    found.stale = found.stale || stand.stale;
    found.not_live = found.not_live || stand.source != "LIVE";
  }
  return found;
}

// The machine had no time shortly before or meanwhile: what is late then is nobody's fault.
bool IsStalled(const CallRecord& record, absl::Time begin, absl::Time end) {
  constexpr absl::Duration kAfter = absl::Seconds(4);
  return std::any_of(record.stalls.begin(), record.stalls.end(), [&](const StallSpan& stall) {
    return stall.begin <= end && stall.end + kAfter >= begin;
  });
}

std::string DescribeDisturbed(const ReadCall& read) {
  std::string text;
  for (const SliceStand& stand : read.slices) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", stand.slice, " by ", stand.source, " ",
                    stand.state, stand.stale ? " stale " : "", stand.stale_reason);
  }
  return text;
}

void CheckAnswers(const CallRecord& record, const CheckOptions& options, Verdict* verdict) {
  const ReadCall* first = nullptr;
  for (const ReadCall& read : record.reads) {
    if (!read.answered || IsStalled(record, read.begin, read.end)) continue;
    const Weather weather = WeatherOf(record, read);
    const Disturbance found = DisturbanceOf(read);
    if (weather == Weather::kCalm) {
      ++verdict->calm_reads;
      if (found.any()) ++verdict->calm_disturbed;
    } else if (weather == Weather::kNeighbour) {
      ++verdict->neighbour_reads;
      if (found.stale) ++verdict->neighbour_stale;
      if (found.not_live) ++verdict->neighbour_not_live;
      if (found.any()) ++verdict->neighbour_disturbed;
      if (found.any() && first == nullptr) first = &read;
    }
  }
  const auto reads = static_cast<double>(verdict->neighbour_reads);
  const double calm = static_cast<double>(verdict->calm_disturbed) /
                      static_cast<double>(std::max<int64_t>(verdict->calm_reads, 1));
  const double allowed =
      options.neighbour_factor * calm * reads +
      std::max(static_cast<double>(options.neighbour_count), options.neighbour_share * reads);
  if (options.shared_machine || static_cast<double>(verdict->neighbour_disturbed) <= allowed)
    return;
  verdict->Break(
      "P2",
      absl::StrFormat("%d of %d answers of domains without a fault are stale or not the "
                      "live worker's, in calm %d of %d; the first: %s",
                      verdict->neighbour_disturbed, verdict->neighbour_reads,
                      verdict->calm_disturbed, verdict->calm_reads, DescribeDisturbed(*first)),
      first->begin);
}

// `whose`: what was called.
void CheckLatency(const std::string& whose, const Latencies& calls, const CheckOptions& options,
                  Verdict* verdict) {
  const auto enough = static_cast<size_t>(options.latency_samples);
  if (calls.calm.size() < enough || calls.neighbour.size() < enough) return;
  const double calm = Percentile(calls.calm, 0.99);
  const double neighbour = Percentile(calls.neighbour, 0.99);
  const double allowed =
      options.latency_factor * calm + options.latency_medians * Percentile(calls.calm, 0.5);
  if (neighbour <= allowed) return;
  verdict->Break("P2",
                 absl::StrFormat("%s have a p99 of %.0f ms, in calm %.0f ms; %.0f ms would pass",
                                 whose, neighbour, calm, allowed),
                 absl::InfiniteFuture());
}

void CheckLatencies(const CallRecord& record, const CheckOptions& options, Verdict* verdict) {
  CallRecord quiet;
  quiet.faults = record.faults;
  for (const ReadCall& read : record.reads) {
    if (!IsStalled(record, read.begin, read.end)) quiet.reads.push_back(read);
  }
  for (const AppendCall& append : record.appends) {
    if (!IsStalled(record, append.begin, append.end)) quiet.appends.push_back(append);
  }
  CheckLatency("reads of domains without a fault", ReadLatencies(quiet), options, verdict);
  CheckLatency("appends beside the faults of domains", AppendLatencies(quiet), options, verdict);
}

// What was not heard was not good: a run that says nothing of neighbours must not pass for one.
void CheckMeasured(const CallRecord& record, const CheckOptions& options, Verdict* verdict) {
  for (const AppendCall& append : record.appends) {
    if (append.acknowledged && !IsStalled(record, append.begin, append.end) &&
        WeatherOf(record, "", append.begin, append.end) == Weather::kNeighbour) {
      ++verdict->neighbour_appends;
    }
  }
  verdict->neighbours_measured = verdict->neighbour_reads >= options.neighbour_least &&
                                 verdict->neighbour_appends >= options.neighbour_least;
  const auto faults =
      std::count_if(record.faults.begin(), record.faults.end(),
                    [](const FaultSpan& fault) { return !fault.domain.empty() && fault.injected; });
  if (options.shared_machine || faults < options.heard_faults) return;
  if (verdict->neighbour_reads + verdict->neighbour_appends == 0) {
    verdict->Break(
        "harness",
        absl::StrCat("no read or append beside any of ", faults,
                     " faults of other domains could be judged: the machine had no time"),
        absl::InfiniteFuture());
  } else if (faults >= options.measured_faults && !verdict->neighbours_measured) {
    verdict->Break(
        "harness",
        absl::StrCat("only ", verdict->neighbour_reads, " reads and ", verdict->neighbour_appends,
                     " appends beside ", faults, " faults of other domains could be judged"),
        absl::InfiniteFuture());
  }
}

bool HadNoTime(const CallRecord& record, const CheckOptions& options, const WorkerSight& before,
               const WorkerSight& now) {
  const bool was_silent = absl::StrContains(now.last_error, "no answer for") ||
                          absl::StrContains(now.last_error, "did nothing for");  // at its start
  return was_silent && (options.shared_machine || IsStalled(record, before.time, now.time));
}

void CheckWorkers(const CallRecord& record, const CheckOptions& options, Verdict* verdict) {
  std::map<std::pair<std::string, std::string>, const WorkerSight*> last;
  for (const WorkerSight& now : record.workers) {
    const WorkerSight* before = std::exchange(last[{now.domain, now.role}], &now);
    if (before == nullptr || before->pid == now.pid ||
        WeatherOf(record, now.domain, before->time, now.time) == Weather::kOwn) {
      continue;
    }
    if (HadNoTime(record, options, *before, now)) {
      ++verdict->neighbour_silences;
      continue;
    }
    ++verdict->neighbour_restarts;
    verdict->Break("P2",
                   absl::StrCat("the ", now.role, " worker of ", now.domain,
                                ", which had no fault, was process ", before->pid, " and is ",
                                now.pid, " (", now.last_error, ")"),
                   now.time);
  }
}

}  // namespace

void CheckIsolation(const CallRecord& record, const CheckOptions& options, Verdict* verdict) {
  CheckAnswers(record, options, verdict);
  CheckMeasured(record, options, verdict);
  if (!options.shared_machine) CheckLatencies(record, options, verdict);
  CheckWorkers(record, options, verdict);
}

}  // namespace icepie::fault
