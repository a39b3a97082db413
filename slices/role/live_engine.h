// The live role. One apply thread owns the generations: it takes batches from the tracks, applies
// them to each generation that needs them, starts recomputes and snapshots, and takes on changed
// assignments between two batches. Queries run beside it on connections of their own.
#ifndef ICEPIE_SLICES_ROLE_LIVE_ENGINE_H_
#define ICEPIE_SLICES_ROLE_LIVE_ENGINE_H_

#include <atomic>
#include <cstdint>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/base/mutex.h"
#include "slices/apply/batch_check_watch.h"
#include "slices/apply/batch_size.h"
#include "slices/apply/generation.h"
#include "slices/apply/recompute_runner.h"
#include "slices/apply/track.h"
#include "slices/definition/cron.h"
#include "slices/expectation/expectation_gate.h"
#include "slices/role/engine.h"
#include "slices/snapshot/snapshot_writer.h"

namespace icepie::slices {

class LiveEngine : public Engine {
 public:
  // `feed` must outlive the engine.
  static absl::StatusOr<std::unique_ptr<LiveEngine>> Start(const EngineOptions& options,
                                                           Feed& feed);
  ~LiveEngine() override;

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
  void NameSnapshot(const std::string& slice, SnapshotName name, NameDone done) override;
  void Shutdown() override;

 private:
  // Recomputes take at most a fifth of the time.
  static constexpr int kRestPerWork = 4;
  // So far from the head, batches follow one another without a rest.
  static constexpr int64_t kBehindRecords = 16384;

  static constexpr int64_t kBatchRecordsMax = BatchSize::kMost;
  static constexpr int64_t kSmallestBatch = 256;
  // A slice takes no longer of a batch that others wait for too (live_engine_shares.cc).
  static constexpr absl::Duration kShareOfBatch = absl::Seconds(1);

  // A generation as the apply thread keeps it.
  struct Held {
    GenerationSpec spec;
    std::shared_ptr<ServedSlice> served;
    std::shared_ptr<Generation> generation;  // null: it could not be opened (HELD)
    Track* track = nullptr;                  // null: applies nothing now
    bool complete = false;                   // has a whole state to answer from
    std::optional<int64_t> backfill_target;
    bool heard_head = false;  // since it was opened or thawed (HearHead)
    // Faults.
    bool unopened = false;  // for something that may pass: it is opened at next_retry
    bool stopped_for_good = false;
    bool failed_on_data = false;  // a recompute, of the inputs below `tried`
    int64_t tried = 0;
    bool took_too_long = false;               // a recompute
    std::optional<absl::Status> over_budget;  // has to be recomputed from now on
    int failures = 0;
    absl::Time next_retry = absl::InfinitePast();
    int64_t records_max = 0;
    BatchSize at_once;                             // but no more than records_max
    SliceState stopped_state = SliceState::kHeld;  // with stopped_for_good
    // Snapshots.
    absl::Time saved_time = absl::InfinitePast();
    absl::Duration unsaved_work;  // of the processor, by applying since: a restart does it again
    // Expectations (live_engine_expectations.cc). While `unconfirmed`, its own rows are not
    // answered from: `served` is then its last good snapshot, if it has one.
    std::shared_ptr<ExpectationGate> gate;  // null without a generation
    bool held_back = false;                 // HELD by a failed expectation
    int64_t saved_to = -1;                  // its newest snapshot when one was last looked for
    absl::Time next_look = absl::InfiniteFuture();
    bool unconfirmed = false;  // no check has passed yet
    bool recheck = false;      // a waiver has ended
    int checks_stopped = 0;    // in a row, by the domain's limits
    absl::Time next_check = absl::InfinitePast();
    int64_t confirm_at = 0;  // the check has to be of rows at least this far
    int64_t rounds_seen = 0;
    int64_t rounds_asked = -1;
    int64_t notes_seen = 0;
    bool redefine = false;           // its file has changed while it was in a run
    bool stopped_at_record = false;  // by the quarantine's budget, or a poison record
    SnapshotSchedule schedule;
    std::optional<CronSchedule> schedule_cron;
    absl::Time next_named = absl::InfiniteFuture();
    std::optional<absl::Time> missed_named;  // that was due then and could not be made
    int missed_times = 0;
    absl::Time next_try = absl::InfiniteFuture();  // to make it; as SteadyNow()
    // Recompute.
    bool dirty = true;  // inputs may have changed unseen
    bool forced = false;
    bool in_run = false;
    absl::Duration took;  // the last run
    absl::Duration rest;  // between it and the next one
    absl::Time behind_since = absl::InfiniteFuture();
    absl::Time next_start = absl::InfinitePast();
    absl::Time next_refresh = absl::InfiniteFuture();
    std::optional<CronSchedule> cron;
    int64_t refreshes = 0;  // that have come due and are done
    int64_t followed = 0;   // those of `refresh: {after}` that it has seen
    std::map<std::string, Generation::Upstream> upstream;
    // Over slices without recompute: it has to be made from their whole state once.
    bool rebuild = false;
    int64_t looks_from = 0;  // records of its own streams from here on have been noted
    bool searches = false;   // for records on which its SQL fails, when it last followed
    std::string blocked_by;  // as last reported
    int depth = 0;

