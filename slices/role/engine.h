// A worker's inside: what each role does with its domain's slices.
//   live     applies records, answers, saves snapshots     (live_engine.h)
//   standby  answers from the last good snapshots          (standby_engine.h)
//   build    makes one new generation beside the others    (build_engine.h)
#ifndef ICEPIE_SLICES_ROLE_ENGINE_H_
#define ICEPIE_SLICES_ROLE_ENGINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "slices/apply/engine_types.h"
#include "slices/apply/record_trace.h"
#include "slices/duckdb/duckdb.h"
#include "slices/query/query_service.h"
#include "slices/query/serving_set.h"
#include "slices/snapshot/named_snapshots.h"
#include "slices/snapshot/past_snapshots.h"
#include "slices/snapshot/snapshot_store.h"

namespace icepie::slices {

struct DomainDef;

struct EngineOptions {
  std::string domain;
  std::string directory;  // the domain's: snapshots/ and tmp/ are under it
  int64_t memory_bytes = int64_t{512} << 20;
  absl::Duration query_timeout = absl::Seconds(10);
  // Of a recompute; without it, as the domain's query timeout says (recompute_runner.h).
  std::optional<absl::Duration> recompute_limit;
  // A worker that has not answered a question of its own for so long hangs; after a third of it,
  // its slices are not called RUNNING any more. It asks itself ten times as often.
  absl::Duration heartbeat_timeout = absl::Seconds(10);
  // Of one turn of the live engine: a batch on all slices. A longer one ends the process.
  absl::Duration apply_timeout = absl::Minutes(10);
  // From the interrupt of a statement that takes too long to the end of the process, if it does not
  // listen.
  absl::Duration interrupt_grace = absl::Seconds(2);
  absl::Duration snapshot_interval = absl::Seconds(10);
  SnapshotKeeping snapshots{3};
  int64_t disk_bytes = 0;              // of the directory (snapshot_store.h); 0: no limit
  int64_t write_bytes_per_second = 0;  // of snapshots; 0: no limit
  WritePace write_pace;                // instead, when others write too; null: this process alone
  double snapshot_share = 0.05;        // of one core's time, at most
  // Called when the process must end: DuckDB is broken or does not listen. It should not return.
  std::function<void(const std::string& why)> on_fatal;
};

// Threads: any.
class Engine {
 public:
  virtual ~Engine() = default;

  // Takes on the assignment and returns; Report() tells how far it is. Older epochs are ignored.
  virtual void Configure(Assignment assignment) = 0;

  // Cheap; never waits for applying or queries.
  virtual EngineReport Report() const = 0;

  virtual void Ask(Question question, QueryService::Done done) = 0;

  // Recomputes a slice now, with every record before `min_position`; the position it then stands
  // at. Slices that are kept fresh by every batch answer at once. SLICE_NOT_FOUND;
  // FAILED_PRECONDITION/BLOCKED_BY when it is stopped, or is by what it meets.
  using RefreshDone = std::function<void(absl::StatusOr<int64_t>)>;
  virtual void Refresh(const std::string& slice, int64_t min_position, absl::Time deadline,
                       RefreshDone done) = 0;

  // Quarantined records of the serving generation at positions beyond `after` (0 with the first
  // page: from the start).
  virtual absl::StatusOr<QuarantinePage> ListQuarantined(const std::string& slice, int64_t after,
                                                         int64_t page_size) = 0;

  // Each serving slice's position, and the record at `position` if it is quarantined there.
  virtual std::vector<RecordStanding> Locate(int64_t position) = 0;

  // Gives the serving generation's state, as it is now, a name. SLICE_NOT_FOUND, NO_SNAPSHOT_YET
  // and the errors of NamedSnapshots::Add.
  using NameDone = std::function<void(absl::Status)>;
  virtual void NameSnapshot(const std::string& slice, SnapshotName name, NameDone done) = 0;

  // Saves what has changed and stops. The engine then only waits to be destroyed.
  virtual void Shutdown() = 0;
};

// A DuckDB instance as every role runs it: bounded memory and spill, no access to files outside of
// the domain's directory, no extensions, UTC, settings locked.
absl::StatusOr<std::unique_ptr<DuckDatabase>> OpenInstance(const EngineOptions& options,
                                                           int threads);
// The same in two steps, for who learns only later how many threads are of use: before
// LockSettings() nothing of users' may run on it.
absl::StatusOr<std::unique_ptr<DuckDatabase>> OpenUnlockedInstance(const EngineOptions& options,
                                                                   int threads);
absl::Status LockSettings(DuckDatabase& instance);

// The domain's snapshots, within what it may have of the disk.
SnapshotStore OpenStore(const EngineOptions& options);

// Attaches a snapshot read-only, ready to be asked.
absl::StatusOr<std::shared_ptr<ServedSlice>> OpenSnapshot(DuckDatabase& instance,
                                                          const SnapshotStore& store,
                                                          const SnapshotManifest& manifest);

// The same of a file that is the snapshot's under another name.
absl::StatusOr<std::shared_ptr<ServedSlice>> OpenSnapshot(DuckDatabase& instance,
                                                          const std::string& file,
                                                          const SnapshotManifest& manifest);

// The same of the newest good snapshot of `spec`'s generation that can be attached; one that cannot
// is noted and passed over from now on. NOT_FOUND when there is none. INTERNAL when DuckDB broke
// over one: the process must end, and the next one takes another.
absl::StatusOr<std::shared_ptr<ServedSlice>> OpenNewestSnapshot(DuckDatabase& instance,
                                                                const SnapshotStore& store,
                                                                const GenerationSpec& spec);

// OpenSnapshot(), where what cannot be attached is noted.
absl::StatusOr<std::shared_ptr<ServedSlice>> OpenOrNote(DuckDatabase& instance,
                                                        const SnapshotStore& store,
                                                        const SnapshotManifest& manifest);

// The snapshot of `spec`'s generation to read for `use`: the newest good one, or the one that it
// starts from.
absl::StatusOr<SnapshotManifest> FindSnapshot(const SnapshotStore& store,
                                              const GenerationSpec& spec, SnapshotUse use);

// Reads quarantine tables, overflow included.
absl::StatusOr<QuarantinePage> ReadQuarantine(DuckDatabase& instance, const ServingSet& slices,
                                              const std::string& domain, const std::string& slice,
                                              int64_t after, int64_t page_size);

// Sets what is acknowledged of a snapshot's quarantine; a generation does so itself.
absl::Status SetAcknowledged(DuckDatabase& instance, const PositionRanges& acknowledged,
                             ServedSlice& slice);

// Engine::Locate over the slices that answer.
std::vector<RecordStanding> LocateRecord(DuckDatabase& instance, const ServingSet& slices,
                                         int64_t position);

// limits.query_timeout of the file, else the option's.
absl::Duration QueryTimeout(const EngineOptions& options, const DomainDef& definition);

// How long a question may take: limits.query_timeout of the serving generations' files (the
// longest, when one of them still stands at an older file), else the option's.
absl::Duration QueryTimeout(const EngineOptions& options, const Assignment& assignment);

// The options of a role's query service; `past` may be null.
QueryOptions MakeQueryOptions(const EngineOptions& options, PastSnapshots* past);

// What NameSnapshot and questions say of a slice that has nothing to show, or is not there.
absl::Status NoSnapshotYet(const ServedSlice& slice);
absl::Status NoSuchSlice(const std::string& domain, const std::string& slice);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_ROLE_ENGINE_H_
