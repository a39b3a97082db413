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

// The file with the SQL of others in it. INVALID_ARGUMENT for text that is not UTF-8, and what
// PutInSqlFiles refuses.
absl::StatusOr<WholeDomainFile> ReadDomainFile(const std::string& path);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_DOMAIN_FILES_H_
