#include "slices/apply/generation.h"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/base/check.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "slices/apply/flight_record.h"
#include "slices/duckdb/transaction.h"
#include "slices/plan/change_feed.h"
#include "slices/plan/retain_plan.h"
#include "slices/snapshot/snapshot_store.h"
#include "spdlog/spdlog.h"

namespace icepie::slices {

const char kProgressColumns[] =
    "applied_position, applied_time_us, event_time_max_us, input, applied, filtered, quarantined, "
    "content_version";

namespace {

// Of __changes; a slice that reads more is built anew.
constexpr int64_t kChangesMax = 1'000'000;
// Of __changes that nobody needs any more, before the table is replaced: that changes the catalog,
// after which every prepared statement has to be prepared anew.
constexpr int64_t kChangesKept = 16384;

// Of so many records; of fewer, preparing statements anew costs more than what they keep.
constexpr int64_t kLargeBatch = 1000;

constexpr char kCreateTables[] =
    "CREATE TABLE __progress(applied_position BIGINT, applied_time_us BIGINT, "
    "event_time_max_us BIGINT, input BIGINT, applied BIGINT, filtered BIGINT, "
    "quarantined BIGINT, content_version BIGINT);"
    "CREATE TABLE __quarantine(position BIGINT, stream VARCHAR, \"offset\" BIGINT, code VARCHAR, "
    "column_name VARCHAR, path VARCHAR, value VARCHAR, message VARCHAR);";

// Aliases are never used twice, so that a generation can be opened anew while old readers go on.
std::string NewAlias(const std::string& slice, int64_t number) {
  static std::atomic<int64_t> counter{0};
  return absl::StrCat("g", number, "_", slice, "_", ++counter);
}

void BindInt(const DuckStatement& statement, idx_t index, int64_t value) {
  duckdb_bind_int64(statement.handle(), index, value);
}

void BindText(const DuckStatement& statement, idx_t index, const std::string& value) {
  duckdb_bind_varchar_length(statement.handle(), index, value.data(), value.size());
}

constexpr char kEndsTheProcess[] = "applying it ended the worker's process again and again";

bool IsDataError(const absl::Status& status) {
  return status.code() == absl::StatusCode::kInvalidArgument;
}

std::string WholeLayoutOf(const SlicePlan& slice) {
  std::string layout = absl::StrJoin(slice.create, ";\n");
  if (!slice.kept_as.empty()) absl::StrAppend(&layout, ";\n", slice.kept_as);
  return Sha256Hex(layout);
}

}  // namespace

Progress ReadProgressRow(const CellRow& row) {
  ICEPIE_CHECK(row.size() == 8);
  auto value = [&](size_t index) { return std::get<int64_t>(row[index]); };
  return {value(0), value(1), value(2), value(3), value(4), value(5), value(6), value(7)};
}

std::string LayoutOf(const SlicePlan& slice) {
  constexpr size_t kHashCharacters = 16;
  return WholeLayoutOf(slice).substr(0, kHashCharacters);
}

GenerationInfo MakeGenerationInfo(const DomainPlan& plan, const SlicePlan& slice, int64_t number) {
  const SliceDef* definition = plan.definition.FindSlice(slice.slice);
  ICEPIE_CHECK(definition != nullptr);
  GenerationInfo info;
  info.slice = slice.slice;
  info.number = number;
  info.definition_hash = slice.definition_hash;
  info.strategy = StrategyName(slice.strategy);
  info.columns = slice.columns;
  info.key = definition->key;
  info.sql = definition->sql;
  info.overridden = slice.overridden;
  info.layout = LayoutOf(slice);
  for (const SourceUse& use : slice.sources) {
    info.reads.push_back(plan.definition.FindSource(use.source)->stream);
  }
  info.reads.insert(info.reads.end(), slice.upstream.begin(), slice.upstream.end());
  std::sort(info.reads.begin(), info.reads.end());
  info.reads.erase(std::unique(info.reads.begin(), info.reads.end()), info.reads.end());
  return info;
}

absl::StatusOr<std::unique_ptr<Generation>> Generation::Open(
    DuckDatabase& instance, std::shared_ptr<const DomainPlan> plan, const std::string& slice,
    int64_t number, const std::string& snapshot_file, const std::string& definition_hash,
    const Opening& opening) {
  std::unique_ptr<Generation> made(new Generation());
  made->instance_ = &instance;
  made->slice_plan_ = plan->Find(slice);
  made->definition_ = plan->definition.FindSlice(slice);
  made->domain_plan_ = std::move(plan);
  if (made->slice_plan_ == nullptr || made->definition_ == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("slice ", slice, ": not in the domain file of generation ", number));
  }
  GenerationInfo info = MakeGenerationInfo(*made->domain_plan_, *made->slice_plan_, number);
  if (!definition_hash.empty()) info.definition_hash = definition_hash;
  made->served_ =
      std::make_shared<ServedSlice>(info, made->domain_plan_->definition.limits.max_result_rows);
  const std::string alias = NewAlias(slice, number);
  ICEPIE_ASSIGN_OR_RETURN(made->connection_, DuckConnection::Connect(instance));
  const std::shared_ptr<void> interruptible = opening ? opening(*made->connection_) : nullptr;
  ICEPIE_RETURN_IF_ERROR(
      made->connection_->Run(absl::StrCat("ATTACH ':memory:' AS ", QuoteIdentifier(alias))));
  made->database_ = std::make_shared<AttachedDatabase>(instance, alias);
  ICEPIE_RETURN_IF_ERROR(made->Create(snapshot_file));
  return made;
}

absl::Status Generation::Create(const std::string& snapshot_file) {
  if (!snapshot_file.empty()) ICEPIE_RETURN_IF_ERROR(Restore(snapshot_file));
  ICEPIE_RETURN_IF_ERROR(connection_->Run(absl::StrCat("USE ", QuoteIdentifier(alias()))));
  if (snapshot_file.empty()) ICEPIE_RETURN_IF_ERROR(CreateTables());
  if (slice_plan_->hands_out_changes) ICEPIE_RETURN_IF_ERROR(connection_->Run(MakeChangesTable()));
  if (!slice_plan_->upstream.empty()) {
    // Snapshots of earlier versions lack it where the slice is recomputed.
    ICEPIE_RETURN_IF_ERROR(
        connection_->Run("CREATE TABLE IF NOT EXISTS __built_from(slice VARCHAR, run VARCHAR)"));
  }
  ICEPIE_RETURN_IF_ERROR(CreateInputs());
  ICEPIE_ASSIGN_OR_RETURN(write_quarantine_,
                          connection_->Prepare("INSERT INTO __quarantine VALUES ($1, $2, $3, $4, "
                                               "$5, $6, $7, $8)"));
  statements_ = std::make_unique<ApplyStatements>(*connection_, *slice_plan_);
  ICEPIE_RETURN_IF_ERROR(NoteRun());
  ICEPIE_RETURN_IF_ERROR(PrepareProgress());
  ICEPIE_RETURN_IF_ERROR(ReadProgress());
  position_ = opened_at_ = progress_.applied_position;
  RestartChanges(/*wanted=*/true);
  served_->Publish(progress_);
  served_->SetStorage(database_);
  return SetAcknowledged({});
}

