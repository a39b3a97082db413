#include "server/domain/domain_assignment.h"

#include <set>

#include "server/domain/promotion.h"
#include "server/domain/snapshot_files.h"

namespace icepie::server {
namespace {

void AddGeneration(const CatalogDomain& domain, const icepie::catalog::v1::SliceEntry& slice,
                   int64_t number, icepie::worker::v1::Assignment& assignment) {
  const auto* entry = FindGeneration(slice, number);
  if (entry == nullptr) return;
  auto file = domain.revisions.find(entry->generation().revision());
  if (file == domain.revisions.end()) return;
  auto& spec = *assignment.add_generations();
  spec.set_slice(slice.name());
  spec.set_number(number);
  spec.set_file(file->second.file());
  spec.set_definition_hash(entry->generation().definition_hash());
  spec.set_frozen(slice.desired().mode() == icepie::v1::DesiredState::FREEZE);
  spec.set_start_snapshot(entry->start_snapshot());
  spec.set_serving(number == slice.serving_generation());
  *spec.mutable_waivers() = slice.waivers();
  *spec.mutable_acknowledged() = AcknowledgedOf(slice).ranges();
  const bool kept_out = SuspensionInForce(slice) != nullptr && spec.serving();
  spec.set_suspended(kept_out || slice.desired().mode() == icepie::v1::DesiredState::SUSPEND);
  for (const auto& record : entry->deadly_records()) spec.add_deadly_positions(record.position());
  spec.set_restarts(slice.desired().restarts());
}

}  // namespace

icepie::worker::v1::PositionRanges AcknowledgedOf(const icepie::catalog::v1::SliceEntry& slice) {
  icepie::worker::v1::PositionRanges acknowledged;
  for (const auto& known : slice.acknowledgements()) {
    auto& range = *acknowledged.add_ranges();
    range.set_first_position(known.first_position());
    range.set_end_position(known.end_position());
  }
  return acknowledged;
}

icepie::worker::v1::Assignment MakeAssignment(const CatalogDomain& domain, absl::Time now) {
  icepie::worker::v1::Assignment assignment;
  assignment.set_domain(domain.entry.name());
  assignment.set_epoch(domain.entry.epoch());
  assignment.set_memory_limit_bytes(domain.entry.memory_limit_bytes());
  assignment.set_disk_limit_bytes(domain.entry.disk_limit_bytes());
  for (const auto& [name, slice] : domain.slices) {
    for (const auto& entry : slice.generations()) {
      if (entry.generation().number() == slice.serving_generation()) continue;
      if (IsWarm(entry.generation(), now)) {
        AddGeneration(domain, slice, entry.generation().number(), assignment);
      }
    }
    AddGeneration(domain, slice, slice.serving_generation(), assignment);
  }
  return assignment;
}

void AddHeld(const CatalogDomain& domain, const std::string& directory,
             icepie::worker::v1::Assignment& assignment) {
  std::set<std::string> names;
  for (const auto& [slice, damaged] : domain.damaged_slices) names.insert(slice);
  if (!domain.held.empty()) {
    for (auto& spec : *assignment.mutable_generations()) spec.set_suspended(true);
    for (const std::string& slice : SlicesOnDisk(directory)) names.insert(slice);
  }
  for (const std::string& slice : names) {
    const int64_t number = FurthestGenerationOnDisk(directory, slice);
    if (number == 0 || domain.slices.count(slice) > 0) continue;
    auto& spec = *assignment.add_generations();
    spec.set_slice(slice);
    spec.set_number(number);
    spec.set_serving(true);
    spec.set_suspended(true);
  }
}

}  // namespace icepie::server
