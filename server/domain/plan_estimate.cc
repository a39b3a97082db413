#include "server/domain/plan_estimate.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "server/base/proto_time.h"

namespace icepie::server {
namespace {

using icepie::v1::SliceEstimate;

constexpr int kSlowTimes = 10;

double SecondsOf(const Catalog::Operation& operation) {
  return absl::ToDoubleSeconds(FromProto(operation.end_time()) - FromProto(operation.start_time()));
}

// 0 for one that failed, or was too short to tell, or did not begin at the first record.
double RateOf(const Catalog::Operation& operation) {
  if (!operation.done() || operation.error_code() != 0 || !operation.has_start_time() ||
      operation.retry()) {
    return 0;
  }
  const double seconds = SecondsOf(operation);
  // The end of a build that went on from a saved state is mostly comparing and saving.
  const int64_t done = operation.done_records() - operation.done_before();
  const bool telling = seconds > 0 && done >= operation.done_before();
  return telling ? static_cast<double>(done) / seconds : 0;
}

}  // namespace

SliceEstimate EstimateBuild(const icepie::worker::v1::PlannedSlice& planned,
                            const EstimateFacts& facts) {
  SliceEstimate estimate;
  int64_t records = 0;
  for (const std::string& stream : planned.streams()) {
    const auto found = facts.stream_records.find(stream);
    if (found != facts.stream_records.end()) records += found->second;
  }
  estimate.set_records_to_read(records);
  if (facts.positions_per_second > 0 && records > 0) {
    // A build passes over the positions of other streams.
    const double seconds = static_cast<double>(facts.head_position) / facts.positions_per_second;
    estimate.set_duration_ms(static_cast<int64_t>(seconds * 1000));
    estimate.set_records_per_second(static_cast<double>(records) / seconds);
  }
  estimate.set_state_bytes(facts.state_bytes);
  estimate.set_memory_limit_bytes(planned.memory_limit_bytes() > 0 ? planned.memory_limit_bytes()
                                                                   : facts.memory_limit_bytes);
  if (planned.keeps_records()) {
    estimate.set_kept_records_max(records);
    estimate.set_kept_records_limit(planned.kept_records_limit());
  }
  return estimate;
}

double MeasuredRate(const std::vector<Catalog::Operation>& operations, const std::string& domain,
                    const std::string& slice) {
  double of_domain = 0;
  for (const auto& operation : operations) {
    if (operation.domain() != domain) continue;
    const double rate = RateOf(operation);
    if (rate > 0 && operation.slice() == slice) return rate;
    if (of_domain == 0) of_domain = rate;
  }
  return of_domain;
}

absl::Duration ExpectedTime(const std::vector<Catalog::Operation>& operations,
                            const icepie::catalog::v1::SliceEntry& slice, int64_t total_records) {
  for (const auto& operation : operations) {
    if (operation.domain() != slice.domain() || operation.slice() != slice.name()) continue;
    if (operation.number() < slice.first_operation()) continue;
    if (operation.done_before() > 0 || RateOf(operation) <= 0) continue;
    const double more = static_cast<double>(total_records) /
                        static_cast<double>(std::max<int64_t>(1, operation.done_records()));
    return absl::Seconds(SecondsOf(operation)) * std::max(1.0, more);
  }
  return absl::ZeroDuration();
}

std::string TooSlow(absl::Duration worked, absl::Duration expected, absl::Duration judged_after) {
  if (expected <= absl::ZeroDuration() || worked < judged_after) return "";
  if (worked <= kSlowTimes * expected) return "";
  return absl::StrFormat(
      "it has worked for %s, where by the last build of this slice all of it takes %s",
      absl::FormatDuration(absl::Trunc(worked, absl::Milliseconds(1))),
      absl::FormatDuration(absl::Trunc(expected, absl::Milliseconds(1))));
}

}  // namespace icepie::server
