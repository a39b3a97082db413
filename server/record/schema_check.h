// Whether what a domain file reads of protobuf streams is in their messages. Of JSON streams nobody
// knows.
#ifndef ICEPIE_SERVER_RECORD_SCHEMA_CHECK_H_
#define ICEPIE_SERVER_RECORD_SCHEMA_CHECK_H_

#include <string>

#include "absl/status/status.h"
#include "core/core.h"
#include "icepie/worker/v1/worker.pb.h"

namespace icepie::server {

// INVALID_ARGUMENT/DEFINITION_INVALID with file, line, column and the fields near it, one violation
// each, for paths that name no field. Streams that are not there are passed over.
absl::Status CheckReadPaths(const Core& core, const icepie::worker::v1::PlanDomainResponse& plan,
                            const std::string& file_name);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_RECORD_SCHEMA_CHECK_H_
