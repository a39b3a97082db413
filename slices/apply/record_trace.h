// What became of one record in every slice of a domain.
//
// A slice's own position and quarantine say whether it took the record; whether the sources'
// `where` dropped it is decided by the same code that decides it while applying.
#ifndef ICEPIE_SLICES_APPLY_RECORD_TRACE_H_
#define ICEPIE_SLICES_APPLY_RECORD_TRACE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "slices/apply/engine_types.h"
#include "slices/plan/plan.h"

namespace icepie::slices {

// The numbers are those of icepie.v1.RecordFate.
enum class RecordFate {
  kPending = 1,      // the slice will see it
  kApplied = 2,      // its source took it; the slice's SQL has seen it
  kFiltered = 3,     // the source's `where` dropped it
  kQuarantined = 4,  // it could not be taken
  kNotRead = 5,      // neither the slice nor a slice that it reads reads the stream
  kUnknown = 6,
};

// A slice as its state stood at one moment.
struct RecordStanding {
  std::string slice;
  int64_t generation = 0;
  int64_t applied_position = 0;
  std::optional<QuarantinedRecord> quarantined;  // the record asked for
  std::string unknown;                           // why the state could not be read
};

struct TracedRecord {
  std::string stream;
  int64_t position = 0;
  std::string payload;
};

struct TracedSlice {
  RecordStanding standing;
  RecordFate fate = RecordFate::kUnknown;
  std::string via;      // the slice that it reads and that decided; empty: its own sources
  std::string unknown;  // why
};

// The plan of a slice's generation.
using PlanLookup = std::function<absl::StatusOr<std::shared_ptr<const DomainPlan>>(
    const std::string& slice, int64_t generation)>;

// One entry for each standing.
std::vector<TracedSlice> TraceRecord(const std::vector<RecordStanding>& standings,
                                     const PlanLookup& plan_of, const TracedRecord& record);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_APPLY_RECORD_TRACE_H_
