#include "core/log/recovery.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/directory.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/log/accepted_loss.h"
#include "core/log/log_state.h"
#include "core/log/wal_check.h"
#include "core/proof/tree_store.h"
#include "core/verify/backup.h"

namespace icepie {
namespace {

constexpr absl::string_view kRemedy =
    "; appends are refused and no file of the log is changed: stop the daemon, restore the core "
    "directory from a backup that is at least as new, and start again";

// Of a log that was already opened for writing: replayed, and perhaps cut off at an accepted loss.
constexpr absl::string_view kLateRemedy =
    "; appends are refused: stop the daemon, restore the core directory from a backup that is at "
    "least as new, and start again";

constexpr absl::string_view kAcceptRemedy =
    ". Or go on without what is lost, once the directory is copied: icepied --accept-core-loss=";

constexpr absl::string_view kNoLossOnly =
    ". It cannot be accepted as a loss, since what is left does not end at one position, or may "
    "be read again on a sound disk; icepie verify --data-dir says what is missing";

struct Paths {
  std::string core;
  std::string log;
  std::string segments;
  std::string mark;
  rocksdb::Env* env = nullptr;
  ReadOnlyGuard* guard = nullptr;
  DiskSpace* space = nullptr;
};

void Take(LogState state, RecoveredCore& core) {
  core.segments = std::move(state.segments);
  core.streams = std::move(state.streams);
  core.head = state.head;
  core.catalog_changes = state.catalog_changes;
  core.last_ingest_time_us = state.last_ingest_time_us;
}

absl::StatusOr<RecoveredCore> OpenLog(const Paths& paths, LogStore::Mode mode) {
  RecoveredCore core;
  DiskSpace* const space = paths.space;
  ICEPIE_ASSIGN_OR_RETURN(core.store, LogStore::Open({paths.log, mode, paths.env, paths.guard,
                                                      [space] { return space->GiveBallast(); }}));
  ICEPIE_ASSIGN_OR_RETURN(LogState state, ReadLogState(*core.store, paths.segments));
  Take(std::move(state), core);
  return core;
}

// As much as can be read, for answers.
RecoveredCore Salvage(const Paths& paths, const std::string& cause) {
  const absl::StatusOr<HighWater> mark = HighWaterMark::Read(paths.mark);
  SalvagedLog salvaged =
      SalvageLog(paths.log, paths.segments, mark.ok() ? mark->position : 0, paths.env);
  RecoveredCore core;
  core.store = std::move(salvaged.store);
  Take(std::move(salvaged.state), core);
  core.read_only_cause = cause;
  core.loss_only = salvaged.is_consistent;
  return core;
}

std::string CauseOfDamage(const absl::Status& found, absl::string_view remedy = kRemedy) {
  return absl::StrCat("the log is damaged: ", found.message(), remedy);
}

// Damage that showed only when the log was opened for writing: since it was looked at, or where the
// look does not read.
RecoveredCore SalvageLate(const Paths& paths, const absl::Status& found) {
  RecoveredCore core = Salvage(paths, absl::StrCat(CauseOfDamage(found, kLateRemedy), kNoLossOnly));
  core.loss_only = false;
  return core;
}

std::string CauseOfMark(const absl::StatusOr<HighWater>& mark, const Paths& paths, int64_t head,
                        int64_t changes) {
  if (absl::IsNotFound(mark.status())) {
    if (head == 0) return "";
    return absl::StrCat("the core has ", head, " records but its high-water mark ", paths.mark,
                        " is missing, so a loss would not be noticed", kRemedy);
  }
  if (!mark.ok()) return absl::StrCat(mark.status().message(), kRemedy);
  if (mark->position > head) {
    return absl::StrCat("the core has ", head, " records but ", mark->position,
                        " were acknowledged: the last ", mark->position - head, " are lost",
                        kRemedy);
  }
  if (mark->changes <= changes) return "";
  return absl::StrCat("the core has all ", mark->position, " records, but ", changes,
                      " changes of its catalog (streams, domains, slices) where ", mark->changes,
                      " were acknowledged: the last ", mark->changes - changes, " are lost",
                      kRemedy);
}

// Where there is neither a log nor a mark, as on the first start.
absl::StatusOr<std::string> CauseOfLeftSegments(const Paths& paths) {
  ICEPIE_ASSIGN_OR_RETURN(const int64_t end, LastEndOfFiles(paths.segments));
  if (end == 0) return "";
  return absl::StrCat("there are records up to position ", end, " in ", paths.segments,
                      ", but neither a log nor a high-water mark, so this is no new core", kRemedy,
                      ". Or begin a new core: move that directory away, too");
}

std::string CauseOfBackup(const std::string& backup, int64_t head) {
  return absl::StrCat(
      "this is a backup (", backup,
      "), and what the original took after it is not in it; appends are refused. "
      "Where the original is gone, go on from here, as a log with a key of its own: "
      "icepied --accept-core-loss=",
      head);
}

// Why the requests cannot be understood; empty when they can, then `requests` knows them.
absl::StatusOr<std::string> CauseOfRequests(const LogStore& store,
                                            std::unique_ptr<RequestLog>& requests) {
  absl::StatusOr<std::unique_ptr<RequestLog>> loaded = RequestLog::Load(store);
  if (absl::IsDataLoss(loaded.status())) {
    return absl::StrCat(loaded.status().message(), kRemedy);
  }
  ICEPIE_ASSIGN_OR_RETURN(requests, std::move(loaded));
  return "";
}

std::string CauseOfSegments(const SegmentSet& segments) {
  const absl::Status status = segments.CheckFiles();
  return status.ok() ? "" : absl::StrCat(status.message(), kRemedy);
}

// Why the index is not whole; empty when it is.
absl::StatusOr<std::string> CauseOfIndex(const LogStore& store) {
  const absl::Status index = CheckIndex(store);
  if (index.ok()) return "";
  if (!absl::IsDataLoss(index)) return index;
  return CauseOfDamage(index);
}

// Why the tree does not fit the log; empty when it does.
absl::StatusOr<std::string> CauseOfTree(const RecoveredCore& core) {
  const absl::Status tree = LoadTree(*core.store, core.head).status();
  if (tree.ok()) return "";
  if (!absl::IsDataLoss(tree)) return tree;
  return absl::StrCat(tree.message(), kRemedy);
}

// Why the stored tree is another one than the mark's; empty when it is not. Looked at before the
// mark is written again, which would end what it says of them. A tree that cannot be read so far
// ends signing, which comes upon it.
absl::StatusOr<std::string> CauseOfRoot(const RecoveredCore& core,
                                        const absl::StatusOr<HighWater>& mark) {
  if (!mark.ok() || !mark->root) return "";
  TiledNodes nodes(TreeReader(*core.store));
  const absl::StatusOr<Digest> root = RootOf(mark->position, nodes);
  if (!root.ok() && !absl::IsDataLoss(root.status())) return root.status();
  if (!root.ok() || *root == *mark->root) return "";
  return absl::StrCat("the first ", mark->position,
                      " records do not lead to the root that the high-water mark has for them: "
                      "other records were acknowledged",
                      kRemedy);
}

// The log is whole as far as it can tell: opens it for writing. `requests` are its own, when they
// were loaded already.
absl::StatusOr<RecoveredCore> OpenForWriting(const Paths& paths, bool with_tree,
                                             LogStore::Mode mode = LogStore::Mode::kReadWrite,
                                             std::unique_ptr<RequestLog> requests = nullptr) {
  ICEPIE_RETURN_IF_ERROR(MakeDirectories(paths.log));
  ICEPIE_RETURN_IF_ERROR(MakeDirectories(paths.segments));
  ICEPIE_ASSIGN_OR_RETURN(RecoveredCore core, OpenLog(paths, mode));
  ICEPIE_ASSIGN_OR_RETURN(core.tree, LoadTree(*core.store, core.head));
  if (with_tree) {
    ICEPIE_RETURN_IF_ERROR(BuildTree(*core.store,
                                     {core.store.get(), core.segments.get(), core.streams.get()},
                                     core.head, core.tree));
  } else if (core.tree.size() > 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(paths.log, " has a Merkle tree, which must not fall behind; keep it on"));
  }
  if (requests != nullptr) {
    requests->ReadFrom(*core.store);
    core.requests = std::move(requests);
  } else {
    ICEPIE_ASSIGN_OR_RETURN(core.requests, RequestLog::Load(*core.store));
  }
  HighWater value{core.head, std::nullopt, core.catalog_changes};
  if (with_tree) value.root = core.tree.Root();
  ICEPIE_ASSIGN_OR_RETURN(core.mark, HighWaterMark::Open(paths.mark, value));
  ICEPIE_RETURN_IF_ERROR(core.segments->RemoveLeftovers(core.head));
  // After a crash the mark may lag behind the log. The root that it has for the same records stays
  // until the first commit.
  const absl::StatusOr<HighWater> found = HighWaterMark::Read(paths.mark);
  if (found.ok() && found->position == core.head && found->root.has_value() == with_tree) {
    value.root = found->root;
    if (found->changes < core.catalog_changes) ICEPIE_RETURN_IF_ERROR(core.mark->Write(value));
  } else {
    ICEPIE_RETURN_IF_ERROR(core.mark->Write(value));
  }
  ICEPIE_RETURN_IF_ERROR(core.mark->Sync());
  return core;
}

// Looks, and opens for writing only what is whole.
absl::StatusOr<RecoveredCore> Recover(const Paths& paths, bool with_tree,
                                      std::optional<int64_t> accept_loss_position) {
  const absl::StatusOr<HighWater> mark = HighWaterMark::Read(paths.mark);
  if (!LogStore::Exists(paths.log)) {
    std::string cause = CauseOfMark(mark, paths, 0, 0);
    if (absl::IsNotFound(mark.status())) {
      ICEPIE_ASSIGN_OR_RETURN(cause, CauseOfLeftSegments(paths));
    }
    if (!cause.empty()) return Salvage(paths, cause);
    return OpenForWriting(paths, with_tree);
  }
  // Opening for writing replays the log and drops what it replaces; so first only look.
  absl::StatusOr<RecoveredCore> seen = OpenLog(paths, LogStore::Mode::kReadOnly);
  // A power loss keeps the pages of a write that was not synced in any order.
  const absl::Status damage = seen.status();
  const bool unsynced = absl::IsDataLoss(damage) && LacksOnlySectorsOfLastWrite(paths.log);
  if (unsynced) {
    seen = OpenLog(paths, LogStore::Mode::kSalvage);
    // What the mark has was acknowledged.
    const bool lacks =
        seen.ok() && !CauseOfMark(mark, paths, seen->head, seen->catalog_changes).empty();
    if (lacks) seen = damage;
  }
  const bool half_created =
      absl::IsFailedPrecondition(seen.status()) && absl::IsNotFound(mark.status());
  if (half_created) {  // the first opening ended before it was done
    ICEPIE_ASSIGN_OR_RETURN(const std::string cause, CauseOfLeftSegments(paths));
    if (!cause.empty()) return Salvage(paths, cause);
    return OpenForWriting(paths, with_tree);
  }
  if (!seen.ok() && !absl::IsDataLoss(seen.status())) return seen.status();
  if (!seen.ok()) {
    RecoveredCore core = Salvage(paths, CauseOfDamage(seen.status()));
    core.loss_only = core.loss_only && CauseOfSegments(*core.segments).empty();
    if (!core.loss_only) absl::StrAppend(&core.read_only_cause, kNoLossOnly);
    return core;
  }
  // Before the mark: no loss can be accepted while records before the end are missing.
  seen->read_only_cause = CauseOfSegments(*seen->segments);
  if (!seen->read_only_cause.empty()) return seen;
  ICEPIE_ASSIGN_OR_RETURN(seen->read_only_cause, CauseOfIndex(*seen->store));
  if (!seen->read_only_cause.empty()) return seen;
  seen->read_only_cause = CauseOfMark(mark, paths, seen->head, seen->catalog_changes);
  if (!seen->read_only_cause.empty()) {
    seen->loss_only = true;
    return seen;
  }
  ICEPIE_ASSIGN_OR_RETURN(seen->read_only_cause, CauseOfTree(*seen));
  if (!seen->read_only_cause.empty()) return seen;
  ICEPIE_ASSIGN_OR_RETURN(seen->read_only_cause, CauseOfRoot(*seen, mark));
  if (!seen->read_only_cause.empty()) {
    seen->loss_only = true;
    return seen;
  }
  std::unique_ptr<RequestLog> requests;
  ICEPIE_ASSIGN_OR_RETURN(seen->read_only_cause, CauseOfRequests(*seen->store, requests));
  if (!seen->read_only_cause.empty()) return seen;
  ICEPIE_ASSIGN_OR_RETURN(const std::optional<std::string> backup, ReadBackupMark(paths.core));
  if (backup && accept_loss_position != seen->head) {
    seen->read_only_cause = CauseOfBackup(*backup, seen->head);
    return seen;
  }
  if (backup) {
    ICEPIE_RETURN_IF_ERROR(
        KeepAcceptedLoss(paths.core, absl::StrCat("a backup was restored: ", *backup)));
  }
  const int64_t head = seen->head;
  seen->store.reset();
  // RocksDB drops it silently. Whether older logs are whole, those after them have shown.
  const std::string dropped = UnacknowledgedEnd(paths.log, unsynced);
  if (!dropped.empty()) spdlog::warn("core: {}, and is dropped", dropped);
  absl::StatusOr<RecoveredCore> core = OpenForWriting(
      paths, with_tree, unsynced ? LogStore::Mode::kReadWriteAfterLoss : LogStore::Mode::kReadWrite,
      std::move(requests));
  if (core.ok() && core->head != head) {
    core = absl::DataLossError(
        absl::StrCat("it was opened with ", core->head, " records where ", head, " were seen"));
  }
  if (absl::IsDataLoss(core.status())) return SalvageLate(paths, core.status());
  ICEPIE_RETURN_IF_ERROR(core.status());
  if (mark.ok()) core->found_mark = *mark;
  core->is_backup = backup.has_value();
  return core;
}

// The operator knows what is lost and goes on without it.
absl::StatusOr<RecoveredCore> AcceptLoss(const Paths& paths, bool with_tree, int64_t head,
                                         const std::string& cause) {
  ICEPIE_RETURN_IF_ERROR(KeepAcceptedLoss(
      paths.core, absl::StrCat("the loss from position ", head, " on was accepted: ", cause)));
  ICEPIE_RETURN_IF_ERROR(HighWaterMark::Reset(paths.mark, {head, std::nullopt, 0}));
  ICEPIE_ASSIGN_OR_RETURN(RecoveredCore core,
                          OpenForWriting(paths, with_tree, LogStore::Mode::kReadWriteAfterLoss));
  if (core.head != head) {
    return absl::DataLossError(absl::StrCat("the core was opened with ", core.head,
                                            " records after a loss at ", head, " was accepted"));
  }
  return core;
}

}  // namespace

