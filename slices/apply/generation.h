// One build of a slice: an attached in-memory database with the slice's state, the connection that
// alone writes it, and its inputs. Beside the plan's tables (slices/plan/plan.h) it has
//   __progress    one row, struct Progress; changed in one transaction with the data
//   __quarantine  the records that could not be taken, by reference
//   __layout      one row: a hash of the plan's tables, so that a snapshot of others is not taken
//                 on; and `run`, another each time that the generation is opened
//   __changes     what it changed lately, for slices that read it (slices/plan/change_feed.h)
//   __built_from  the runs of the generations of slices that its rows were made of
#ifndef ICEPIE_SLICES_APPLY_GENERATION_H_
#define ICEPIE_SLICES_APPLY_GENERATION_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "slices/apply/apply_statements.h"
#include "slices/apply/batch_relation.h"
#include "slices/apply/engine_types.h"
#include "slices/apply/feed.h"
#include "slices/apply/input_counts.h"
#include "slices/apply/quarantine_budget.h"
#include "slices/apply/record_batch.h"
#include "slices/duckdb/bound_numbers.h"
#include "slices/duckdb/duckdb.h"
#include "slices/plan/plan.h"
#include "slices/query/served_slice.h"

namespace icepie::slices {

// The columns of __progress, in the order of struct Progress.
extern const char kProgressColumns[];
Progress ReadProgressRow(const CellRow& row);

// A hash of the tables and views that a state is kept in, and of what is kept there. What was saved
// with another one cannot be gone on from.
std::string LayoutOf(const SlicePlan& slice);

// Facts of a planned slice as reports and manifests carry them.
GenerationInfo MakeGenerationInfo(const DomainPlan& plan, const SlicePlan& slice, int64_t number);

// Records that end the process when they are applied.
struct SuspectRecords {
  std::set<int64_t> deadly;  // known ones: quarantined untried
  // One of those in [probe_begin, probe_end) is: so many go into one transaction, or are tried in
  // front of a recompute. 0: none is.
  int64_t probe_begin = 0;
  int64_t probe_end = 0;
  int64_t probe_records = 0;

  // Whether any of these positions (not empty, ascending) is concerned.
  bool Touch(const std::vector<int64_t>& positions) const;
  size_t Next(const std::vector<int64_t>& positions) const;
};

// Threads: one at a time. During a recompute that is the thread that finishes it.
// Errors: RESOURCE_EXHAUSTED, UNAVAILABLE: the engine's, may pass; INTERNAL: the process must end;
//   FAILED_PRECONDITION/QUARANTINE_OVER_BUDGET, POISON: stopped in front of the record that broke
//   the budget, or that is bad while on_bad_record says fault; INVALID_ARGUMENT: its SQL fails on
//   the data, and no record of its own streams is to blame; ABORTED: such records were found, and
//   the next attempt leaves them out, or goes on to try suspected ones. After any error the state
//   is that of the last commit.
class Generation {
 public:
  // A new generation, empty or copied from a snapshot file. Sources become temporary views;
  // SetUpstream() must follow when the slice reads slices. `definition_hash` is what it and its
  // snapshots are known by, when another version of the planner gave it; empty: the plan's. A large
  // snapshot takes a while: what `opening` returns lives as long as the connection may be
  // interrupted meanwhile.
  using Opening = std::function<std::shared_ptr<void>(DuckConnection& connection)>;
  static absl::StatusOr<std::unique_ptr<Generation>> Open(DuckDatabase& instance,
                                                          std::shared_ptr<const DomainPlan> plan,
                                                          const std::string& slice, int64_t number,
                                                          const std::string& snapshot_file,
                                                          const std::string& definition_hash = "",
                                                          const Opening& opening = nullptr);

  const SlicePlan& plan() const { return *slice_plan_; }
  const std::shared_ptr<const DomainPlan>& domain_plan() const { return domain_plan_; }
  const SliceDef& definition() const { return *definition_; }
  // Takes refresh, budget and the like from a later file, in which the slice has the same hash. Not
  // during a recompute.
  void SetDefinition(std::shared_ptr<const DomainPlan> plan);
  void SetSuspects(SuspectRecords suspects);
  // For how long at least one attempt looks for the records on which the SQL fails, and how long it
  // tries suspected ones.
  void SetSearchTimeMin(absl::Duration time) { search_time_min_ = time; }
  const std::set<std::string>& streams() const { return streams_; }
  bool incremental() const { return slice_plan_->strategy != Strategy::kRecompute; }
  const std::string& alias() const { return database_->alias(); }
  const std::shared_ptr<AttachedDatabase>& database() const { return database_; }
  ServedSlice& served() const { return *served_; }
  const std::shared_ptr<ServedSlice>& served_ptr() const { return served_; }

