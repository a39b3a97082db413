// Files of a domain that the catalog does not want where they are: those of renamed slices, of
// generations that have ended, of slices that were deleted, and what builds that have ended were
// compared with, and have saved on their way.
#ifndef ICEPIE_SERVER_DOMAIN_UNWANTED_FILES_H_
#define ICEPIE_SERVER_DOMAIN_UNWANTED_FILES_H_

#include <string>

#include "absl/time/time.h"
#include "server/domain/catalog.h"

namespace icepie::server {

// The files of renamed slices come to where their names say, before anybody looks for them there:
// also after a crash between the change and this. What cannot be taken over is built again; false:
// there is such a slice.
bool AdoptRenamed(const CatalogDomain& domain, const std::string& directory);

// Whether everything is known that the domain wants: not while the catalog was read only in part,
// or the domain or one of its slices is held.
bool IsWhole(const Catalog& catalog, const CatalogDomain& domain);

// Removes from the domain's `directory` what nobody wants any more; nothing unless the domain is
// whole. No worker may use the files of what it does not have.
void RemoveUnwantedFiles(const Catalog& catalog, const CatalogDomain& domain,
                         const std::string& directory, absl::Time now);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_DOMAIN_UNWANTED_FILES_H_