absl::Status Generation::CreateTables() {
  ICEPIE_RETURN_IF_ERROR(connection_->Run(kCreateTables));
  ICEPIE_RETURN_IF_ERROR(connection_->Run(
      absl::StrCat("INSERT INTO __progress VALUES (0, 0, ", INT64_MIN, ", 0, 0, 0, 0, 0)")));
  for (const std::string& statement : slice_plan_->create) {
    ICEPIE_RETURN_IF_ERROR(connection_->Run(statement));
  }
  return connection_->Run(absl::StrCat("CREATE TABLE __layout AS SELECT ", QuoteLiteral(Layout()),
                                       " AS hash, '' AS run"));
}

absl::Status Generation::NoteRun() {
  // Snapshots of earlier versions have no column of it.
  const auto before = connection_->QueryText("SELECT run FROM __layout");
  if (before.ok()) run_before_ = *before;
  ICEPIE_ASSIGN_OR_RETURN(run_, connection_->QueryText("SELECT CAST(uuid() AS VARCHAR)"));
  return connection_->Run(absl::StrCat("CREATE OR REPLACE TABLE __layout AS SELECT ",
                                       QuoteLiteral(Layout()), " AS hash, ", QuoteLiteral(run_),
                                       " AS run"));
}

std::string Generation::Layout() const { return WholeLayoutOf(*slice_plan_); }

absl::Status Generation::Restore(const std::string& snapshot_file) {
  const std::string from = QuoteIdentifier(absl::StrCat("from_", alias()));
  ICEPIE_RETURN_IF_ERROR(SnapshotError(connection_->Run(
      absl::StrCat("ATTACH ", QuoteLiteral(snapshot_file), " AS ", from, " (READ_ONLY)"))));
  const absl::Status copied = SnapshotError(connection_->Run(
      absl::StrCat("COPY FROM DATABASE ", from, " TO ", QuoteIdentifier(alias()))));
  const absl::Status detached = connection_->Run(absl::StrCat("DETACH ", from));
  ICEPIE_RETURN_IF_ERROR(copied);
  ICEPIE_RETURN_IF_ERROR(detached);
  const absl::StatusOr<std::string> layout = connection_->QueryText(
      absl::StrCat("SELECT hash FROM ", QuoteIdentifier(alias()), ".main.__layout"));
  if (layout.ok() && *layout == Layout()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "snapshot ", snapshot_file, " has the tables of another version of the planner"));
}

absl::Status Generation::CreateInputs() {
  std::vector<std::string> streams;
  for (const SourceUse& use : slice_plan_->sources) {
    Input& input = inputs_.emplace_back();
    input.source = domain_plan_->definition.FindSource(use.source);
    ICEPIE_CHECK(input.source != nullptr);
    streams.push_back(input.source->stream);
  }
  streams_.insert(streams.begin(), streams.end());
  reads_stream_twice_ = ReadsStreamTwice(streams);
  for (size_t i = 0; i < inputs_.size(); ++i) {
    ICEPIE_ASSIGN_OR_RETURN(inputs_[i].input, SourceInput::Create(*connection_, *inputs_[i].source,
                                                                  slice_plan_->sources[i].columns,
                                                                  reads_stream_twice_));
  }
  return absl::OkStatus();
}

// A statement that was prepared in front of a change of the catalog is bound anew at each
// execution, which costs more than running it.
absl::Status Generation::PrepareProgress() {
  const std::vector<std::string> columns = absl::StrSplit(kProgressColumns, ", ");
  if (progress_to_write_ == nullptr) {
    ICEPIE_ASSIGN_OR_RETURN(progress_to_write_, BoundNumbers::Create(*connection_, columns.size()));
  }
  std::vector<std::string> assignments;
  for (size_t i = 0; i < columns.size(); ++i) {
    assignments.push_back(absl::StrCat(columns[i], " = ", progress_to_write_->Sql(i)));
  }
  ICEPIE_ASSIGN_OR_RETURN(write_progress_,
                          connection_->Prepare(absl::StrCat("UPDATE __progress SET ",
                                                            absl::StrJoin(assignments, ", "))));
  ICEPIE_ASSIGN_OR_RETURN(read_progress_, connection_->Prepare(absl::StrCat(
                                              "SELECT ", kProgressColumns, " FROM __progress")));
  return absl::OkStatus();
}

absl::Status Generation::ReadProgress() {
  ICEPIE_ASSIGN_OR_RETURN(DuckResult result, read_progress_->Execute());
  ICEPIE_ASSIGN_OR_RETURN(const std::vector<CellRow> rows, result.Cells());
  if (rows.size() != 1) return absl::DataLossError("__progress does not have one row");
  progress_ = ReadProgressRow(rows.front());
  return absl::OkStatus();
}

absl::Status Generation::SetUpstream(const std::map<std::string, Upstream>& upstream) {
  ICEPIE_RETURN_IF_ERROR(Settle());
  for (const auto& [slice, from] : upstream) {
    const auto before = upstream_.find(slice);
    if (before != upstream_.end() && before->second.number != from.number) NoteOtherRowsBelow();
  }
  upstream_ = upstream;
  for (const auto& [slice, from] : upstream) {
    ICEPIE_RETURN_IF_ERROR(connection_->Run(
        absl::StrCat("CREATE OR REPLACE TEMP VIEW ", QuoteIdentifier(slice), " AS SELECT * FROM ",
                     QuoteIdentifier(from.alias), ".main.__result")));
  }
  catalog_changed_ = true;
  return ConnectUpstream();
}

