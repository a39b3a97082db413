#include "core/log/accepted_loss.h"

#include <unistd.h>

#include <cerrno>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status.h"

namespace icepie {
namespace {

std::string LossPath(const std::string& core_directory) {
  return absl::StrCat(core_directory, "/", kAcceptedLossFile);
}

}  // namespace

absl::Status KeepAcceptedLoss(const std::string& core_directory, absl::string_view loss) {
  ICEPIE_ASSIGN_OR_RETURN(std::string kept, ReadAcceptedLoss(core_directory));
  if (absl::StrContains(kept, loss)) return absl::OkStatus();
  absl::StrAppend(&kept, kept.empty() ? "" : "; ", loss);
  return WriteFileAtomically(LossPath(core_directory), kept);
}

absl::StatusOr<std::string> ReadAcceptedLoss(const std::string& core_directory) {
  absl::StatusOr<std::string> kept = ReadFile(LossPath(core_directory));
  if (absl::IsNotFound(kept.status())) return std::string();
  return kept;
}

absl::Status ForgetAcceptedLoss(const std::string& core_directory) {
  const std::string path = LossPath(core_directory);
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return ErrnoError(errno, absl::StrCat("remove ", path));
  }
  return SyncDirectory(core_directory);
}

}  // namespace icepie
