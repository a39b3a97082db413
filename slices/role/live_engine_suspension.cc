// Slices that are suspended: their last state is saved, then only the snapshot is kept, attached
// and asked where it lies. And slices whose state is opened anew because somebody asked for it.
#include <memory>

#include "slices/role/live_engine.h"
#include "spdlog/spdlog.h"

namespace icepie::slices {
namespace {

// StepSnapshots saves what has moved.
bool IsSaved(Generation& generation) {
  if (generation.HasSavedAll()) return true;
  if (generation.progress().applied_position < generation.position()) {
    const absl::Status written = generation.WritePosition();
    if (!written.ok()) spdlog::warn("{}: {}", generation.plan().slice, written.ToString());
  }
  return false;
}

}  // namespace

bool LiveEngine::OpensAnew(const Held& held, const GenerationSpec& spec) {
  const bool resumed = held.spec.suspended && !spec.suspended;
  return resumed || held.spec.restarts != spec.restarts;
}

// It stops where it is; its memory goes as soon as that is saved.
void LiveEngine::Suspend(Held& held) {
  if (held.served->state() == SliceState::kSuspended) return;
  if (held.generation != nullptr) Freeze(held);
  held.stopped_for_good = true;
  held.stopped_state = SliceState::kSuspended;
  held.served->SetState(SliceState::kSuspended);
}

void LiveEngine::SetSuspects(Held& held) {
  if (held.generation == nullptr || held.in_run) return;  // a run reads them: when it is over
  const GenerationSpec& spec = held.spec;
  held.generation->SetSuspects({{spec.deadly_positions.begin(), spec.deadly_positions.end()},
                                spec.probe_begin,
                                spec.probe_end,
                                spec.probe_records});
}

void LiveEngine::StepSuspended() {
  bool changed = false;
  for (auto& held : held_) {
    if (!held->spec.suspended || held->generation == nullptr || held->in_run) continue;
    const bool shown = held->complete && !held->held_back && !held->unconfirmed;
    if (shown && !IsSaved(*held->generation)) continue;
    // What is being saved now is the snapshot to keep.
    if (!shown && snapshots_->Has(held->generation->served())) continue;
    held->generation.reset();
    held->gate.reset();
    KeepSnapshotOnly(*held);
    changed = true;
  }
  if (!changed) return;
  PublishServing();
  ConnectUpstream();
}

void LiveEngine::KeepSnapshotOnly(Held& held) {
  held.track = nullptr;
  held.complete = false;
  held.stopped_for_good = true;
  held.stopped_state = SliceState::kSuspended;
  ServeSnapshot(held);
  held.served->SetServing(held.spec.serving);
  held.served->SetState(SliceState::kSuspended);
}

absl::StatusOr<std::shared_ptr<ServedSlice>> LiveEngine::OpenLast(
    const GenerationSpec& spec) const {
  auto served = OpenNewestSnapshot(*instance_, store_, spec);
  if (absl::IsInternal(served.status())) options_.on_fatal(served.status().ToString());
  return served;
}

// The last good snapshot, or nothing with the slice's name.
void LiveEngine::ServeSnapshot(Held& held) {
  auto served = OpenLast(held.spec);
  if (served.ok()) {
    held.served = *std::move(served);
    return;
  }
  GenerationInfo info;
  info.slice = held.spec.slice;
  info.number = held.spec.number;
  info.definition_hash = held.spec.definition_hash;
  held.served = std::make_shared<ServedSlice>(info, 0);
}

}  // namespace icepie::slices
