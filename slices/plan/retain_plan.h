// `retain`: rows whose time column lies further back than so long before the newest ingest time are
// no part of the slice. The horizon depends on the position only:
//
//   horizon = __progress.applied_time_us - retain.span     newest ingest time below the position,
//   of
//                                                          the streams that it reads, also by way
//                                                          of other slices
//   __unretained                                           the SQL's rows
//   __result                                               those that are not behind it: exact,
//                                                          whatever is stored
//   __late(records)                                        of the last batch, as they came; they
//                                                          count as filtered. Not there where one
//                                                          might change a row that shows, or
//                                                          cannot be told
//
// Where groups or rows that are behind the horizon can never matter again, they are deleted now and
// then. The horizon never goes back, so what has gone does not return, and it does not matter when
// it is deleted. Its rows go without a batch that touches them: a slice with `retain` hands out no
// changes.
#ifndef ICEPIE_SLICES_PLAN_RETAIN_PLAN_H_
#define ICEPIE_SLICES_PLAN_RETAIN_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "slices/definition/definition.h"
#include "slices/plan/plan.h"
#include "slices/plan/strategy_plan.h"

namespace icepie::slices {

// INVALID_ARGUMENT when the column is not there or is no time.
absl::Status CheckRetain(const RetainDef& retain, const std::vector<OutputColumn>& columns);

// The condition that `expression`, of one of the types that CheckRetain takes, is behind the
// horizon of a record of which `time` is the ingest time (TIMESTAMPTZ). NULL when it is NULL.
std::string IsLate(const RetainDef& retain, const std::string& expression, const std::string& type,
                   const std::string& time);

// Filters the result of `statements` and tells what deletes what is behind the horizon.
SlicePlan::Retained AddRetain(const RetainDef& retain, const std::vector<OutputColumn>& columns,
                              SliceStatements& statements);

// How far the horizon has to have moved before it is worth deleting again.
int64_t LetGoStepMicros(int64_t span_us);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_RETAIN_PLAN_H_
