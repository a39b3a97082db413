// Between icepie.worker.v1 and the engine's own types.
#ifndef ICEPIE_SERVER_WORKER_CONVERT_H_
#define ICEPIE_SERVER_WORKER_CONVERT_H_

#include <string>

#include "absl/status/statusor.h"
#include "icepie/worker/v1/worker.pb.h"
#include "slices/apply/engine_types.h"
#include "slices/apply/record_trace.h"
#include "slices/plan/plan.h"

namespace icepie::server {

slices::Assignment FromProto(const icepie::worker::v1::Assignment& proto);

// INVALID_ARGUMENT/PARAMETER_INVALID for a question that is neither SQL nor a Select, an unknown
// operator, or a value without a kind.
absl::StatusOr<slices::Question> FromProto(const icepie::worker::v1::WorkerQueryRequest& proto);

void ToProto(const slices::EngineReport& report, icepie::worker::v1::WorkerReport* proto);
void ToProto(const slices::Answer& answer, icepie::worker::v1::WorkerQueryResponse::Header* proto);
void ToProto(const slices::QuarantinePage& page, icepie::v1::ListQuarantinedRecordsResponse* proto);
void ToProto(const slices::RecordJudgement& judgement, icepie::v1::RecordJudgement* proto);
void ToProto(const slices::TracedSlice& slice, icepie::v1::SliceTrace* proto);
void ToProto(const slices::DomainPlan& plan, icepie::worker::v1::PlanDomainResponse* proto);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_WORKER_CONVERT_H_
