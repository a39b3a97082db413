// A file that appears whole or not at all: written beside its place, synced and renamed.
#ifndef ICEPIE_CLI_PARTIAL_FILE_H_
#define ICEPIE_CLI_PARTIAL_FILE_H_

#include <string>

#include "absl/status/status.h"

namespace icepie::cli {

// Removes the unfinished file whatever happens.
class PartialFile {
 public:
  // For `target`; its unfinished form lies in the same directory.
  explicit PartialFile(std::string target);
  ~PartialFile();
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;

  const std::string& path() const { return path_; }

  // ALREADY_EXISTS when the target is there and may not be replaced.
  absl::Status CheckTarget(bool overwrite) const;
  absl::Status MoveToTarget();

 private:
  const std::string target_;
  const std::string path_;
};

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_PARTIAL_FILE_H_
