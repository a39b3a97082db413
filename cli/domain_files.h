// The domain files that -f names.
#ifndef ICEPIE_CLI_DOMAIN_FILES_H_
#define ICEPIE_CLI_DOMAIN_FILES_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace icepie::cli {

// The file itself, or a directory's *.yaml and *.yml by name. NOT_FOUND when it holds none.
absl::StatusOr<std::vector<std::string>> DomainFiles(const std::string& path);

// A file's text, and its name as messages have it.
struct DomainFile {
  std::string name;
  std::string text;
};

// INVALID_ARGUMENT for text that is not UTF-8.
absl::StatusOr<DomainFile> ReadDomainFile(const std::string& path);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_DOMAIN_FILES_H_