// From now on the statements see what TakeUpstreamChanges() takes.
absl::Status Generation::ConnectUpstream() {
  upstream_changes_.clear();
  if (!slice_plan_->reads_changes) return absl::OkStatus();
  for (const auto& [slice, from] : upstream_) {
    UpstreamChanges& changes = upstream_changes_[slice];
    changes.replacements = *from.replacements;
    ICEPIE_ASSIGN_OR_RETURN(changes.select, connection_->Prepare(SelectChanges(from.alias)));
    ICEPIE_ASSIGN_OR_RETURN(changes.rows,
                            BatchRelation::Create(*connection_, ChangesOf(slice), *changes.select));
  }
  return absl::OkStatus();
}

// In a transaction: what the upstream slices have changed since position_.
absl::Status Generation::TakeUpstreamChanges() {
  for (auto& [slice, changes] : upstream_changes_) {
    const Upstream& from = upstream_.at(slice);
    const int64_t replacements = *from.replacements;
    if (changes.replacements != replacements) {
      ICEPIE_ASSIGN_OR_RETURN(changes.select, connection_->Prepare(SelectChanges(from.alias)));
      changes.replacements = replacements;
    }
    BindInt(*changes.select, 1, position_);
    ICEPIE_ASSIGN_OR_RETURN(DuckResult rows, changes.select->Execute());
    ICEPIE_RETURN_IF_ERROR(changes.rows->Set(std::move(rows)));
    upstream_rows_ += changes.rows->RowCount();
  }
  return absl::OkStatus();
}

