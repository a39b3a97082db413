#include "server/domain/unwanted_files.h"

#include <spdlog/spdlog.h>

#include <cstdint>
#include <set>

#include "server/domain/builds.h"
#include "server/domain/promotion.h"
#include "server/domain/snapshot_files.h"

namespace icepie::server {

bool AdoptRenamed(const CatalogDomain& domain, const std::string& directory) {
  bool all = true;
  for (const auto& [name, slice] : domain.slices) {
    const std::string& before = slice.renamed_from();
    if (before.empty() || domain.slices.count(before) > 0) continue;
    const absl::Status adopted = AdoptSlice(directory, before, name);
    if (adopted.ok()) continue;
    all = false;
    spdlog::error("{}.{}: its state as {} cannot be taken over, it is built again: {}",
                  domain.entry.name(), name, before, adopted.ToString());
  }
  return all;
}

bool IsWhole(const Catalog& catalog, const CatalogDomain& domain) {
  return catalog.complete() && domain.held.empty() && domain.damaged_slices.empty();
}

void RemoveUnwantedFiles(const Catalog& catalog, const CatalogDomain& domain,
                         const std::string& directory, absl::Time now) {
  if (!IsWhole(catalog, domain)) return;
  if (!AdoptRenamed(domain, directory)) return;  // it may be possible another time
  for (const auto& [slice, entry] : domain.slices) {
    const std::set<int64_t> wanted = GenerationsWithState(entry, now);
    const int64_t last = entry.last_generation();
    RemoveGenerations(directory, slice, [&wanted, last](int64_t number) {
      return wanted.count(number) == 0 && number <= last;
    });
    RemoveUnfinished(directory, slice, [&entry = entry, last](int64_t number) {
      const auto* generation = FindGeneration(entry, number);
      const bool building = generation != nullptr &&
                            generation->generation().state() == icepie::v1::Generation::BUILDING;
      return !building && number <= last;
    });
  }
  for (const std::string& slice : SlicesOnDisk(directory)) {
    if (domain.slices.count(slice) == 0) RemoveSlice(directory, slice);
  }
  // The daemon may have ended between a build's end and this.
  for (const std::string& pin : PinsOnDisk(directory)) {
    const auto operation = catalog.FindOperation(OperationNumber(pin));
    if (!operation || operation->done()) UnpinSnapshot(directory, pin);
  }
}

}  // namespace icepie::server
