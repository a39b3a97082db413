// The plan of a domain's file of which some slices can be planned no more: after an upgrade whose
// planner knows a function differently, say. The others must not stop with them.
#ifndef ICEPIE_SLICES_PLAN_PARTIAL_PLAN_H_
#define ICEPIE_SLICES_PLAN_PARTIAL_PLAN_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "slices/definition/definition.h"
#include "slices/plan/plan.h"

namespace icepie::slices {

// As PlanDomain(), where the file can be planned. Else the plan of those slices that can be planned
// with what they read; what reads one that cannot be planned is left out with it. PlanDomain()'s
// error when there is none, or when it may pass (sql_binding.h): that says nothing about a slice.
//
// Threads: any. It takes as long as PlanDomain() for the file, and again for each slice when that
// fails.
absl::StatusOr<DomainPlan> PlanWhatCanBe(const DomainDef& definition,
                                         const PlanOverrides& overrides = {});

// Why PlanWhatCanBe() left `slice` out: PlanDomain()'s error of it and of what it reads alone. OK
// when it did not, NOT_FOUND when there is no such slice.
absl::Status WhyNotPlanned(const DomainDef& definition, const std::string& slice,
                           const PlanOverrides& overrides = {});

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_PARTIAL_PLAN_H_
