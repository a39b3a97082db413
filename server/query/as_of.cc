#include "server/query/as_of.h"

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "core/base/status.h"
#include "server/base/proto_time.h"

namespace icepie::server {
namespace {

using icepie::v1::Consistency;

absl::Status Invalid(absl::string_view message) {
  return MakeError(absl::StatusCode::kInvalidArgument, message, "PARAMETER_INVALID",
                   {{"field", "as_of"}});
}

}  // namespace

absl::Status SetAsOf(absl::string_view text, Consistency* consistency) {
  int64_t position = 0;
  absl::Time time;
  std::string error;
  if (absl::SimpleAtoi(text, &position) && position >= 0) {
    consistency->set_as_of_position(position);
  } else if (absl::ParseTime(absl::RFC3339_full, text, &time, &error)) {
    *consistency->mutable_as_of_time() = ToProto(time);
  } else if (!text.empty() && absl::ascii_isalpha(static_cast<unsigned char>(text[0]))) {
    consistency->set_as_of_snapshot(std::string(text));
  } else {
    return Invalid(absl::StrCat("as_of \"", text,
                                "\" is neither a position (81204113), nor a time "
                                "with its offset (2026-11-22T02:58:41Z), nor a snapshot's name"));
  }
  return absl::OkStatus();
}

bool IsAsOf(const Consistency& consistency) {
  return consistency.as_of_case() != Consistency::AS_OF_NOT_SET;
}

absl::Status CheckAsOf(const Consistency& consistency, int64_t head) {
  if (!IsAsOf(consistency)) return absl::OkStatus();
  if (consistency.has_min_position()) {
    return Invalid("as_of asks for the past, min_position for the present: give one of them");
  }
  if (consistency.as_of_case() == Consistency::kAsOfSnapshot &&
      consistency.as_of_snapshot().empty()) {
    return Invalid("as_of names no snapshot");
  }
  if (!consistency.has_as_of_position()) return absl::OkStatus();
  const int64_t position = consistency.as_of_position();
  if (position < 0) return Invalid(absl::StrCat("as_of position ", position, " is negative"));
  if (position <= head) return absl::OkStatus();
  return MakeError(absl::StatusCode::kOutOfRange,
                   absl::StrCat("as_of position ", position, " is ahead of the core, which has ",
                                head, " records"),
                   "POSITION_AHEAD_OF_CORE", {{"head", absl::StrCat(head)}});
}

}  // namespace icepie::server
