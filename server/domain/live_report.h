// What the domain manager asks the workers' last reports.
#ifndef ICEPIE_SERVER_DOMAIN_LIVE_REPORT_H_
#define ICEPIE_SERVER_DOMAIN_LIVE_REPORT_H_

#include <cstdint>
#include <functional>
#include <string>

#include "icepie/worker/v1/worker.pb.h"
#include "server/domain/slice_facts.h"
#include "server/supervisor/supervisor.h"

namespace icepie::server {

// The live worker is down, or it reports this epoch and `holds` for the slice.
inline bool LiveHas(const DomainView& view, int64_t epoch, const std::string& slice,
                    const std::function<bool(const icepie::worker::v1::SliceReport&)>& holds) {
  if (!view.live.client) return true;
  if (!view.live.report || view.live.report->epoch() < epoch) return false;
  const auto* report = FindServingReport(view.live.report.get(), slice);
  return report != nullptr && holds(*report);
}

// Who is written down when nobody said who it was.
inline std::string ActorOr(const std::string& actor) { return actor.empty() ? "unknown" : actor; }

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_DOMAIN_LIVE_REPORT_H_
