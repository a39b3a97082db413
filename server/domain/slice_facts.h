// What is said about a slice: made from what the catalog wants, what its workers last reported and
// which of them answered. Pure functions, so that every combination can be tested.
#ifndef ICEPIE_SERVER_DOMAIN_SLICE_FACTS_H_
#define ICEPIE_SERVER_DOMAIN_SLICE_FACTS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "icepie/v1/admin.pb.h"
#include "icepie/v1/slices.pb.h"
#include "icepie/worker/v1/worker.pb.h"
#include "server/domain/catalog.h"
#include "server/supervisor/supervisor.h"

namespace icepie::server {

// All that is known about one domain at one moment.
struct DomainFacts {
  const CatalogDomain* domain = nullptr;
  DomainView workers;
  int64_t head_position = 0;
  absl::Time now;
  // Whether `stream` has a record at or beyond a position; null: every record may be of every
  // stream.
  std::function<bool(const std::string& stream, int64_t position)> has_beyond;
  // For how long, at least, it has had one; null: nobody knows.
  std::function<absl::Duration(const std::string& stream, int64_t position)> beyond_for;
  // The ingest time of the first one; InfiniteFuture, or null: nobody knows.
  std::function<absl::Time(const std::string& stream, int64_t position)> oldest_beyond;
};

// A record that concerns the slice, directly or through slices that it reads, stands at or beyond
// `position` in the core.
bool HasUnseen(const DomainFacts& facts, const std::string& slice, int64_t position);

// The report of the generation that answers for `slice`; null when there is none.
const icepie::worker::v1::SliceReport* FindServingReport(
    const icepie::worker::v1::WorkerReport* report, const std::string& slice);

// The waiver of the expectation that is in force at `now`; null: none.
const icepie::v1::ExpectationWaiver* FindWaiver(const icepie::catalog::v1::SliceEntry& slice,
                                                const std::string& expectation, absl::Time now);

// What the answer that `source` gave from `answered` says about itself. The live worker's own state
// tells whether it is stale, unless it says RUNNING while records that concern the slice have been
// in the core for longer than a running slice takes: it is busy with one batch, or does not get
// them, and the slice lags. An answer of the standby is stale unless nothing is missing from it;
// one from the past, which was asked for, is not. `age`: of what `answered` says.
icepie::v1::SliceMeta MakeSliceMeta(const DomainFacts& facts,
                                    const icepie::worker::v1::SliceReport& answered,
                                    icepie::v1::Source source,
                                    absl::Duration age = absl::ZeroDuration());

// FAILED_PRECONDITION/STALENESS_EXCEEDED when the slice's file says that an answer that is stale
// for so long is none (`max_stale`).
absl::Status CheckMaxStale(const CatalogDomain& domain, const icepie::v1::SliceMeta& meta,
                           absl::Time now);

// The slice as GetSlice and ListSlices show it, also while its workers are down.
icepie::v1::Slice DescribeSlice(const DomainFacts& facts,
                                const icepie::catalog::v1::SliceEntry& slice);

// Its history, newest first.
icepie::v1::ListGenerationsResponse DescribeGenerations(
    const DomainFacts& facts, const icepie::catalog::v1::SliceEntry& slice);

// A slice whose entry is damaged, or whose domain is held: what its standby says of it, held since
// the damage was found.
icepie::v1::Slice DescribeHeldSlice(const DomainFacts& facts, const std::string& slice);

// Slices that a running worker still has and the catalog no longer: they have left the file.
std::vector<std::string> LeavingSlices(const DomainFacts& facts);

// A slice of a domain that is deleted, or one that has left its file: DELETING since then.
icepie::v1::Slice DescribeLeavingSlice(const DomainFacts& facts, const std::string& slice);

// A question about the slice would be answered now, fresh or stale.
bool Answers(const DomainView& workers, const std::string& slice);

// The live worker is up and has the slice ready.
bool LiveAnswers(const WorkerView& live, const std::string& slice);

// 0 for a state that needs somebody, higher for better ones: for lists with the unhealthy first.
int HealthRank(icepie::v1::SliceState state);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_DOMAIN_SLICE_FACTS_H_
