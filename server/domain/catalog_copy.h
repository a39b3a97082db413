// Copies of what the catalog has of each domain, outside of the core's log: where that is damaged,
// the slices that it knows no more answer from their snapshots all the same, and when its loss is
// accepted they go on.
//
// A file for each domain, DIRECTORY/<domain>: IPCC, the domain's epoch, and keys of the catalog
// with their values (server/base/numbered_pairs.h).
#ifndef ICEPIE_SERVER_DOMAIN_CATALOG_COPY_H_
#define ICEPIE_SERVER_DOMAIN_CATALOG_COPY_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace icepie::server {

// Threads: one at a time.
// Errors: the operating system's, with the path.
class CatalogCopies {
 public:
  struct Copy {
    int64_t epoch = 0;
    std::map<std::string, std::string> pairs;  // keys of the catalog and their values
  };

  // `directory`: "" keeps no copies.
  explicit CatalogCopies(std::string directory) : directory_(std::move(directory)) {}

  // Replaces the domain's copy; synced.
  absl::Status Write(const std::string& domain, const Copy& copy) const;
  // Synced, too; there need be none.
  absl::Status Remove(const std::string& domain) const;

  // Those that can be read, by domain; the log names the others.
  std::map<std::string, Copy> ReadAll() const;

 private:
  std::string PathOf(const std::string& domain) const;

  const std::string directory_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_DOMAIN_CATALOG_COPY_H_