  // Bad records at these positions neither count against the budget nor stop the slice. Not during
  // a recompute.
  absl::Status SetAcknowledged(PositionRanges acknowledged);

  const Progress& progress() const { return progress_; }
  // Including what was passed over.
  int64_t position() const { return position_; }
  void PassTo(int64_t position);
  // The newest snapshot has its rows, also where they were made anew at one position, and stands
  // as far.
  bool HasSavedAll() const {
    return served().snapshot_position() >= position() && served().HasSaved(progress());
  }
  // Makes the passed-over position durable with the next snapshot.
  absl::Status WritePosition();
  // Of a new one that takes the place of a state of the same generation that had other rows: none
  // of its versions will be one that the other had up to `content_version`.
  absl::Status StartBeyond(int64_t content_version);

  // To be called now and then: when the last large batch was run before `before` (as SteadyNow()),
  // lets go of what the statements have built of it (hash tables of its rows), which DuckDB keeps
  // as long as they are prepared.
  void LetGoOfBatch(absl::Time before);

  // Lets the SQL read upstream slices from these generations.
  struct Upstream {
    std::string alias;
    int64_t number = 0;
    std::string run;
    std::string run_before;  // of the snapshot that it was opened from
    int64_t opened_at = 0;   // position
    // How often its table __changes has been replaced.
    std::shared_ptr<const std::atomic<int64_t>> replacements = nullptr;
    bool operator==(const Upstream& other) const { return run == other.run; }
  };
  Upstream AsUpstream() const {
    return {alias(), served_->info().number, run_, run_before_, opened_at_, changes_replaced_};
  }
  // After a recompute: AsUpstream() goes by the rows that it has made.
  void TakeRun() {
    if (!stored_run_.empty()) run_ = std::exchange(stored_run_, "");
  }
  absl::Status SetUpstream(const std::map<std::string, Upstream>& upstream);
  // They may have other rows than its own were made of, at the same position: it has to be computed
  // anew. SetUpstream() finds that out where it has seen both. Not during a recompute.
  void NoteOtherRowsBelow() { other_rows_below_ = true; }
  bool other_rows_below() const { return other_rows_below_; }

  // Whether its rows were made from the upstream generations that are set now: in this run, or in
  // the one whose snapshots they and this one were opened from. A run that applies records again
  // may add up doubles in another order; so none of them may have been opened behind this one.
  absl::StatusOr<bool> FitsUpstream();

  // ---- Over slices, without recompute (plan().reads_changes) ----

  // Takes over what its upstream slices changed since position(), which must stand at `to`, and the
  // records of its own streams in between: from `batch`, or without one from `feed`. The newest
  // ingest time below it of what it reads is that of these, or `applied_time_us` of the slices.
  // Records of its own streams that its SQL fails on are quarantined; what fails without any of
  // them is returned.
  absl::Status ApplyChanges(Feed& feed, const RecordBatch* batch, int64_t to,
                            int64_t applied_time_us);

  // Whether that has looked for such records, which takes a while.
  bool has_searched() const { return has_searched_; }

  // The row of a slice on which that failed first since it last succeeded, for people
  // (generation_blame.cc); "" when that is not one alone.
  const std::string& blame() const { return blame_; }

  // ---- For such slices to read (plan().hands_out_changes) ----

  enum class Changes {
    kNone,    // nothing has changed since
    kLogged,  // __changes has what has
    kLost,    // something has that it lacks
  };
  Changes ChangesSince(int64_t position) const;
  // From the next transaction on only what changes then is logged, or, when it is not `wanted`,
  // nothing.
  void RestartChanges(bool wanted);
  // From the next transaction on what changes is logged, besides what has been.
  void KeepChanges();
  // Goes on with another plan of the same definition, which may hand out changes.
  absl::Status TakeOn(std::shared_ptr<const DomainPlan> plan);

