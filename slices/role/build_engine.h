// The build role: makes one new generation from raw, and privately the slices that it reads, in one
// process: up to the serving snapshot's position, compared with it row by row, then on to the head
// and saved as a snapshot of the new generation. Then it waits to be stopped. When quarantined
// records are tried again by an unchanged definition, it goes on from the serving snapshot itself,
// where that comes to the same, and applies only these.
//
// On its way it saves now and then what it builds record by record (build_engine_saves.cc). When
// its process has ended, the next one goes on from there.
#ifndef ICEPIE_SLICES_ROLE_BUILD_ENGINE_H_
#define ICEPIE_SLICES_ROLE_BUILD_ENGINE_H_

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/string_view.h"
#include "core/base/mutex.h"
#include "slices/apply/feed.h"
#include "slices/apply/generation.h"
#include "slices/apply/recompute_runner.h"
#include "slices/role/build_base.h"
#include "slices/role/engine.h"

namespace icepie::slices {

class BuildEngine : public Engine {
 public:
  // `feed` must outlive the engine.
  static absl::StatusOr<std::unique_ptr<BuildEngine>> Start(const EngineOptions& options,
                                                            Feed& feed);
  ~BuildEngine() override;

  // The first assignment with a build job starts it; its generation must be among the generations.
  void Configure(Assignment assignment) override;
  EngineReport Report() const override;
  void Ask(Question question, QueryService::Done done) override;
  void Refresh(const std::string& slice, int64_t min_position, absl::Time deadline,
               RefreshDone done) override;
  absl::StatusOr<QuarantinePage> ListQuarantined(const std::string& slice, int64_t after,
                                                 int64_t page_size) override;
  std::vector<RecordStanding> Locate(int64_t position) override {
    return LocateRecord(*instance_, serving_, position);
  }
  // FAILED_PRECONDITION: it serves nothing.
  void NameSnapshot(const std::string& slice, SnapshotName name, NameDone done) override;
  // Returns soon whatever runs: that is interrupted.
  void Shutdown() override;

 private:
  // Where it saves on its way, each in a folder of its own: to the base's position, for the
  // comparison perhaps without some records; there once more, with all; and on.
  static constexpr absl::string_view kToBase = "to_base";
  static constexpr absl::string_view kAgain = "again";
  static constexpr absl::string_view kToHead = "to_head";

  // While it lives, Shutdown() calls `interrupt` again and again; then what was called before.
  class Interruptible {
   public:
    Interruptible(const BuildEngine& engine, std::function<void()> interrupt);
    ~Interruptible();
    Interruptible(const Interruptible&) = delete;
    Interruptible& operator=(const Interruptible&) = delete;

   private:
    const BuildEngine& engine_;
    std::function<void()> before_;
  };

  BuildEngine(const EngineOptions& options, Feed& feed);
  void Run();
  absl::Status Build();
  absl::Status BuildOrRecompute();
  absl::Status OpenGenerations(const GenerationSpec& spec);
  absl::Status Equip(Generation& generation);
  absl::Status ConnectUpstream();
  absl::Status SettleThreads(const DomainPlan& plan, const std::string& slice);
  absl::Status AdvanceTo(int64_t position);
  absl::Status Follow(int64_t position);
  absl::Status ApplyAll(FeedReader& reader, std::set<std::string> streams, int64_t from,
                        int64_t position);
  absl::Status Within(Generation& generation, const std::string& what,
                      const std::function<absl::Status()>& apply);
  absl::Status ApplyWithin(Generation& generation, const RecordBatch& batch);
  absl::Status ApplyTo(Generation& generation, const RecordBatch& batch);
  // What is recomputed at one position, and slices over slices, which are made from those as they
  // stand at the end of a round, have nothing to save on the way.
  static bool FollowsRecords(const Generation& generation) {
    return generation.incremental() && !generation.plan().reads_changes;
  }
  int64_t Reached() const;
  void PutOffSaving(absl::Duration last_took);
  absl::Status SaveOnTheWay();
  static void RemoveFurther(const SnapshotStore& store, const Generation& generation);
  void ForgetWhatEndedOne() const;
  absl::Status TakeSaved(int64_t position);
  struct SavedState {
    SnapshotStore store;
    SnapshotManifest manifest;
  };
  std::vector<SavedState> SavedBelow(const Generation& generation, int64_t position) const;
  absl::StatusOr<std::shared_ptr<Generation>> OpenSaved(const Generation& generation,
                                                        int64_t position);
  absl::StatusOr<std::shared_ptr<Generation>> Restore(const Generation& generation,
                                                      const SavedState& saved);
  absl::Status CheckLeftOut(const std::string& file, const SnapshotManifest& manifest) const;
  absl::Status Recompute(int64_t position);
  absl::Status RunRecompute(const std::shared_ptr<Generation>& generation, int64_t position,
                            int64_t applied_time_us);
  absl::StatusOr<bool> ContinueBase(const GenerationSpec& spec);
  absl::Status ReachBase(const GenerationSpec& spec);
  absl::StatusOr<QuarantinedPositions> FindHeldBack(const GenerationSpec& spec);
  absl::StatusOr<std::vector<int64_t>> QuarantinedBefore(const std::string& slice);
  absl::Status TakeHeldBack(const GenerationSpec& spec, const QuarantinedPositions& held);
  absl::Status TakeQuarantined(Generation& generation, const std::vector<int64_t>& positions);
  absl::StatusOr<int64_t> CountTaken(const QuarantinedPositions& held) const;
  void Compare(int64_t taken);
  RecordReading Reader();
  absl::StatusOr<int64_t> Head();
  absl::Status Save();
  absl::Status CheckCopy(DuckConnection& connection, const std::string& alias,
                         SnapshotManifest& copy) const;
  void Progressed(int64_t position, int64_t target);
  void SetPhase(const std::string& phase);
  void Fail(const absl::Status& status);
  bool stopping() const;
  // The same, for those that ask again and again.
  std::function<bool()> given_up() const {
    return [this] { return stopping(); };
  }

  const EngineOptions options_;
  Feed& feed_;
  const SnapshotStore store_;
  std::unique_ptr<DuckDatabase> instance_;
  ServingSet serving_;  // the new generation, for its quarantine and for queries

  // Of the building thread.
  Assignment assignment_;
  BuildJob job_;
  PlanOverrides overrides_;
  bool threads_settled_ = false;
  int64_t records_max_ = 0;  // in one transaction
  std::unique_ptr<BuildBase> base_;
  absl::Status no_base_;
  std::vector<std::shared_ptr<Generation>> generations_;  // upstream first, the wanted one last
  bool continued_ = false;                                // from the base's state
  std::set<int64_t> deadly_;                              // of the slice's records
  QuarantinedPositions held_;                             // what is left out now
  absl::string_view stage_ = kToBase;
  absl::Time next_save_;  // as SteadyNow()

  mutable Mutex mutex_;
  CondVar recomputed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool started_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  CondVar ended_changed_;
  mutable std::function<void()> interrupt_ ABSL_GUARDED_BY(mutex_);
  int64_t epoch_ ABSL_GUARDED_BY(mutex_) = -1;
  int64_t head_ ABSL_GUARDED_BY(mutex_) = 0;
  BuildReport report_ ABSL_GUARDED_BY(mutex_);
  FeedReader* reader_ ABSL_GUARDED_BY(mutex_) = nullptr;

  std::unique_ptr<RecomputeRunner> recomputes_;
  std::unique_ptr<QueryService> queries_;
  std::thread thread_;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_ROLE_BUILD_ENGINE_H_