// Shows the whole of the upstream slices as if it had just come.
absl::Status Generation::ShowWholeUpstream() {
  if (!slice_plan_->reads_changes) return absl::OkStatus();
  catalog_changed_ = true;
  for (const auto& [slice, from] : upstream_) {
    ICEPIE_RETURN_IF_ERROR(connection_->Run(
        absl::StrCat("CREATE OR REPLACE TEMP VIEW ", QuoteIdentifier(ChangesOf(slice)),
                     " AS SELECT *, CAST(1 AS ", kSignType, ") AS ", kSignColumn, " FROM ",
                     QuoteIdentifier(from.alias), ".main.__result")));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> Generation::FitsUpstream() {
  ICEPIE_RETURN_IF_ERROR(Settle());
  ICEPIE_ASSIGN_OR_RETURN(const auto rows,
                          connection_->QueryCells("SELECT slice, run FROM __built_from"));
  if (rows.size() != upstream_.size()) return false;
  bool reopened = false;
  for (const CellRow& row : rows) {
    const auto from = upstream_.find(std::get<std::string>(row[0]));
    if (from == upstream_.end()) return false;
    const std::string& run = std::get<std::string>(row[1]);
    if (run == from->second.run) continue;
    if (run != from->second.run_before || position_ > from->second.opened_at) return false;
    reopened = true;
  }
  if (reopened) ICEPIE_RETURN_IF_ERROR(WriteBuiltFrom());
  return true;
}

absl::Status Generation::WriteBuiltFrom() {
  if (slice_plan_->upstream.empty()) return absl::OkStatus();
  ICEPIE_RETURN_IF_ERROR(connection_->Run("DELETE FROM __built_from"));
  for (const auto& [slice, from] : upstream_) {
    ICEPIE_RETURN_IF_ERROR(connection_->Run(
        absl::StrCat("INSERT INTO __built_from SELECT ", QuoteLiteral(slice), ", run FROM ",
                     QuoteIdentifier(from.alias), ".main.__layout")));
  }
  return absl::OkStatus();
}

void Generation::RestartChanges(bool wanted) {
  changes_restart_ = true;
  changes_wanted_ = wanted;
  changes_lost_ = !wanted;
  // Rows of before may be there up to position_, beyond those that changed the content.
  changes_base_ = changes_rows_ == 0 ? progress_.changed_to() : position_;
}

void Generation::KeepChanges() {
  if (changes_lost_ || !changes_wanted_) RestartChanges(/*wanted=*/true);
}

// In a transaction, in front of what changes rows.
absl::Status Generation::BeginChanges() {
  if (!slice_plan_->hands_out_changes || !changes_restart_) return absl::OkStatus();
  changes_begun_ = true;
  return changes_rows_ < kChangesKept ? absl::OkStatus() : ReplaceChanges();
}

// In a transaction.
absl::Status Generation::ReplaceChanges() {
  changes_replaced_now_ = true;
  changes_counted_ = 0;
  return connection_->Run(MakeChangesTable());
}

// In a transaction, behind it.
absl::Status Generation::BoundChanges() {
  if (!slice_plan_->hands_out_changes) return absl::OkStatus();
  ICEPIE_ASSIGN_OR_RETURN(const int64_t rows, CountRows(count_changes_, "__changes"));
  changes_counted_ = rows;
  if (rows <= kChangesMax) return absl::OkStatus();
  changes_lost_ = true;
  return ReplaceChanges();
}

absl::StatusOr<int64_t> Generation::CountRows(std::unique_ptr<DuckStatement>& counter,
                                              const char* table) {
  if (counter == nullptr) {
    ICEPIE_ASSIGN_OR_RETURN(counter,
                            connection_->Prepare(absl::StrCat("SELECT count(*) FROM ", table)));
  }
  ICEPIE_ASSIGN_OR_RETURN(DuckResult counted, counter->Execute());
  ICEPIE_ASSIGN_OR_RETURN(const std::vector<CellRow> rows, counted.Cells());
  return std::get<int64_t>(rows.front().front());
}

// To be called before each batch, outside of a transaction.
absl::Status Generation::PrepareBatch() {
  if (catalog_changed_) {
    statements_->Forget();
    count_changes_.reset();
    count_kept_.reset();
    ICEPIE_RETURN_IF_ERROR(PrepareProgress());
    catalog_changed_ = false;
  }
  return statements_->Prepare(progress_.applied + upstream_rows_);
}

void Generation::LetGoOfBatch(absl::Time before) {
  if (large_batch_ >= before) return;
  large_batch_ = absl::InfiniteFuture();
  statements_->Forget();
}

Generation::Changes Generation::ChangesSince(int64_t position) const {
  if (unsettled_) return Changes::kLost;  // there may be more than is known
  if (progress_.changed_to() <= position) return Changes::kNone;
  const bool logged = slice_plan_->hands_out_changes && !changes_lost_ && !changes_restart_ &&
                      changes_base_ <= position;
  return logged ? Changes::kLogged : Changes::kLost;
}

absl::Status Generation::TakeOn(std::shared_ptr<const DomainPlan> plan) {
  const SlicePlan* slice = plan->Find(slice_plan_->slice);
  if (slice == nullptr || slice->definition_hash != slice_plan_->definition_hash ||
      slice->strategy != slice_plan_->strategy || !slice->hands_out_changes) {
    return absl::FailedPreconditionError(
        absl::StrCat("slice ", slice_plan_->slice, " hands out no changes"));
  }
  ICEPIE_RETURN_IF_ERROR(Settle());
  ICEPIE_RETURN_IF_ERROR(connection_->Run(MakeChangesTable()));
  changes_rows_ = 0;
  ++*changes_replaced_;
  catalog_changed_ = true;
  for (Input& input : inputs_) {
    input.source = plan->definition.FindSource(input.source->name);
    ICEPIE_CHECK(input.source != nullptr);
  }
  if (definition_plan_ == nullptr) definition_plan_ = domain_plan_;  // definition_ is of it
  slice_plan_ = slice;
  statements_ = std::make_unique<ApplyStatements>(*connection_, *slice_plan_);
  domain_plan_ = std::move(plan);
  RestartChanges(/*wanted=*/true);
  return absl::OkStatus();
}

void Generation::SetDefinition(std::shared_ptr<const DomainPlan> plan) {
  const SliceDef* definition = plan->definition.FindSlice(slice_plan_->slice);
  ICEPIE_CHECK(definition != nullptr);
  definition_ = definition;
  definition_plan_ = std::move(plan);
}

void Generation::PassTo(int64_t position) {
  if (position <= position_) return;
  position_ = position;
  served_->PassTo(position);
}

absl::Status Generation::WritePosition() {
  ICEPIE_RETURN_IF_ERROR(Settle());
  if (position_ == progress_.applied_position) return absl::OkStatus();
  Progress next = progress_;
  next.applied_position = position_;
  return CommitProgress(next);
}

absl::Status Generation::StartBeyond(int64_t content_version) {
  Progress next = progress_;
  next.content_version = content_version + 1;
  return CommitProgress(next);
}

absl::Status Generation::CommitProgress(const Progress& next) {
  ICEPIE_RETURN_IF_ERROR(Begin());
  const absl::Status written = WriteProgress(next);
  if (written.ok()) return Commit(next);
  Rollback();
  return written;
}

absl::Status Generation::Apply(const RecordBatch& batch, int64_t records_max) {
  while (position_ < batch.end) ICEPIE_RETURN_IF_ERROR(ApplyPart(batch, records_max));
  return absl::OkStatus();
}

absl::Status Generation::ApplyPart(const RecordBatch& batch, int64_t records_max) {
  ICEPIE_RETURN_IF_ERROR(Settle());
  const std::vector<int64_t> positions = batch.Positions(streams_, position_, batch.end);
  if (positions.empty()) {
    PassTo(batch.end);
    return absl::OkStatus();
  }
  if (suspects_.Touch(positions)) return ApplySuspects(batch, positions);
  const bool whole = static_cast<int64_t>(positions.size()) <= records_max;
  const int64_t to = whole ? batch.end : positions[static_cast<size_t>(records_max)];
  return ApplyRange(batch, position_, to);
}

// Goes on with few records at a time, so that the flight record is exact when one of them ends the
// process; one that is known to do so is passed over.
absl::Status Generation::ApplySuspects(const RecordBatch& batch,
                                       const std::vector<int64_t>& positions) {
  const int64_t first = positions.front();
  PassTo(first);
  if (suspects_.deadly.count(first) > 0) {
    return TryRange(batch, first, first + 1, {first}, kEndsTheProcess);
  }
  const size_t count = suspects_.Next(positions);
  const int64_t to = count < positions.size() ? positions[count] : positions.back() + 1;
  return ApplyRange(batch, first, count == 1 ? first + 1 : to);
}

bool SuspectRecords::Touch(const std::vector<int64_t>& positions) const {
  const auto within = [&](int64_t begin) {
    const auto at = std::lower_bound(positions.begin(), positions.end(), begin);
    return at == positions.end() ? INT64_MAX : *at;
  };
  if (probe_records > 0 && within(probe_begin) < probe_end) return true;
  const auto next = deadly.lower_bound(positions.front());
  return next != deadly.end() && *next <= positions.back();
}

// How many of the positions, at least one, make the next transaction.
size_t SuspectRecords::Next(const std::vector<int64_t>& positions) const {
  const auto next = deadly.upper_bound(positions.front());
  const int64_t stop = next == deadly.end() ? INT64_MAX : *next;
  const bool probed = probe_records > 0 && positions.front() >= probe_begin;
  // Up to where the probing begins, all; then so many.
  const int64_t end = std::min(stop, probed || probe_records == 0 ? INT64_MAX : probe_begin);
  const auto count = static_cast<size_t>(std::lower_bound(positions.begin(), positions.end(), end) -
                                         positions.begin());
  const auto few = static_cast<size_t>(probe_records);
  return std::max<size_t>(1,
                          probed && positions.front() < probe_end ? std::min(count, few) : count);
}

absl::Status Generation::ApplyRange(const RecordBatch& batch, int64_t from, int64_t to) {
  const absl::Status status = TryRange(batch, from, to, {}, "");
  return IsDataError(status) ? Halve(batch, from, to, status) : status;
}

absl::Status Generation::Halve(const RecordBatch& batch, int64_t from, int64_t to,
                               const absl::Status& error) {
  // Each part would be decoded for all, and kept, for this slice alone.
  if (batch.decoded != nullptr) return Halve(batch.Alone(), from, to, error);
  const std::vector<int64_t> positions = batch.Positions(streams_, from, to);
  ICEPIE_CHECK(!positions.empty());
  if (positions.size() == 1)
    return TryRange(batch, from, to, positions, std::string(error.message()));
  const int64_t middle = positions[positions.size() / 2];
  ICEPIE_RETURN_IF_ERROR(ApplyRange(batch, from, middle));
  return ApplyRange(batch, middle, to);
}

std::vector<InputCounts> Generation::CountInputs() const {
  std::vector<InputCounts> counted;
  for (const Input& input : inputs_) {
    counted.push_back({input.source->stream, &input.input->counts()});
  }
  return counted;
}

// What the statements will see. A record that one input cannot read is used by none: of two inputs
// over one stream, each passes over what is bad for the other.
absl::Status Generation::SetRecords(const SupplyOf& supply, const std::vector<int64_t>& excluded) {
  bad_for_any_.clear();
  for (Input& input : inputs_) input.input->SetRecords(supply(input.source->stream), excluded);
  if (!reads_stream_twice_) return absl::OkStatus();
  bad_for_any_ = BadForAny(CountInputs());
  std::vector<int64_t> for_all = excluded;
  for (const auto& [position, record] : bad_for_any_) for_all.push_back(position);
  std::sort(for_all.begin(), for_all.end());
  for (Input& input : inputs_) {
    ICEPIE_RETURN_IF_ERROR(input.input->supply_error());
    input.input->SetRecords(supply(input.source->stream), for_all);
  }
  return absl::OkStatus();
}

absl::Status Generation::RunBatch(const RecordBatch& batch, int64_t from, int64_t to,
                                  const std::vector<int64_t>& excluded) {
  ICEPIE_RETURN_IF_ERROR(SetRecords(
      [&](const std::string& stream) { return batch.Supply(stream, from, to); }, excluded));
  ICEPIE_RETURN_IF_ERROR(BeginChanges());
  ICEPIE_RETURN_IF_ERROR(RunStatements(to, Planned::kBefore));
  ICEPIE_RETURN_IF_ERROR(BoundChanges());
  return CheckKeptRows();
}

absl::Status Generation::CheckKeptRows() {
  if (!slice_plan_->keeps_rows) return absl::OkStatus();
  ICEPIE_ASSIGN_OR_RETURN(const int64_t kept, CountRows(count_kept_, "__rows"));
  const int64_t budget = domain_plan_->definition.limits.kept_rows;
  if (kept <= budget) return absl::OkStatus();
  return MakeError(absl::StatusCode::kFailedPrecondition,
                   absl::StrCat("slice ", slice_plan_->slice, " would keep ", kept,
                                " records to stay incremental, more than limits.kept_rows (",
                                budget, "): raise it, or let the SQL read less, and re-slice"),
                   "KEPT_ROWS_OVER_BUDGET", {{"slice", slice_plan_->slice}});
}

absl::Status Generation::RunAll(const std::vector<ApplyStatement>& statements) {
  for (const ApplyStatement& statement : statements) {
    ICEPIE_RETURN_IF_ERROR(connection_->Run(statement.sql));
  }
  return absl::OkStatus();
}

// Those of the last batch that arrived behind the horizon of `retain` are filtered, not applied.
absl::Status Generation::CountLate(Progress& progress) {
  if (!slice_plan_->retained.counts_late) return absl::OkStatus();
  ICEPIE_ASSIGN_OR_RETURN(const auto rows, connection_->QueryCells("SELECT records FROM __late"));
  const int64_t late = std::get<int64_t>(rows.front().front());
  progress.applied -= late;
  progress.filtered += late;
  return absl::OkStatus();
}

// Deletes what is behind the horizon of `retain`, when that has moved far enough.
absl::Status Generation::LetGo(const Progress& written) {
  const SlicePlan::Retained& retained = slice_plan_->retained;
  const bool due = written.applied_time_us - let_go_at_us_ >= LetGoStepMicros(retained.span_us);
  if (retained.let_go.empty() || !due) return absl::OkStatus();
  lets_go_ = true;
  for (const ApplyStatement& statement : retained.let_go) {
    if (!statement.only_if.empty()) {
      ICEPIE_ASSIGN_OR_RETURN(const auto rows, connection_->QueryCells(statement.only_if));
      if (rows.empty()) continue;
    }
    ICEPIE_RETURN_IF_ERROR(connection_->Run(statement.sql));
  }
  return absl::OkStatus();
}

// A feed that broke is said so: DuckDB reports it like a data error, for which records are blamed.
absl::Status Generation::RunStatements(std::optional<int64_t> changes_at, Planned planned) {
  std::function<absl::Status()> check;
  if (changes_at && batch_check_ && !slice_plan_->batch_rows.empty()) {
    check = [this, changes_at] {
      return batch_check_(*connection_, slice_plan_->batch_rows, *changes_at);
    };
  }
  const std::optional<int64_t> at = changes_wanted_ ? changes_at : std::nullopt;
  const bool before = planned == Planned::kBefore && !changes_replaced_now_;
  absl::Status status = before ? statements_->Run(at, check) : statements_->RunOnce(at, check);
  for (Input& input : inputs_) {
    if (status.ok()) input.input->counts();  // may have to read once more
    const absl::Status supply = input.input->supply_error();
    if (!supply.ok()) return supply;
  }
  return status;
}

absl::Status Generation::TryRange(const RecordBatch& batch, int64_t from, int64_t to,
                                  const std::vector<int64_t>& excluded,
                                  const std::string& excluded_error) {
  const FlightEntry flight(Activity::kApply, FlightSubject(), from, to);
  ICEPIE_RETURN_IF_ERROR(PrepareBatch());
  ICEPIE_RETURN_IF_ERROR(Begin());
  const std::vector<int64_t> passed_over = WithHeldBack(excluded, from, to);
  absl::Status status = RunBatch(batch, from, to, passed_over);
  if (to - from >= kLargeBatch) large_batch_ = SteadyNow();
  if (!status.ok()) {
    Rollback();
    return status;
  }
  const std::vector<QuarantinedRecord> bad = BadRecords(passed_over, excluded_error);
  const absl::StatusOr<std::optional<size_t>> over = FirstOver(bad, /*anew=*/false);
  if (!over.ok() || over->has_value()) {
    Rollback();
    return over.ok() ? StopAt(batch, from, bad, **over) : over.status();
  }
  // Records that are taken out of quarantine lie behind it.
  Progress next = Advanced(progress_, std::max(to, progress_.applied_position), bad.size());
  // With `retain`, every record may move the horizon.
  if (next.applied > progress_.applied || slice_plan_->retained.span_us > 0) {
    next.Change(batch.LastEnd(streams_, from, to));
  }
  status = CountLate(next);
  if (status.ok()) status = WriteQuarantine(bad);
  if (status.ok()) status = WriteProgress(next);
  if (status.ok()) status = LetGo(next);
  if (!status.ok()) {
    Rollback();
    return status;
  }
  ICEPIE_RETURN_IF_ERROR(Commit(next));
  SetUnacknowledged(unacknowledged_ + CountUnacknowledged(acknowledged_, bad));
  return absl::OkStatus();
}

absl::Status Generation::SetAcknowledged(PositionRanges acknowledged) {
  ICEPIE_RETURN_IF_ERROR(Settle());
  return ReadUnacknowledged(std::move(acknowledged));
}

absl::Status Generation::ReadUnacknowledged(PositionRanges acknowledged) {
  ICEPIE_ASSIGN_OR_RETURN(const auto rows,
                          connection_->QueryCells("SELECT position FROM __quarantine"));
  acknowledged_of_slice_ = std::move(acknowledged);
  acknowledged_ = acknowledged_of_slice_.With(held_back_);
  served_->SetAcknowledged(acknowledged_);
  SetUnacknowledged(std::count_if(rows.begin(), rows.end(), [&](const CellRow& row) {
    return !acknowledged_.Contains(std::get<int64_t>(row[0]));
  }));
  return absl::OkStatus();
}

void Generation::SetUnacknowledged(int64_t count) {
  unacknowledged_ = count;
  served_->SetUnacknowledged(count);
}

// Those that a window before the new ones may reach.
absl::StatusOr<std::vector<QuarantinedRecord>> Generation::ReadBudgeted(
    const std::vector<QuarantinedRecord>& bad) {
  std::map<std::string, int64_t> first_offset;
  for (const QuarantinedRecord& record : bad) {
    first_offset.emplace(record.stream, record.offset);  // the first: they are in order
  }
  std::vector<std::string> near;
  for (const auto& [stream, offset] : first_offset) {
    near.push_back(absl::StrCat("stream = ", QuoteLiteral(stream), " AND \"offset\" > ",
                                offset - definition_->budget.window));
  }
  ICEPIE_ASSIGN_OR_RETURN(const auto rows, connection_->QueryCells(absl::StrCat(
                                               "SELECT stream, \"offset\", position FROM "
                                               "__quarantine WHERE ",
                                               absl::StrJoin(near, " OR "), " ORDER BY position")));
  std::vector<QuarantinedRecord> records(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    records[i].stream = std::get<std::string>(rows[i][0]);
    records[i].offset = std::get<int64_t>(rows[i][1]);
    records[i].position = std::get<int64_t>(rows[i][2]);
  }
  return records;
}

// The first of the bad records (in order) at which the slice has to stop. `anew`: those that are in
// quarantine are among them.
absl::StatusOr<std::optional<size_t>> Generation::FirstOver(
    const std::vector<QuarantinedRecord>& bad, bool anew) {
  if (bad.empty()) return std::optional<size_t>();
  if (definition_->on_bad_record == BadRecordAction::kFault) {
    return FirstBeyond(0, acknowledged_, bad);
  }
  const QuarantineBudget& budget = definition_->budget;
  if (budget.window == 0) {
    const int64_t room = std::max<int64_t>(0, budget.records - (anew ? 0 : unacknowledged_));
    return FirstBeyond(room, acknowledged_, bad);
  }
  std::vector<QuarantinedRecord> before;
  if (!anew) {
    ICEPIE_ASSIGN_OR_RETURN(before, ReadBudgeted(bad));
  }
  return FirstOverWindow(budget, acknowledged_, before, bad);
}

// Applies what comes before the record that it stops at, and says which records would have been
// next.
absl::Status Generation::StopAt(const RecordBatch& batch, int64_t from,
                                const std::vector<QuarantinedRecord>& bad, size_t first) {
  const int64_t stop = bad[first].position;
  if (!batch.Positions(streams_, from, stop).empty()) {
    ICEPIE_RETURN_IF_ERROR(ApplyRange(batch, from, stop));
  }
  return OverBudget({bad.begin() + static_cast<int64_t>(first), bad.end()});
}

absl::Status Generation::Poison(const QuarantinedRecord& record) const {
  return MakeError(
      absl::StatusCode::kFailedPrecondition,
      absl::StrCat(PlaceOfRecord(record), " cannot be taken, and on_bad_record says fault. Change ",
                   "the definition (another reading, or action quarantine), or acknowledge the ",
                   "record: icepie slice quarantine … --acknowledge ", record.position),
      "POISON", {{"column", record.column}, {"position", absl::StrCat(record.position)}});
}

absl::Status Generation::OverBudget(const std::vector<QuarantinedRecord>& over) {
  served_->SetOverflow(over);
  if (definition_->on_bad_record == BadRecordAction::kFault) return Poison(over.front());
  const QuarantineBudget& budget = definition_->budget;
  const std::string window =
      budget.window == 0 ? "" : absl::StrCat(" in ", budget.window, " records");
  const int64_t total = unacknowledged_ + CountUnacknowledged(acknowledged_, over);
  return MakeError(absl::StatusCode::kFailedPrecondition,
                   absl::StrCat(total, " records cannot be read, budget ", budget.records, window,
                                "; the next is ", PlaceOfRecord(over.front()),
                                ". Change the definition, raise the budget, or acknowledge them: ",
                                "icepie slice quarantine … --acknowledge all"),
                   "QUARANTINE_OVER_BUDGET",
                   {{"column", over.front().column}, {"records", absl::StrCat(total)}});
}

std::vector<QuarantinedRecord> Generation::BadRecords(const std::vector<int64_t>& excluded,
                                                      const std::string& excluded_error) const {
  std::vector<QuarantinedRecord> bad;
  for (const auto& [position, record] : BadForAny(CountInputs())) {
    const auto judged = bad_for_any_.find(position);
    if (std::binary_search(held_back_.begin(), held_back_.end(), position)) {
      bad.push_back({position, record.stream, record.offset, "HELD_BACK", "", "", "",
                     "left out for the comparison with the serving generation"});
    } else if (std::binary_search(excluded.begin(), excluded.end(), position)) {
      const bool deadly = suspects_.deadly.count(position) > 0;
      const auto culprit = culprits_.find(position);
      bad.push_back({position, record.stream, record.offset, deadly ? "WORKER_KILLED" : "SQL_ERROR",
                     "", "", "",
                     deadly                       ? kEndsTheProcess
                     : culprit != culprits_.end() ? culprit->second
                                                  : excluded_error});
    } else {
      bad.push_back(judged == bad_for_any_.end() ? record : judged->second);
    }
  }
  return bad;
}

Progress Generation::Advanced(Progress from, int64_t to, size_t bad) const {
  Progress next = from;
  next.applied_position = to;
  next.quarantined += static_cast<int64_t>(bad);
  const TogetherCounts counts = CountTogether(CountInputs());
  next.applied += counts.applied;
  next.filtered += counts.filtered;
  next.event_time_max_us = std::max(next.event_time_max_us, counts.event_time_max_us);
  next.applied_time_us = std::max(next.applied_time_us, counts.ingest_time_max_us);
  next.input = next.applied + next.filtered + next.quarantined;
  return next;
}

absl::Status Generation::WriteQuarantine(const std::vector<QuarantinedRecord>& bad) {
  for (const QuarantinedRecord& record : bad) {
    const DuckStatement& insert = *write_quarantine_;
    BindInt(insert, 1, record.position);
    BindText(insert, 2, record.stream);
    BindInt(insert, 3, record.offset);
    BindText(insert, 4, record.code);
    BindText(insert, 5, record.column);
    BindText(insert, 6, record.path);
    BindText(insert, 7, record.value);
    BindText(insert, 8, record.message);
    ICEPIE_RETURN_IF_ERROR(write_quarantine_->Execute().status());
  }
  return absl::OkStatus();
}

absl::Status Generation::WriteProgress(const Progress& progress) {
  const int64_t row[] = {progress.applied_position,  progress.applied_time_us,
                         progress.event_time_max_us, progress.input,
                         progress.applied,           progress.filtered,
                         progress.quarantined,       progress.content_version};
  for (size_t i = 0; i < std::size(row); ++i) progress_to_write_->Set(i, row[i]);
  return write_progress_->Execute().status();
}

absl::Status Generation::Begin() {
  if (on_transaction_) on_transaction_();
  const absl::Status begun = BeginTransaction(*connection_);
  if (!begun.ok()) unsettled_ = true;
  return begun;
}

// COMMIT of a transaction that an error has aborted says success and stores nothing, so the row is
// read again. One that says an error, or behind which nothing can be read, may have stored it.
absl::Status Generation::Commit(const Progress& written) {
  absl::Status stored = connection_->RunAgain("COMMIT");
  if (stored.ok()) stored = ReadProgress();
  unsettled_ = !stored.ok();
  if (stored.ok() && (progress_.applied_position != written.applied_position ||
                      progress_.input != written.input)) {
    stored = absl::UnavailableError("the transaction was not stored");
  }
  if (!stored.ok()) {
    ForgetTransaction();
    return stored;
  }
  position_ = std::max(position_, progress_.applied_position);
  blame_.clear();
  culprits_.clear();
  tries_all_anew_ = false;
  if (std::exchange(changes_begun_, false)) changes_restart_ = false;
  if (changes_counted_) changes_rows_ = *std::exchange(changes_counted_, std::nullopt);
  // Tables that were written anew are others to prepared statements.
  if (std::exchange(changes_replaced_now_, false)) {
    ++*changes_replaced_;
    catalog_changed_ = true;
  }
  if (std::exchange(lets_go_, false)) {
    let_go_at_us_ = progress_.applied_time_us;
    catalog_changed_ = true;
  }
  served_->Publish(progress_);
  return absl::OkStatus();
}

void Generation::ForgetTransaction() {
  changes_begun_ = false;
  changes_counted_.reset();
  changes_replaced_now_ = false;
  lets_go_ = false;
}

void Generation::Rollback() {
  ForgetTransaction();
  const absl::Status status = RollBack(*connection_);
  if (status.ok()) return;
  unsettled_ = true;
  spdlog::debug("{}: rollback: {}", alias(), status.ToString());
}

// After an error that leaves it open whether a transaction is there still, or was stored (lack of
// memory meets ROLLBACK and what follows a COMMIT, too), the next to come finds out: what is stored
// is not applied again, and nothing is written within a transaction that nobody will end.
absl::Status Generation::Settle() {
  if (!unsettled_) return absl::OkStatus();
  ICEPIE_RETURN_IF_ERROR(BeginTransaction(*connection_));
  absl::Status read = PrepareProgress();
  if (read.ok()) read = ReadProgress();
  if (read.ok()) read = ReadUnacknowledged(acknowledged_of_slice_);
  const absl::Status ended = RollBack(*connection_);
  ICEPIE_RETURN_IF_ERROR(read);
  ICEPIE_RETURN_IF_ERROR(ended);
  unsettled_ = false;
  position_ = std::max(position_, progress_.applied_position);
  // What the stored transaction, if it was, did to these is not known.
  changes_rows_ = std::max<int64_t>(1, changes_rows_);
  RestartChanges(changes_wanted_);
  let_go_at_us_ = 0;
  catalog_changed_ = true;
  ++*changes_replaced_;
  served_->Publish(progress_);
  return absl::OkStatus();
}

absl::Status Generation::BeginRecompute(const std::vector<std::string>& upstream_now) {
  ICEPIE_RETURN_IF_ERROR(Settle());
  ICEPIE_RETURN_IF_ERROR(PrepareBatch());
  ICEPIE_RETURN_IF_ERROR(Begin());
  // A database is snapshotted when the transaction first touches it.
  for (const std::string& alias : upstream_now) {
    const absl::Status touched = connection_->Run(
        absl::StrCat("SELECT applied_position FROM ", QuoteIdentifier(alias), ".main.__progress"));
    if (touched.ok()) continue;
    Rollback();
    return touched;
  }
  return absl::OkStatus();
}

absl::Status Generation::FinishRecompute(Feed& feed, int64_t position, int64_t applied_time_us) {
  if (ProbesDeadly(0, position)) return ProbeRun(feed, position);
  const absl::Time begin = SteadyNow();
  const absl::Status status = Recompute(feed, position, applied_time_us);
  if (status.ok()) return status;
  Rollback();
  if (!IsDataError(status)) return status;
  SetSearchTime(SteadyNow() - begin);
  return FindCulpritsOfRun(feed, position, status);
}

// What is counted but not listed could not be passed over by the other inputs, nor be shown.
absl::Status Generation::CheckAllListed(const std::vector<QuarantinedRecord>& bad) {
  for (const Input& input : inputs_) {
    const int64_t count = input.input->counts().bad_count;
    if (count <= kBadRecordsListedMax) continue;
    served_->SetOverflow(bad);
    return MakeError(absl::StatusCode::kFailedPrecondition,
                     absl::StrCat(count, " records of source ", input.source->name,
                                  " cannot be read, more than the ", kBadRecordsListedMax,
                                  " that can be kept apart. Change the definition"),
                     "QUARANTINE_OVER_BUDGET", {{"records", absl::StrCat(count)}});
  }
  return absl::OkStatus();
}

absl::Status Generation::ApplyChanges(Feed& feed, const RecordBatch* batch, int64_t to,
                                      int64_t applied_time_us) {
  const FlightEntry flight(Activity::kRecompute, FlightSubject(), position_, to);
  has_searched_ = ProbesDeadly(position_, to);
  if (has_searched_) {
    const Trial trial = [&](int64_t begin, int64_t end) {
      return TryOutChanges(feed, nullptr, begin, end, std::nullopt);
    };
    ICEPIE_RETURN_IF_ERROR(ProbeDeadly(trial, position_, to));
  }
  SetSearchTime(absl::ZeroDuration());
  std::optional<RecordBatch> alone;
  while (true) {
    ICEPIE_RETURN_IF_ERROR(Settle());
    ICEPIE_RETURN_IF_ERROR(PrepareBatch());
    ICEPIE_RETURN_IF_ERROR(Begin());
    const absl::Status status = TryChanges(feed, batch, to, applied_time_us);
    if (!status.ok()) Rollback();
    for (auto& [slice, changes] : upstream_changes_) changes.rows->Clear();
    if (!IsDataError(status)) return status;
    // Each part would be decoded for all.
    if (batch != nullptr && batch->decoded != nullptr) batch = &alone.emplace(batch->Alone());
    has_searched_ = true;
    ICEPIE_RETURN_IF_ERROR(FindCulpritsOfChanges(feed, batch, to, status));
  }
}

// The records of its own streams in [from, to), and what TakeUpstreamChanges() took.
absl::Status Generation::FoldChanges(Feed& feed, const RecordBatch* batch, int64_t from,
                                     int64_t to) {
  ICEPIE_RETURN_IF_ERROR(SetRecords(
      [&](const std::string& stream) {
        return batch != nullptr ? batch->Supply(stream, from, to)
                                : FeedSupply(feed, stream, to, from);
      },
      LeftOut()));
  ICEPIE_RETURN_IF_ERROR(BeginChanges());
  return RunStatements(to, Planned::kBefore);
}

absl::Status Generation::TryChanges(Feed& feed, const RecordBatch* batch, int64_t to,
                                    int64_t applied_time_us) {
  ICEPIE_RETURN_IF_ERROR(TakeUpstreamChanges());
  ICEPIE_RETURN_IF_ERROR(FoldChanges(feed, batch, position_, to));
  ICEPIE_RETURN_IF_ERROR(BoundChanges());
  ICEPIE_RETURN_IF_ERROR(CheckKeptRows());
  const std::vector<QuarantinedRecord> bad = BadRecords(LeftOut(), "");
  ICEPIE_RETURN_IF_ERROR(CheckAllListed(bad));
  Progress next = Advanced(progress_, to, bad.size());
  ICEPIE_ASSIGN_OR_RETURN(const std::optional<size_t> over, FirstOver(bad, /*anew=*/false));
  if (over) return OverBudget({bad.begin() + static_cast<int64_t>(*over), bad.end()});
  next.applied_time_us = std::max(next.applied_time_us, applied_time_us);
  next.Change(to);
  ICEPIE_RETURN_IF_ERROR(WriteQuarantine(bad));
  ICEPIE_RETURN_IF_ERROR(WriteProgress(next));
  ICEPIE_RETURN_IF_ERROR(LetGo(next));
  ICEPIE_RETURN_IF_ERROR(Commit(next));
  SetUnacknowledged(unacknowledged_ + CountUnacknowledged(acknowledged_, bad));
  return absl::OkStatus();
}

// In a transaction: all rows anew, from its own records in [from, to).
absl::Status Generation::RunWhole(Feed& feed, int64_t from, int64_t to) {
  ICEPIE_RETURN_IF_ERROR(SetRecords(
      [&](const std::string& stream) { return FeedSupply(feed, stream, to, from); }, LeftOut()));
  ICEPIE_RETURN_IF_ERROR(ShowWholeUpstream());
  ICEPIE_RETURN_IF_ERROR(RunAll(slice_plan_->clear));
  return RunStatements(std::nullopt, Planned::kNow);
}

absl::Status Generation::Recompute(Feed& feed, int64_t position, int64_t applied_time_us) {
  ICEPIE_RETURN_IF_ERROR(ReadCulprits());
  ICEPIE_RETURN_IF_ERROR(RunWhole(feed, 0, position));
  ICEPIE_RETURN_IF_ERROR(CheckKeptRows());
  ICEPIE_RETURN_IF_ERROR(WriteBuiltFrom());
  for (auto& [slice, changes] : upstream_changes_) {
    ICEPIE_RETURN_IF_ERROR(changes.rows->MakeView(*connection_));
  }
  const std::vector<QuarantinedRecord> bad = BadRecords(LeftOut(), "");
  Progress next = Advanced(Progress(), position, bad.size());
  next.applied_time_us = std::max(next.applied_time_us, applied_time_us);
  next.content_version = progress_.content_version;
  if (other_rows_below_ || position > position_) {
    next.Change(position);
  } else {
    next.content_version = std::max(next.content_version, position);
  }
  if (other_rows_below_ && position <= position_) {
    // What was made of its former rows must not go on from these.
    ICEPIE_RETURN_IF_ERROR(connection_->Run("UPDATE __layout SET run = CAST(uuid() AS VARCHAR)"));
  }
  ICEPIE_ASSIGN_OR_RETURN(const std::string run,
                          connection_->QueryText("SELECT run FROM __layout"));
  ICEPIE_ASSIGN_OR_RETURN(const std::optional<size_t> over, FirstOver(bad, /*anew=*/true));
  if (over) return OverBudget({bad.begin() + static_cast<int64_t>(*over), bad.end()});
  ICEPIE_RETURN_IF_ERROR(CheckAllListed(bad));
  ICEPIE_RETURN_IF_ERROR(connection_->Run("DELETE FROM __quarantine"));
  ICEPIE_RETURN_IF_ERROR(WriteQuarantine(bad));
  ICEPIE_RETURN_IF_ERROR(WriteProgress(next));
  let_go_at_us_ = 0;  // all of it is there again
  ICEPIE_RETURN_IF_ERROR(LetGo(next));
  // Of a whole new state nobody knows what changed.
  changes_lost_ = true;
  if (slice_plan_->hands_out_changes) ICEPIE_RETURN_IF_ERROR(ReplaceChanges());
  ICEPIE_RETURN_IF_ERROR(Commit(next));
  stored_run_ = run;
  other_rows_below_ = false;
  SetUnacknowledged(CountUnacknowledged(acknowledged_, bad));
  return absl::OkStatus();
}

}  // namespace icepie::slices