  // Applies the batch's records from position() on, at most `records_max` in one transaction. For
  // those that are kept fresh record by record.
  absl::Status Apply(const RecordBatch& batch, int64_t records_max);
  // As Apply(), but only the first of its transactions; what is left begins at position().
  absl::Status ApplyPart(const RecordBatch& batch, int64_t records_max);

  // ---- Quarantined records, tried again (generation_retry.cc) ----

  // Whether its records may be applied in any order, so that one can be taken out of quarantine
  // without building all anew: what it keeps of them goes by position, not by arrival, and nothing
  // has been let go that such a record may need.
  absl::StatusOr<bool> TakesAnyOrder() const;
  // The records at these positions (ascending), which it has not come to yet, go into quarantine
  // untried and beside the budget. An empty list: no more do. Not during a recompute.
  absl::Status HoldBack(std::vector<int64_t> positions);
  // Applies the records at these positions (ascending; `batch` holds them), which are in
  // quarantine, where it stands; what cannot be taken goes back there, and the budget holds for it.
  // Needs TakesAnyOrder(). After an error of Apply() the state is of no more use.
  absl::Status TakeQuarantined(const RecordBatch& batch, const std::vector<int64_t>& positions);

  // Is asked within the transaction of each batch, where the rows that it changes can be had
  // (SlicePlan::batch_rows): an error undoes the batch and is Apply's.
  using BatchCheck = std::function<absl::Status(DuckConnection& connection, const std::string& rows,
                                                int64_t position)>;
  void SetBatchCheck(BatchCheck check) { batch_check_ = std::move(check); }

  // Begins the transaction of a recompute; upstream slices are then seen as they stand now. ABORTED
  // from the other half wants both again.
  absl::Status BeginRecompute(const std::vector<std::string>& upstream_now);
  // Replaces all rows by those at `position` and commits. `applied_time_us`: as for ApplyChanges().
  // When its SQL fails on data, some of its records are tried out, up to three minutes or a dozen
  // runs: ABORTED when it may go on without those that were found.
  absl::Status FinishRecompute(Feed& feed, int64_t position, int64_t applied_time_us);
  void AbandonRecompute() { Rollback(); }
  // Makes the statement that runs now end with DEADLINE_EXCEEDED. Threads: any.
  void Interrupt() { connection_->Interrupt(); }
  // Is called in front of each such run on some of the records. Not during a recompute.
  void SetOnTrial(std::function<void()> called) { on_trial_ = std::move(called); }
  // Is called in front of each transaction; null: no more. Not during a recompute.
  void SetOnTransaction(std::function<void()> called) { on_transaction_ = std::move(called); }

 private:
  Generation() = default;
  absl::Status Create(const std::string& snapshot_file);
  absl::Status CreateTables();
  absl::Status Restore(const std::string& snapshot_file);
  std::string Layout() const;
  absl::Status CreateInputs();
  absl::Status PrepareProgress();
  absl::Status ReadProgress();