    bool over_slices() const { return generation != nullptr && generation->plan().reads_changes; }
    bool recompute() const {
      return generation != nullptr && (!generation->incremental() || rebuild);
    }
    bool active() const { return generation != nullptr && !spec.frozen && !stopped_for_good; }
  };

  struct PendingName {
    std::string slice;
    SnapshotName name;
    NameDone done;
  };

  struct PendingRefresh {
    std::string slice;
    int64_t min_position = 0;
    absl::Time deadline;
    RefreshDone done;
    int64_t position = -1;  // that it has to reach, once it is known
  };

  LiveEngine(EngineOptions options, Feed& feed);

  // The apply thread.
  void Loop();
  bool WaitForWork();
  void Turn();
  void Wake();
  void EndWhenStuck() const;

  // Assignments.
  void Reconcile(const Assignment& assignment);
  void Adopt(Held& held, const GenerationSpec& spec);
  std::unique_ptr<Held> OpenHeld(const GenerationSpec& spec, const Held* before = nullptr);
  void OpenLater(Held& held, const absl::Status& why);
  void StepOpen();
  absl::Status OpenGeneration(Held& held);
  void SetSchedule(Held& held);
  absl::StatusOr<std::shared_ptr<const DomainPlan>> PlanFor(
      const GenerationSpec& spec, const absl::StatusOr<SnapshotManifest>& snapshot);
  void Override(const GenerationSpec& spec, const std::string& why);
  void RecomputeFromNow(Held& held, const absl::Status& why);
  void Reopen(Held& held, const absl::Status& why);
  void StepOverrides();
  void ReportHeld() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::shared_ptr<const DomainPlan>> PlanOf(const std::string& file);
  using PlanFuture = std::future<absl::StatusOr<DomainPlan>>;
  void BeginPlans(const Assignment& assignment);
  struct Opened {
    absl::StatusOr<SnapshotManifest> snapshot;
    bool fits = false;  // its tables are those of the plan
    std::unique_ptr<Generation> generation;
    absl::Status restored;  // an error: the generation is empty
  };
  absl::StatusOr<Opened> OpenFrom(const GenerationSpec& spec,
                                  absl::StatusOr<SnapshotManifest> snapshot);
  absl::StatusOr<Opened> NoteUnusable(const GenerationSpec& spec,
                                      const absl::StatusOr<SnapshotManifest>& snapshot,
                                      absl::StatusOr<Opened> opened);
  absl::StatusOr<Opened> OpenNewest(const GenerationSpec& spec);
  absl::StatusOr<std::shared_ptr<ServedSlice>> OpenLast(const GenerationSpec& spec) const;
  void NoteDamage(const Held& held, const absl::StatusOr<SnapshotManifest>& used) const;
  void Hold(Held& held, const absl::Status& why);
  void HoldOrOpenLater(Held& held, const absl::Status& why);

