// What became of a record in every slice of every domain: Core.TraceRecord.
#ifndef ICEPIE_SERVER_RECORD_RECORD_TRACER_H_
#define ICEPIE_SERVER_RECORD_RECORD_TRACER_H_

#include <functional>

#include "core/core.h"
#include "icepie/v1/core.pb.h"
#include "server/domain/domain_reader.h"
#include "server/supervisor/supervisor.h"

namespace icepie::server {

// Asks each domain's live worker, or its standby when that cannot answer, all at once. Of a domain
// at rest the positions of its snapshots tell (trace_at_rest.h) where they can; else its live
// worker is woken, as long as there is room for it. Threads: any; Trace waits for the workers, some
// seconds at most. Errors: none: what a worker does not say is UNKNOWN, with the cause.
class RecordTracer {
 public:
  // `awake_max`: of the domains that may hibernate (HibernationOptions); 0: no limit.
  RecordTracer(const Core& core, const DomainReader& reader, Supervisor& supervisor, int awake_max)
      : core_(core), reader_(reader), supervisor_(supervisor), awake_max_(awake_max) {}

  // One entry for each slice there is, by name. `record` has its stream, position and payload.
  void Trace(const icepie::v1::Record& record, icepie::v1::TraceRecordResponse& response) const;

 private:
  const Core& core_;
  const DomainReader& reader_;
  Supervisor& supervisor_;
  const int awake_max_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_RECORD_RECORD_TRACER_H_
