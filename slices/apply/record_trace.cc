#include "slices/apply/record_trace.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "slices/reading/json_scan.h"
#include "slices/reading/payload_scan.h"
#include "slices/reading/where_filter.h"

namespace icepie::slices {
namespace {

// Of more than one way into a slice, the one that brought it furthest counts.
int Rank(RecordFate fate) {
  switch (fate) {
    case RecordFate::kApplied:
      return 5;
    case RecordFate::kPending:
      return 4;
    case RecordFate::kUnknown:
      return 3;
    case RecordFate::kQuarantined:
      return 2;
    case RecordFate::kFiltered:
      return 1;
    case RecordFate::kNotRead:
      break;
  }
  return 0;
}

bool Filtered(const SourceDef& source, const std::string& payload) {
  JsonScanner scanner;
  WhereFilter where(source.where, scanner);
  return PayloadScan(source.stream, scanner).Scan(payload) &&
         where.Judge() == WhereFilter::Verdict::kFiltered;
}

class Tracer {
 public:
  Tracer(const std::vector<RecordStanding>& standings, const PlanLookup& plan_of,
         const TracedRecord& record)
      : plan_of_(plan_of), record_(record) {
    for (const RecordStanding& standing : standings) standings_[standing.slice] = &standing;
  }

  const TracedSlice& Trace(const std::string& slice) {
    const auto known = traced_.find(slice);
    if (known != traced_.end()) return known->second;
    TracedSlice traced;
    const auto standing = standings_.find(slice);
    if (standing == standings_.end()) {
      traced.unknown = absl::StrCat("slice ", slice, " is not ready");
    } else {
      traced = Decide(*standing->second);
    }
    return traced_[slice] = std::move(traced);
  }

 private:
  static TracedSlice Unknown(const RecordStanding& standing, absl::string_view why) {
    TracedSlice traced;
    traced.standing = standing;
    traced.unknown = std::string(why);
    return traced;
  }

  TracedSlice Decide(const RecordStanding& standing) {
    if (!standing.unknown.empty()) return Unknown(standing, standing.unknown);
    const auto plan = plan_of_(standing.slice, standing.generation);
    if (!plan.ok()) return Unknown(standing, plan.status().message());
    const SlicePlan* slice = (*plan)->Find(standing.slice);
    if (slice == nullptr) return Unknown(standing, "its definition does not hold it");
    TracedSlice traced;
    traced.standing = standing;
    traced.fate = DirectFate((*plan)->definition, *slice);
    for (const std::string& upstream : slice->upstream) {  // plans have no cycles
      const TracedSlice& other = Trace(upstream);
      if (Rank(other.fate) <= Rank(traced.fate)) continue;
      traced.fate = other.fate;
      traced.via = upstream;
      traced.unknown = other.unknown;
    }
    if (traced.fate == RecordFate::kNotRead) return traced;
    if (standing.quarantined) {
      traced.fate = RecordFate::kQuarantined;
      traced.via.clear();
    } else if (record_.position >= standing.applied_position) {
      traced.fate = RecordFate::kPending;
      traced.via.clear();
    }
    return traced;
  }

  // By the slice's own sources, as if it were applied.
  RecordFate DirectFate(const DomainDef& definition, const SlicePlan& slice) const {
    RecordFate fate = RecordFate::kNotRead;
    for (const SourceUse& use : slice.sources) {
      const SourceDef* source = definition.FindSource(use.source);
      if (source == nullptr || source->stream != record_.stream) continue;
      if (!Filtered(*source, record_.payload)) return RecordFate::kApplied;
      fate = RecordFate::kFiltered;
    }
    return fate;
  }

  const PlanLookup& plan_of_;
  const TracedRecord& record_;
  std::map<std::string, const RecordStanding*> standings_;
  std::map<std::string, TracedSlice> traced_;
};

}  // namespace

std::vector<TracedSlice> TraceRecord(const std::vector<RecordStanding>& standings,
                                     const PlanLookup& plan_of, const TracedRecord& record) {
  Tracer tracer(standings, plan_of, record);
  std::vector<TracedSlice> traced;
  for (const RecordStanding& standing : standings) traced.push_back(tracer.Trace(standing.slice));
  return traced;
}

}  // namespace icepie::slices