absl::StatusOr<RecoveredCore> RecoverCore(const CoreOptions& options, ReadOnlyGuard& guard,
                                          DiskSpace& space) {
  const Paths paths{options.directory,
                    absl::StrCat(options.directory, "/rocksdb"),
                    absl::StrCat(options.directory, "/", kSegmentDirectory),
                    absl::StrCat(options.directory, "/", kHighWaterMarkFile),
                    options.env,
                    &guard,
                    &space};
  ICEPIE_ASSIGN_OR_RETURN(RecoveredCore core,
                          Recover(paths, options.merkle_tree, options.accept_loss_position));
  if (!core.loss_only || core.store == nullptr) return core;
  if (options.accept_loss_position != core.head) {
    absl::StrAppend(&core.read_only_cause, kAcceptRemedy, core.head);
    return core;
  }
  core.store.reset();
  absl::StatusOr<RecoveredCore> accepted =
      AcceptLoss(paths, options.merkle_tree, core.head, core.read_only_cause);
  if (absl::IsDataLoss(accepted.status())) return SalvageLate(paths, accepted.status());
  ICEPIE_RETURN_IF_ERROR(accepted.status());
  ICEPIE_ASSIGN_OR_RETURN(const std::optional<std::string> backup, ReadBackupMark(paths.core));
  accepted->is_backup = backup.has_value();
  return accepted;
}

}  // namespace icepie