  std::vector<int64_t> WithHeldBack(const std::vector<int64_t>& excluded, int64_t from,
                                    int64_t to) const;
  absl::Status ForgetQuarantined(const std::vector<int64_t>& positions);
  absl::Status ApplySuspects(const RecordBatch& batch, const std::vector<int64_t>& positions);
  absl::Status ApplyRange(const RecordBatch& batch, int64_t from, int64_t to);
  absl::Status TryRange(const RecordBatch& batch, int64_t from, int64_t to,
                        const std::vector<int64_t>& excluded, const std::string& excluded_error);
  using SupplyOf = std::function<SourceInput::OpenSupply(const std::string& stream)>;
  absl::Status SetRecords(const SupplyOf& supply, const std::vector<int64_t>& excluded);
  std::vector<InputCounts> CountInputs() const;
  absl::Status RunBatch(const RecordBatch& batch, int64_t from, int64_t to,
                        const std::vector<int64_t>& excluded);
  enum class Planned { kBefore, kNow };
  absl::Status RunStatements(std::optional<int64_t> changes_at, Planned planned);
  absl::Status NoteRun();
  absl::Status CheckKeptRows();
  absl::Status CountLate(Progress& progress);
  absl::Status LetGo(const Progress& written);
  absl::Status BeginChanges();
  absl::Status BoundChanges();
  absl::StatusOr<int64_t> CountRows(std::unique_ptr<DuckStatement>& counter, const char* table);
  absl::Status ReplaceChanges();
  absl::Status ConnectUpstream();
  absl::Status TakeUpstreamChanges();
  absl::Status ShowWholeUpstream();
  absl::Status PrepareBatch();
  absl::Status TryChanges(Feed& feed, const RecordBatch* batch, int64_t to,
                          int64_t applied_time_us);
  absl::Status FoldChanges(Feed& feed, const RecordBatch* batch, int64_t from, int64_t to);
  // Of the new rows in an upstream's log of changes behind position().
  struct ChangedRows {
    std::string slice;
    int64_t first = 0;
    int64_t count = 0;
  };
  absl::Status TakeSome(const ChangedRows& only);
  std::optional<ChangedRows> FindFailingRow(Feed& feed, ChangedRows among);
  absl::StatusOr<std::string> NameRow(const ChangedRows& row);
  absl::StatusOr<std::string> FindBlame(Feed& feed);
  void NoteBlame(Feed& feed);
  // What its SQL says of its own records in [begin, end); nothing of that stays.
  using Trial = std::function<absl::Status(int64_t begin, int64_t end)>;
  absl::Status TryOut(const std::function<absl::Status()>& run);
  absl::Status TryOutChanges(Feed& feed, const RecordBatch* batch, int64_t from, int64_t to,
                             const std::optional<ChangedRows>& only);
  // Its own records in [from, end), which its SQL fails on together with those in [base, from).
  struct Suspects {
    int64_t base = 0;
    int64_t from = 0;
    int64_t end = 0;
    absl::Status error;
    Trial run;  // within a transaction; null: its upstream slices do not change meanwhile
  };
  absl::Status FindCulprits(const Trial& trial, const Suspects& among, const SupplyOf& supply,
                            bool anew);
  absl::StatusOr<std::string> UpstreamContent();
  absl::Status ProveCulprits(const std::map<int64_t, std::string>& known, const Trial& run);
  absl::Status SearchCulprits(const Trial& trial, const Suspects& among);
  struct Alone {
    std::vector<int64_t> fail;
    bool others_pass = false;  // some have been taken, now or before
  };
  absl::Status LookForOthers(const Trial& trial, int64_t from, int64_t end, Alone& alone) const;
  absl::Status FindAlone(const Trial& trial, int64_t from, int64_t end, bool fails,
                         Alone& alone) const;
  bool TookRecords() const;
  absl::Status JudgeCulprits(const SupplyOf& supply, bool anew);
  absl::Status FindCulpritsOfRun(Feed& feed, int64_t position, const absl::Status& error);
  absl::Status FindCulpritsOfChanges(Feed& feed, const RecordBatch* batch, int64_t to,
                                     const absl::Status& error);
  absl::Status ReadCulprits();
  void SetSearchTime(absl::Duration run);
  void RenewSearchTime();
  std::vector<int64_t> LeftOut() const;
  bool FoundEnough(size_t count) const;
  absl::Status ProbeDeadly(const Trial& trial, int64_t from, int64_t end);
  absl::Status ProbeRun(Feed& feed, int64_t position);
  bool ProbesDeadly(int64_t from, int64_t end) const;
  std::string FlightSubject() const;
  absl::Status RunAll(const std::vector<ApplyStatement>& statements);
  absl::Status WriteBuiltFrom();
  absl::Status Halve(const RecordBatch& batch, int64_t from, int64_t to, const absl::Status& error);
  absl::StatusOr<std::optional<size_t>> FirstOver(const std::vector<QuarantinedRecord>& bad,
                                                  bool anew);
  absl::StatusOr<std::vector<QuarantinedRecord>> ReadBudgeted(
      const std::vector<QuarantinedRecord>& bad);
  absl::Status StopAt(const RecordBatch& batch, int64_t from,
                      const std::vector<QuarantinedRecord>& bad, size_t first);
  absl::Status Poison(const QuarantinedRecord& record) const;
  absl::Status Recompute(Feed& feed, int64_t position, int64_t applied_time_us);
  absl::Status RunWhole(Feed& feed, int64_t from, int64_t to);
  std::vector<QuarantinedRecord> BadRecords(const std::vector<int64_t>& excluded,
                                            const std::string& excluded_error) const;
  Progress Advanced(Progress from, int64_t to, size_t bad) const;
  absl::Status CheckAllListed(const std::vector<QuarantinedRecord>& bad);
  absl::Status OverBudget(const std::vector<QuarantinedRecord>& over);
  absl::Status WriteQuarantine(const std::vector<QuarantinedRecord>& bad);
  void SetUnacknowledged(int64_t count);
  absl::Status WriteProgress(const Progress& progress);
  absl::Status CommitProgress(const Progress& next);
  absl::Status ReadUnacknowledged(PositionRanges acknowledged);
  absl::Status Begin();
  absl::Status Commit(const Progress& written);
  void ForgetTransaction();
  void Rollback();
  absl::Status Settle();

