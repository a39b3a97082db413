// How many bad records a slice may pass over.
#ifndef ICEPIE_SLICES_APPLY_QUARANTINE_BUDGET_H_
#define ICEPIE_SLICES_APPLY_QUARANTINE_BUDGET_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "slices/apply/engine_types.h"
#include "slices/definition/definition.h"

namespace icepie::slices {

// The first of `bad` with which the window that ends there has more bad records than the budget
// allows, after the records `before`, which are in quarantine already; both in position order.
// Acknowledged ones do not count. nullopt: none is.
std::optional<size_t> FirstOverWindow(const QuarantineBudget& budget,
                                      const PositionRanges& acknowledged,
                                      const std::vector<QuarantinedRecord>& before,
                                      const std::vector<QuarantinedRecord>& bad);

// The first of `bad` that is not acknowledged after `room` others that are not.
std::optional<size_t> FirstBeyond(int64_t room, const PositionRanges& acknowledged,
                                  const std::vector<QuarantinedRecord>& bad);

int64_t CountUnacknowledged(const PositionRanges& acknowledged,
                            const std::vector<QuarantinedRecord>& records);

// "transfers[17] at position 81 (WRONG_TYPE in column amount)".
std::string PlaceOfRecord(const QuarantinedRecord& record);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_APPLY_QUARANTINE_BUDGET_H_