  // Suspended slices (live_engine_suspension.cc).
  static bool OpensAnew(const Held& held, const GenerationSpec& spec);
  void Suspend(Held& held);
  static void SetSuspects(Held& held);
  void StepSuspended();
  void KeepSnapshotOnly(Held& held);
  void ServeSnapshot(Held& held);
  void ConnectUpstream();
  absl::Status Connect(Held& held, const std::map<std::string, Generation::Upstream>& upstream);
  void PublishServing();
  void Freeze(Held& held);
  Held* Serving(const std::string& slice);
  Held* FindHeld(const GenerationSpec& spec);

  // Tracks.
  static TrackStreams StreamsOf(const Held& held);
  Track* AddTrack(const TrackStreams& streams, int64_t position);
  void PlaceOnTracks();
  void StartMainTrack(std::vector<Held*>& waiting);
  void JoinMain(Held& held);
  void LeadWith(Held& held);
  void MergeTracks();
  void RemoveTrack(Track* track);
  void NoteRecords(const RecordBatch& batch);

  // Applying.
  bool ApplyTrack(Track& track, int64_t records_max);
  bool ApplyBehind();
  int64_t RecordsAtOnce(const Track& track, int64_t records_max) const;
  absl::Status ApplyShare(Held& held, const RecordBatch& batch);
  bool MayFallBehind(const Held& held) const;
  bool ReadersFollow(const Held& held) const;
  void FallBehind(Held& held);
  void ApplyTo(Held& held, const RecordBatch& batch);
  int64_t NewestBelow(const Held& held);
  static bool MovesHorizon(const Held& held, int64_t newest_us);
  void FollowUpstream(const RecordBatch* batch);
  void FollowUpstream(Held& held, const RecordBatch* batch);
  absl::Duration SearchTime() const;
  bool MayHaveRecords(const Held& held, int64_t from) const;
  bool IsLogNeeded(const Held& upstream);
  void RestartChanges(Held& held);
  void Succeeded(Held& held);
  void Failed(Held& held, const absl::Status& status);
  void FailedOnData(Held& held, const absl::Status& status);
  static void TookTooLong(Held& held, const absl::Status& status);
  void RetryFailed();
  void Complete(Held& held);
  void UpdateStates();
  void NoteWaiting(Held& held);
  bool Late(Held& held);
  void HearHead(Held& held) const;
  static void StopAtDamage(const Held& held, const Track::Damage& damage);
  void Block(Held& held, const std::string& upstream);
  SliceState StateOf(Held& held);

  // Recomputing.
  void StepRecompute();
  void CollectRun();
  void ReadersAreBehind(const Held& held, const RecomputeRun& run);
  void PlanRun();
  bool Due(const Held& held, absl::Time now);
  bool FollowsLater(const Held& held);
  bool GoesAlong(const Held& held, const std::vector<Held*>& run);
  void Follow(Held& held, const std::vector<Held*>& run);
  bool Unchanged(const Held& held, const std::vector<Held*>& run);
  std::optional<int64_t> InputPosition(const Held& held, const std::vector<Held*>& run,
                                       int64_t run_position);
  // A slice that it reads and that is stopped, with its state; "" when there is none.
  std::string StoppedUpstream(const Held& held);
  void StartRun(const std::vector<Held*>& run, int64_t position);
  absl::Status BeginStep(Held& held, const std::vector<Held*>& run, RecomputeRun& out);
  void ScheduleNext(Held& held, absl::Time after);
  void LookAtClock();
  bool ComesToRun(const Held& held);
  static bool Refreshed(const Held& held, int64_t position);
  void AnswerRefreshes();

