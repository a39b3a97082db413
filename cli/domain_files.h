// The domain files that -f names.
#ifndef ICEPIE_CLI_DOMAIN_FILES_H_
#define ICEPIE_CLI_DOMAIN_FILES_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/sql_files.h"

namespace icepie::cli {

// The file itself, or a directory's *.yaml and *.yml by name. NOT_FOUND when it holds none.
absl::StatusOr<std::vector<std::string>> DomainFiles(const std::string& path);

// The file with the SQL of others in it and, when `overlay` names a file, that one's text as its
// `overlay:`, so that the daemon gets one whole text. INVALID_ARGUMENT for text that is not UTF-8,
// an empty overlay, an overlay of a directory's files, and what PutInSqlFiles refuses.
absl::StatusOr<WholeDomainFile> ReadDomainFile(const std::string& path,
                                               const std::string& overlay = "");

// --overlay belongs to one file.
absl::Status CheckOverlay(const std::vector<std::string>& files, const std::string& overlay);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_DOMAIN_FILES_H_
