#include "server/admin/slice_remedies.h"

#include <algorithm>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "core/base/status.h"
#include "server/admin/admin_reason.h"
#include "server/base/proto_time.h"
#include "server/domain/done_requests.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;
namespace cv1 = icepie::catalog::v1;
using Operations = std::vector<Catalog::Operation>;

// Names of the slice's expectations: in the current file and in the generation that serves.
std::set<std::string> ExpectationNames(const CatalogDomain& domain, const cv1::SliceEntry& slice) {
  std::set<std::string> names;
  for (const auto& definition : domain.entry.definitions()) {
    if (definition.name() != slice.name()) continue;
    names.insert(definition.expectations().begin(), definition.expectations().end());
  }
  if (const auto* serving = FindGeneration(slice, slice.serving_generation())) {
    names.insert(serving->definition().expectations().begin(),
                 serving->definition().expectations().end());
  }
  return names;
}

absl::Status ExpectationNotFound(const std::string& slice, const std::string& expectation,
                                 const std::set<std::string>& names) {
  return MakeError(
      absl::StatusCode::kNotFound,
      absl::StrCat("slice ", slice, " has no expectation \"", expectation, "\" (",
                   names.empty() ? "it has none" : "have: ", absl::StrJoin(names, ", "), ")"),
      "EXPECTATION_NOT_FOUND", {{"expectation", expectation}});
}

void DropWaiver(cv1::SliceEntry& slice, const std::string& expectation) {
  auto& waivers = *slice.mutable_waivers();
  waivers.erase(
      std::remove_if(waivers.begin(), waivers.end(),
                     [&](const auto& waiver) { return waiver.expectation() == expectation; }),
      waivers.end());
}

v1::ExpectationWaiver MakeWaiver(const v1::WaiveExpectationRequest& request) {
  v1::ExpectationWaiver waiver;
  waiver.set_expectation(request.expectation());
  waiver.set_reason(request.reason());
  waiver.set_actor(request.actor().empty() ? "unknown" : request.actor());
  *waiver.mutable_create_time() = ToProto(absl::Now());
  if (request.has_until()) *waiver.mutable_until() = request.until();
  return waiver;
}

}  // namespace

SliceRemedies::SliceRemedies(Catalog& catalog, Supervisor& supervisor, DomainManager& manager,
                             SliceMemory& memory)
    : catalog_(catalog),
      supervisor_(supervisor),
      manager_(manager),
      reader_(manager.reader()),
      memory_(memory) {}

absl::StatusOr<v1::Slice> SliceRemedies::TellWorkers(const SliceName& name) {
  const int64_t epoch = manager_.Configure(name.domain);
  supervisor_.WaitFor(name.domain, Supervisor::kTakenOnTimeout, [&](const DomainView& view) {
    if (!view.live.client) return true;
    if (!view.live.report || view.live.report->epoch() < epoch) return false;
    const auto* report = FindServingReport(view.live.report.get(), name.slice);
    return report != nullptr && report->state() != v1::HELD;
  });
  return reader_.GetSlice(absl::StrCat(name.domain, ".", name.slice));
}

absl::StatusOr<v1::ListExpectationResultsResponse> SliceRemedies::ExpectationResults(
    const v1::ListExpectationResultsRequest& request) const {
  ICEPIE_ASSIGN_OR_RETURN(const v1::Slice slice, reader_.GetSliceToChange(request.name()));
  v1::ListExpectationResultsResponse response;
  *response.mutable_results() = slice.expectations();
  return response;
}

absl::StatusOr<v1::Slice> SliceRemedies::ClearError(const v1::ClearSliceErrorRequest& request,
                                                    AdminAction& action) {
  ICEPIE_RETURN_IF_ERROR(CheckReason(request.reason(), false));
  ICEPIE_ASSIGN_OR_RETURN(const v1::Slice slice, reader_.GetSliceToChange(request.name()));
  const v1::SliceState state = slice.state();
  if (state == v1::FAULTED || state == v1::HELD || state == v1::BLOCKED) {
    return MakeError(absl::StatusCode::kFailedPrecondition,
                     absl::StrCat(request.name(), " is ", v1::SliceState_Name(state), " by ",
                                  slice.last_error().reason(),
                                  "; its error can be cleared once the slice goes on"),
                     "STILL_FAILING", {{"slice", request.name()}});
  }
  ICEPIE_RETURN_IF_ERROR(action.Begin());
  memory_.ClearError(request.name(), absl::Now());
  return reader_.GetSlice(request.name());
}

absl::StatusOr<v1::Slice> SliceRemedies::Waive(const v1::WaiveExpectationRequest& request,
                                               AdminAction& action) {
  ICEPIE_ASSIGN_OR_RETURN(const SliceName parts, ParseSliceName(request.name()));
  ICEPIE_ASSIGN_OR_RETURN(const auto current, reader_.Find(parts.domain));
  ICEPIE_ASSIGN_OR_RETURN(const auto* entry, reader_.FindSlice(*current, parts.slice));
  const std::string digest = action.RequestDigest();
  if (IsDone(*entry, digest, absl::Now())) return TellWorkers(parts);
  ICEPIE_RETURN_IF_ERROR(CheckReason(request.reason(), !request.end()));
  const std::set<std::string> names = ExpectationNames(*current, *entry);
  if (names.count(request.expectation()) == 0 && !request.end()) {
    return ExpectationNotFound(request.name(), request.expectation(), names);
  }
  if (request.end() && FindWaiver(*entry, request.expectation(), absl::InfinitePast()) == nullptr) {
    return MakeError(absl::StatusCode::kNotFound,
                     absl::StrCat("expectation \"", request.expectation(), "\" of ", request.name(),
                                  " is not waived"),
                     "EXPECTATION_NOT_FOUND", {{"expectation", request.expectation()}});
  }
  if (request.has_until() && FromProto(request.until()) <= absl::Now()) {
    return BadParameter("until", "the time has passed already; give a later one");
  }
  ICEPIE_RETURN_IF_ERROR(action.Begin());
  ICEPIE_RETURN_IF_ERROR(
      catalog_.Change(parts.domain, [&](CatalogDomain& domain, Operations& /*operations*/) {
        auto slice = domain.slices.find(parts.slice);
        if (slice == domain.slices.end()) {
          return ChangedMeanwhile("the slice was deleted meanwhile");
        }
        DropWaiver(slice->second, request.expectation());
        if (!request.end()) *slice->second.add_waivers() = MakeWaiver(request);
        NoteDone(digest, absl::Now(), slice->second);
        return absl::OkStatus();
      }));
  return TellWorkers(parts);
}

}  // namespace icepie::server
