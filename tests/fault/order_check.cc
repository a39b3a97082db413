#include "tests/fault/order_check.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tests/fault/fault_domains.h"
#include "tests/fault/weather.h"

namespace icepie::fault {
namespace {

struct Shown {
  const ReadCall* read = nullptr;
  const SliceStand* stand = nullptr;
};

// The answers that one reader had from one slice, in their order.
using Sequence = std::vector<Shown>;

std::vector<Sequence> SequencesOf(const CallRecord& record) {
  std::map<std::pair<int, std::string>, Sequence> all;
  for (const ReadCall& read : record.reads) {
    if (!read.answered) continue;
    for (const SliceStand& stand : read.slices) {
      all[{read.reader, stand.slice}].push_back({&read, &stand});
    }
  }
  std::vector<Sequence> out;
  for (auto& [key, sequence] : all) {
    std::stable_sort(sequence.begin(), sequence.end(),
                     [](const Shown& a, const Shown& b) { return a.read->begin < b.read->begin; });
    out.push_back(std::move(sequence));
  }
  return out;
}

bool IsLive(const Shown& shown) { return shown.stand->source == "LIVE"; }

std::string Describe(const Shown& shown) {
  const SliceStand& stand = *shown.stand;
  return absl::StrCat(stand.applied_position, " (generation ", stand.generation, " by ",
                      stand.source, stand.stale ? ", stale)" : ", fresh)");
}

class OrderCheck {
 public:
  OrderCheck(const CallRecord& record, const CheckOptions& options, Verdict* verdict)
      : record_(record), options_(options), verdict_(*verdict) {}

  void Run() {
    for (const Sequence& sequence : SequencesOf(record_)) {
      CheckFresh(sequence);
      // A worker that is silent for want of time is replaced by one that starts from a snapshot.
      if (!options_.shared_machine) CheckLive(sequence);
      CountFlaps(sequence);
    }
    const double allowed =
        std::max(1.0, options_.flaps_percent / 100 * static_cast<double>(record_.faults.size()));
    if (options_.shared_machine || static_cast<double>(verdict_.flaps) <= allowed) return;
    verdict_.Break(
        "P3",
        absl::StrFormat("%d times back to the standby after the live worker had answered "
                        "again; the last: %s",
                        verdict_.flaps, last_flap_),
        last_flap_time_);
  }

 private:
  void WentBack(const Shown& before, const Shown& now, const std::string& whose) {
    ++verdict_.went_back;
    verdict_.Break(
        "P4",
        absl::StrCat(whose, " of ", now.stand->slice, " goes back from ", Describe(before), " to ",
                     Describe(now), " for reader ", now.read->reader),
        now.read->begin);
  }

  void CheckFresh(const Sequence& sequence) {
    const Shown* newest = nullptr;
    for (const Shown& now : sequence) {
      if (now.stand->stale) continue;
      if (newest != nullptr && now.stand->applied_position < newest->stand->applied_position) {
        WentBack(*newest, now, "the fresh answer");
      } else {
        newest = &now;
      }
    }
  }

  // A fresh one that goes back is CheckFresh's.
  void CheckLive(const Sequence& sequence) {
    const Shown* last = nullptr;
    for (const Shown& now : sequence) {
      if (!IsLive(now)) continue;
      if (last != nullptr && (last->stand->stale || now.stand->stale) &&
          last->stand->generation == now.stand->generation &&
          now.stand->applied_position < last->stand->applied_position &&
          WeatherOf(record_, DomainOf(now), last->read->begin, now.read->end) != Weather::kOwn) {
        WentBack(*last, now, "the live answer");
      }
      last = &now;
    }
  }

  static const std::string& DomainOf(const Shown& shown) {
    return Questions()[static_cast<size_t>(shown.read->question)].domain;
  }

  // One way back is due to each fault, whose effect may show late; none once it is recovered from.
  void CountFlaps(const Sequence& sequence) {
    std::set<int> due;  // faults that had theirs
    for (size_t i = 1; i < sequence.size(); ++i) {
      const Shown& before = sequence[i - 1];
      const Shown& now = sequence[i];
      if (!IsLive(before) || IsLive(now)) continue;
      if (IsBeingDone(DomainOf(now), before.read->begin, now.read->end)) continue;
      const FaultSpan* fault = LastBefore(DomainOf(now), before.read->begin);
      const bool recovering = fault != nullptr && now.read->begin <= fault->end;
      if (recovering && due.insert(fault->number).second) continue;
      ++verdict_.flaps;
      last_flap_ = absl::StrCat(now.stand->slice, " at ", Describe(now), " ",
                                now.stand->stale_reason, " for reader ", now.read->reader);
      last_flap_time_ = now.read->begin;
    }
  }

  // Some cause was at work in the domain meanwhile.
  bool IsBeingDone(const std::string& domain, absl::Time begin, absl::Time end) const {
    return std::any_of(record_.faults.begin(), record_.faults.end(), [&](const FaultSpan& fault) {
      return (fault.domain.empty() || fault.domain == domain) && fault.begin <= end &&
             fault.released >= begin;
    });
  }

  // The domain's newest whose cause was gone by then.
  const FaultSpan* LastBefore(const std::string& domain, absl::Time time) const {
    const FaultSpan* newest = nullptr;
    for (const FaultSpan& fault : record_.faults) {
      if (!fault.domain.empty() && fault.domain != domain) continue;
      if (fault.released < time) newest = &fault;
    }
    return newest;
  }

  const CallRecord& record_;
  const CheckOptions& options_;
  Verdict& verdict_;
  std::string last_flap_;
  absl::Time last_flap_time_;
};

}  // namespace

void CheckOrder(const CallRecord& record, const CheckOptions& options, Verdict* verdict) {
  OrderCheck(record, options, verdict).Run();
}

}  // namespace icepie::fault