  // Expectations.
  void OpenExpectations(Held& held);
  void StepExpectations();
  void TakeResults(Held& held);
  static void CheckAtOnce(Held& held);
  void CheckWasStopped(Held& held, const absl::Status& why);
  void HoldBack(Held& held, const std::vector<ExpectationResult>& failing);
  void HeldByBatch(Held& held);
  void AnswerFromSnapshot(Held& held);
  void AnswerFromNewer(Held& held, absl::Time now);
  void ReleaseIfAllowed(Held& held);
  void Confirm(Held& held);
  void Redefine(Held& held);
  void TakeDefinition(Held& held);
  void StopAtRecord(Held& held, const absl::Status& status);
  void TryRecordAgain(Held& held);
  void TakeAcknowledged(Held& held);
  SnapshotCheck CheckOf(const Held& held) const;
  void CheckBatches(Held& held);
  OnStuckCheck HoldFor(const GenerationSpec& spec, const std::shared_ptr<ExpectationGate>& gate,
                       int64_t position) const;
  bool AwaitsCheck(const Held& held) const;
  void AskForCheck(Held& held, absl::Time now);

  bool RequestSnapshot(const Held& held, bool urgent);
  void StepSnapshots();
  void StepNames();
  bool StartNaming(const PendingName& pending);
  void SetSnapshotSchedule(Held& held) const;
  void StepSchedule(Held& held, absl::Time now);
  void StepScheduled();
  void LetGoOfBatches();
  void PublishReport();
  absl::Duration SleepTime() const;

  const EngineOptions options_;
  Feed& feed_;
  const SnapshotStore store_;
  const NamedSnapshots named_;
  std::unique_ptr<DuckDatabase> instance_;
  std::unique_ptr<PastSnapshots> past_;
  ServingSet serving_;
  std::unique_ptr<SnapshotWriter> snapshots_;
  std::unique_ptr<RecomputeRunner> recomputes_;

  // Of the apply thread.
  std::vector<std::unique_ptr<Held>> held_;
  std::vector<std::unique_ptr<Track>> tracks_;
  Track* main_ = nullptr;                                           // the one at the head
  std::map<std::string, std::shared_ptr<const DomainPlan>> plans_;  // by the file's text
  struct FailedPlan {
    absl::Status why;
    absl::Time until;  // as SteadyNow(): it is not made again before
  };
  std::map<std::string, FailedPlan> failed_plans_;  // likewise
  std::map<std::string, PlanOverrides> overrides_;  // likewise
  std::map<std::string, PlanFuture> planning_;      // likewise; without overrides
  std::map<std::string, int64_t> stream_end_;  // behind the newest record seen on the main track
  absl::Duration query_timeout_;               // of the assignment
  absl::Time next_batch_ = absl::InfinitePast();
  size_t next_behind_ = 0;   // of tracks_, where ApplyBehind() goes on
  absl::Duration searched_;  // for bad records of slices over slices, in this turn
  std::vector<PendingRefresh> refreshes_;
  std::vector<PendingName> names_;
  absl::Time clock_seen_ = absl::InfinitePast();  // the wall clock, at the last turn
  // Since when it works, as SteadyNow() in microseconds; 0: it waits. Read by Report, as these are.
  std::atomic<int64_t> turn_began_us_{0};
  std::atomic<int> apply_thread_{0};
  mutable BatchCheckWatch batch_checks_;

  mutable Mutex mutex_;
  CondVar work_;
  bool awake_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<Assignment> assignment_ ABSL_GUARDED_BY(mutex_);
  int64_t epoch_asked_ ABSL_GUARDED_BY(mutex_) = -1;
  int64_t epoch_ ABSL_GUARDED_BY(mutex_) = -1;
  int64_t head_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<PendingRefresh> new_refreshes_ ABSL_GUARDED_BY(mutex_);
  std::vector<PendingName> new_names_ ABSL_GUARDED_BY(mutex_);
  struct ScheduledEnd {
    absl::Time due;
    bool may_pass = false;  // why it could not be made
  };
  std::map<std::string, ScheduledEnd> new_scheduled_ ABSL_GUARDED_BY(mutex_);  // by slice
  std::vector<std::shared_ptr<ServedSlice>> reported_ ABSL_GUARDED_BY(mutex_);

  std::unique_ptr<QueryService> queries_;
  std::thread thread_;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_ROLE_LIVE_ENGINE_H_
