#include "server/admin/admin_reason.h"

#include <cstddef>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"

namespace icepie::server {
namespace {

constexpr size_t kReasonBytesMax = 1000;

}  // namespace

absl::Status BadParameter(const std::string& field, const std::string& what) {
  return MakeError(absl::StatusCode::kInvalidArgument, absl::StrCat(field, ": ", what),
                   "PARAMETER_INVALID", {{"field", field}});
}

absl::Status CheckReason(const std::string& reason, bool required) {
  if (reason.empty() && required) {
    return BadParameter("reason", "say why; it is written down with your name");
  }
  if (reason.size() <= kReasonBytesMax) return absl::OkStatus();
  return BadParameter("reason", absl::StrCat("at most ", kReasonBytesMax, " bytes"));
}

}  // namespace icepie::server
