#include "server/query/staleness.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "server/base/proto_time.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;
using v1::Consistency;

absl::Status InvalidStaleness(const std::string& field, const std::string& what) {
  return MakeError(absl::StatusCode::kInvalidArgument, absl::StrCat(field, " ", what),
                   "PARAMETER_INVALID", {{"field", field}});
}

}  // namespace

absl::Status SetMaxStaleness(absl::string_view text, Consistency* consistency) {
  absl::Duration allowed;
  if (!absl::ParseDuration(text, &allowed) || allowed < absl::ZeroDuration() ||
      allowed == absl::InfiniteDuration()) {
    return InvalidStaleness("max_staleness",
                            absl::StrCat("\"", text, "\" is no time such as 30s or 5m"));
  }
  *consistency->mutable_max_staleness() = ToProto(allowed);
  return absl::OkStatus();
}

absl::Status SetOnStale(absl::string_view text, Consistency* consistency) {
  if (text == "serve") {
    consistency->set_on_stale(Consistency::SERVE);
  } else if (text == "wait") {
    consistency->set_on_stale(Consistency::WAIT);
  } else if (text == "fail") {
    consistency->set_on_stale(Consistency::FAIL);
  } else {
    return InvalidStaleness("on_stale",
                            absl::StrCat("\"", text, "\" is not known (have: serve, wait, fail)"));
  }
  return absl::OkStatus();
}

absl::Status CheckStaleness(const Consistency& consistency) {
  if (!Consistency::OnStale_IsValid(consistency.on_stale())) {
    return InvalidStaleness("on_stale", "is none of SERVE, WAIT, FAIL");
  }
  if (!consistency.has_max_staleness()) {
    if (consistency.on_stale() == Consistency::SERVE) return absl::OkStatus();
    return InvalidStaleness("on_stale",
                            "says what becomes of answers that are staler than "
                            "max_staleness: give that as well");
  }
  if (FromProto(consistency.max_staleness()) < absl::ZeroDuration()) {
    return InvalidStaleness("max_staleness", "is negative");
  }
  if (consistency.as_of_case() == Consistency::AS_OF_NOT_SET) return absl::OkStatus();
  return InvalidStaleness("max_staleness",
                          "is about the present, as_of about the past: give one of them");
}

absl::Status CheckStaleFor(const v1::SliceMeta& slice, absl::Duration allowed,
                           absl::string_view limit, absl::Time now) {
  if (!slice.stale() || !slice.has_stale_since()) return absl::OkStatus();
  const absl::Duration stale_for = now - FromProto(slice.stale_since());
  if (stale_for <= allowed) return absl::OkStatus();
  return MakeError(absl::StatusCode::kFailedPrecondition,
                   absl::StrCat("slice ", slice.slice(), " has been stale for ",
                                absl::FormatDuration(absl::Trunc(stale_for, absl::Milliseconds(1))),
                                " (", v1::StaleReason_Name(slice.stale_reason()), "), ", limit,
                                " is ", absl::FormatDuration(allowed), "; icepie slice describe ",
                                slice.slice(), " says why"),
                   ErrorDetail{"STALENESS_EXCEEDED",
                               {{"slice", slice.slice()},
                                {"stale_reason", v1::StaleReason_Name(slice.stale_reason())},
                                {"applied_position", absl::StrCat(slice.applied_position())}},
                               {},
                               1000});
}

absl::Status CheckStaleFor(const v1::Meta& answer, const Consistency& consistency, absl::Time now) {
  if (!consistency.has_max_staleness() || consistency.on_stale() == Consistency::SERVE) {
    return absl::OkStatus();
  }
  const absl::Duration allowed = FromProto(consistency.max_staleness());
  for (const v1::SliceMeta& slice : answer.slices()) {
    ICEPIE_RETURN_IF_ERROR(CheckStaleFor(slice, allowed, "max_staleness", now));
  }
  return absl::OkStatus();
}

}  // namespace icepie::server
