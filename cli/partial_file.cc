#include "cli/partial_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status.h"

namespace icepie::cli {

PartialFile::PartialFile(std::string target)
    : target_(std::move(target)), path_(absl::StrCat(target_, ".", getpid(), ".partial")) {}

PartialFile::~PartialFile() { unlink(path_.c_str()); }

absl::Status PartialFile::CheckTarget(bool overwrite) const {
  std::error_code error;
  if (overwrite || !std::filesystem::exists(target_, error)) return absl::OkStatus();
  return absl::AlreadyExistsError(absl::StrCat(target_, " exists; --overwrite replaces it"));
}

absl::Status PartialFile::MoveToTarget() {
  ICEPIE_RETURN_IF_ERROR(SyncFile(path_));
  if (std::rename(path_.c_str(), target_.c_str()) != 0) {
    return ErrnoError(errno, absl::StrCat("renaming ", path_, " to ", target_));
  }
  const std::string directory = std::filesystem::path(target_).parent_path().string();
  return SyncDirectory(directory.empty() ? "." : directory);
}

}  // namespace icepie::cli
