// What became of a record in every slice of every domain: Core.TraceRecord.
#ifndef ICEPIE_SERVER_RECORD_TRACER_H_
#define ICEPIE_SERVER_RECORD_TRACER_H_

#include <functional>

#include "icepie/v1/core.pb.h"
#include "server/domain_reader.h"
#include "server/supervisor.h"

namespace icepie::server {

// Asks each domain's live worker, or its standby when that cannot answer, all at once.
// Threads: any; Trace waits for the workers, a few seconds at most.
// Errors: none: what a worker does not say is UNKNOWN, with the cause.
class RecordTracer {
 public:
  RecordTracer(const DomainReader& reader, Supervisor& supervisor)
      : reader_(reader), supervisor_(supervisor) {}

  // One entry for each slice there is, by name. `record` has its stream, position and payload.
  void Trace(const icepie::v1::Record& record, icepie::v1::TraceRecordResponse& response) const;

 private:
  const DomainReader& reader_;
  Supervisor& supervisor_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_RECORD_TRACER_H_