  struct Input {
    const SourceDef* source = nullptr;
    std::unique_ptr<SourceInput> input;
  };

  DuckDatabase* instance_ = nullptr;
  std::shared_ptr<const DomainPlan> domain_plan_;
  const SlicePlan* slice_plan_ = nullptr;
  std::shared_ptr<const DomainPlan> definition_plan_;  // of definition_
  const SliceDef* definition_ = nullptr;
  std::set<std::string> streams_;
  std::shared_ptr<ServedSlice> served_;
  std::shared_ptr<AttachedDatabase> database_;
  std::unique_ptr<DuckConnection> connection_;
  std::vector<Input> inputs_;
  bool reads_stream_twice_ = false;
  // Of the records that are set now, with reads_stream_twice_: those that are bad for an input.
  std::map<int64_t, QuarantinedRecord> bad_for_any_;
  std::unique_ptr<ApplyStatements> statements_;
  BatchCheck batch_check_;
  std::function<void()> on_transaction_;
  std::function<void()> on_trial_;
  std::unique_ptr<DuckStatement> read_progress_;
  std::map<std::string, Upstream> upstream_;
  bool other_rows_below_ = false;
  std::string run_;
  std::string stored_run_;  // by a recompute, until TakeRun()
  std::string run_before_;
  int64_t opened_at_ = 0;
  // The log of changes: it has all that changed since the rows of position changes_base_.
  bool changes_restart_ = true;
  bool changes_begun_ = false;  // in this transaction
  bool changes_lost_ = false;
  bool changes_wanted_ = true;
  int64_t changes_base_ = 0;
  int64_t changes_rows_ = 0;                // in its table, also of before
  std::optional<int64_t> changes_counted_;  // in this transaction
  bool changes_replaced_now_ = false;       // likewise
  std::shared_ptr<std::atomic<int64_t>> changes_replaced_ =
      std::make_shared<std::atomic<int64_t>>(0);
  // What the upstream slices have changed, as the statements see it.
  struct UpstreamChanges {
    std::unique_ptr<DuckStatement> select;
    int64_t replacements = 0;  // of the table that `select` was prepared for
    std::unique_ptr<BatchRelation> rows;
  };
  std::map<std::string, UpstreamChanges> upstream_changes_;
  int64_t upstream_rows_ = 0;  // taken over
  std::string blame_;
  absl::Duration search_time_min_ = absl::Seconds(10);
  absl::Duration search_time_;
  bool has_searched_ = false;
  absl::Time search_until_;  // how long it, or records, are looked for
  absl::Time search_end_;    // then the caller has its turn, whatever is left to be found
  // Records of its own streams that its SQL fails on, with the errors, until they are in
  // quarantine.
  std::map<int64_t, std::string> culprits_;
  bool tries_all_anew_ = false;  // records below progress_ may be such, too
  std::unique_ptr<DuckStatement> count_changes_;
  std::unique_ptr<DuckStatement> count_kept_;
  bool catalog_changed_ = false;                     // since statements were prepared
  absl::Time large_batch_ = absl::InfiniteFuture();  // when they ran the last; not since: future
  bool unsettled_ = false;  // what the last transaction has come to is not known
  // The applied_time_us at which `retain` deleted last, and whether this transaction does.
  int64_t let_go_at_us_ = 0;
  bool lets_go_ = false;
  std::unique_ptr<BoundNumbers> progress_to_write_;  // in the order of kProgressColumns
  std::unique_ptr<DuckStatement> write_progress_;
  std::unique_ptr<DuckStatement> write_quarantine_;
  PositionRanges acknowledged_;
  int64_t unacknowledged_ = 0;  // in quarantine
  SuspectRecords suspects_;
  int64_t probe_next_ = 0;                // those before it do not end the process alone
  std::vector<int64_t> held_back_;        // ascending
  PositionRanges acknowledged_of_slice_;  // without those that are held back
  Progress progress_;
  int64_t position_ = 0;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_APPLY_GENERATION_H_
