#include "core/core.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/append/append_validation.h"
#include "core/append/catalog_changes.h"
#include "core/append/committed_head.h"
#include "core/append/prepared_append.h"
#include "core/append/sequencer.h"
#include "core/base/file.h"
#include "core/base/mutex.h"
#include "core/base/status.h"
#include "core/block/block.h"
#include "core/log/accepted_loss.h"
#include "core/log/catalog_keys.h"
#include "core/log/data_lock.h"
#include "core/log/read_only_guard.h"
#include "core/log/recovery.h"
#include "core/proof/core_proofs.h"
#include "core/proof/tree_store.h"
#include "core/read/block_reader.h"
#include "core/read/offset_lookup.h"
#include "core/segment/sealer.h"
#include "core/verify/backup.h"
#include "core/verify/scrubber.h"

namespace icepie {
namespace {

class CoreImpl final : public Core {
 public:
  CoreImpl(CoreOptions options, std::unique_ptr<DataLock> lock, std::unique_ptr<DiskSpace> space,
           std::unique_ptr<ReadOnlyGuard> guard, RecoveredCore recovered, SigningState signing,
           std::string accepted_loss)
      : options_(std::move(options)),
        lock_(std::move(lock)),
        accepted_loss_(std::move(accepted_loss)),
        guard_(std::move(guard)),
        space_(std::move(space)),
        store_(std::move(recovered.store)),
        segments_(std::move(recovered.segments)),
        streams_(std::move(recovered.streams)),
        requests_(std::move(recovered.requests)),
        mark_(std::move(recovered.mark)),
        tree_(std::move(recovered.tree)) {
    head_.Advance(recovered.head);
    const std::string& cause = recovered.read_only_cause;
    if (!cause.empty()) {
      const size_t end = std::min(absl::string_view(cause).find(kAppendsRefused),
                                  cause.size());  // of what was found
      guard_->Trip(cause.substr(0, end), cause.substr(std::min(end + 2, cause.size())));
    }
    if (options_.merkle_tree) {
      proofs_ = std::make_unique<CoreProofs>(
          CheckpointSigner::Parts{store_.get(), segments_.get(), streams_.get(), &head_,
                                  guard_.get(), options_.on_write_step},
          options_.directory, std::move(signing), options_.checkpoint_interval);
    }
    if (!recovered.read_only_cause.empty()) return;
    catalog_ = std::make_unique<CatalogChanges>(
        CatalogChanges::Parts{store_.get(), mark_.get(), guard_.get()}, recovered.catalog_changes);
    sequencer_ = std::make_unique<Sequencer>(
        Sequencer::Parts{store_.get(), mark_.get(), &head_, guard_.get(),
                         options_.merkle_tree ? &tree_ : nullptr, space_.get(), requests_.get(),
                         options_.on_write_step},
        options_.queue_bytes_max, recovered.last_ingest_time_us);
    StartBackgroundWork();
  }

  std::string ReadOnlyCause() const override { return guard_->cause(); }

  std::string AcceptedLoss() const override { return accepted_loss_; }
  absl::Status ForgetAcceptedLoss() override {
    return icepie::ForgetAcceptedLoss(options_.directory);
  }

  DiskState Disk() const override { return {space_->full(), space_->free_bytes()}; }

  using Core::CreateStream;
  absl::StatusOr<StreamInfo> CreateStream(absl::string_view name, PayloadFormat format,
                                          const StreamPaths& paths,
                                          std::shared_ptr<const StreamSchema> schema) override {
    return Create(name, format, paths, std::move(schema), /*internal=*/false);
  }

  absl::StatusOr<StreamInfo> UpdateStream(absl::string_view name,
                                          const StreamChange& change) override {
    ICEPIE_RETURN_IF_ERROR(CheckChange());
    const absl::StatusOr<Stream*> stream = streams_->Update(*catalog_, name, change);
    ICEPIE_RETURN_IF_ERROR(TripOnFailure(stream.status()));
    return InfoOf(**stream);
  }

  absl::StatusOr<bool> CheckCreate(
      absl::string_view name, PayloadFormat format, const StreamPaths& paths,
      const std::shared_ptr<const StreamSchema>& schema) const override {
    ICEPIE_RETURN_IF_ERROR(guard_->Check());
    return streams_->CheckCreate(name, format, paths, schema);
  }

  absl::Status CheckUpdate(absl::string_view name, const StreamChange& change) const override {
    ICEPIE_RETURN_IF_ERROR(guard_->Check());
    return streams_->CheckUpdate(name, change);
  }

  absl::StatusOr<StreamInfo> CreateInternalStream(absl::string_view name,
                                                  PayloadFormat format) override {
    return Create(name, format, {}, nullptr, /*internal=*/true);
  }

  absl::StatusOr<StreamInfo> GetStream(absl::string_view name) const override {
    ICEPIE_ASSIGN_OR_RETURN(const Stream* stream, streams_->Find(name));
    return InfoOf(*stream);
  }

  std::vector<StreamInfo> ListStreams(absl::string_view after, size_t count_max) const override {
    std::vector<StreamInfo> infos;
    for (const Stream* stream : streams_->List(after, count_max)) infos.push_back(InfoOf(*stream));
    return infos;
  }

  void Append(AppendBatch batch, AppendDone done) override {
    const std::shared_ptr<AppendChain> chain = batch.chain;
    absl::StatusOr<PreparedAppend> append = Prepare(std::move(batch));
    absl::Status status = append.status();
    if (status.ok()) {
      append->done = std::move(done);
      status = sequencer_->Submit(*append);
      if (status.ok()) return;
      done = std::move(append->done);
    }
    if (chain) chain->refused.store(true);
    done(std::move(status));
  }

  int64_t head_position() const override { return head_.position(); }

  int64_t WaitForHead(int64_t position, absl::Duration timeout) const override {
    return head_.WaitBeyond(position, timeout);
  }

  int64_t AddHeadListener(std::function<void(int64_t)> listener) override {
    return head_.AddListener(std::move(listener));
  }

  void RemoveHeadListener(int64_t id) override { head_.RemoveListener(id); }

  absl::StatusOr<BlockRange> ReadBlocks(const std::vector<std::string>& streams, int64_t from,
                                        int64_t end, int64_t bytes_max) const override {
    ICEPIE_RETURN_IF_ERROR(CheckReadable());
    return ReadBlockRange({store_.get(), segments_.get(), streams_.get()}, head_.position(),
                          {streams, from, end, bytes_max});
  }

  std::shared_ptr<const SegmentLease> LeaseSegments(int64_t from, int64_t end,
                                                    size_t count_max) const override {
    return segments_->Lease(from, end, count_max);
  }

  CoreStorage Storage() const override {
    CoreStorage storage;
    storage.sealed_position = segments_->sealed_position();
    storage.segment_count = segments_->count();
    storage.segment_bytes = segments_->sealed_bytes();
    if (sealer_ != nullptr) storage.hot_bytes = sealer_->hot_bytes();
    return storage;
  }

  std::optional<ScrubState> Scrub() const override {
    return scrubber_ == nullptr ? std::nullopt : std::optional(scrubber_->State());
  }

  absl::StatusOr<int64_t> PositionOf(absl::string_view stream, int64_t offset) const override {
    ICEPIE_RETURN_IF_ERROR(CheckReadable());
    const int64_t head = head_.position();  // before the stream's end, which moves first
    ICEPIE_ASSIGN_OR_RETURN(const Stream* found, streams_->Find(stream));
    return FindOffset(*store_, *segments_, *found, offset, head);
  }

  Proofs* proofs() override { return proofs_.get(); }

  absl::StatusOr<BackupResult> BackUpTo(const std::string& target,
                                        const BackupProgress& progress) override {
    ICEPIE_RETURN_IF_ERROR(guard_->Check());
    return BackUp(options_.directory, *store_, *segments_, target, progress);
  }

  absl::Status ChangeCatalog(const std::vector<CatalogChange>& changes) override {
    ICEPIE_RETURN_IF_ERROR(CheckChange());
    std::vector<CatalogChange> own;
    own.reserve(changes.size());
    for (const auto& [key, value] : changes) {
      own.emplace_back(absl::StrCat(kDaemonKeyPrefix, key), value);
    }
    return TripOnFailure(catalog_->Make(own));
  }

  absl::StatusOr<std::vector<std::pair<std::string, std::string>>> ScanCatalog(
      absl::string_view prefix) const override {
    ICEPIE_RETURN_IF_ERROR(CheckReadable());
    ICEPIE_ASSIGN_OR_RETURN(auto pairs,
                            store_->ScanCatalog(absl::StrCat(kDaemonKeyPrefix, prefix)));
    for (auto& [key, value] : pairs) key.erase(0, kDaemonKeyPrefix.size());
    return pairs;
  }

 private:
  void StartBackgroundWork() {
    if (options_.sealing.enabled) {
      sealer_ =
          std::make_unique<Sealer>(Sealer::Parts{store_.get(), segments_.get(), streams_.get(),
                                                 &head_, guard_.get(), space_.get()},
                                   options_.sealing);
    }
    if (options_.scrub.enabled && proofs_ != nullptr) {
      scrubber_ = std::make_unique<Scrubber>(
          Scrubber::Parts{store_.get(), segments_.get(), streams_.get(), &head_, proofs_.get()},
          options_.directory, options_.scrub);
    }
  }

  absl::StatusOr<StreamInfo> Create(absl::string_view name, PayloadFormat format,
                                    const StreamPaths& paths,
                                    std::shared_ptr<const StreamSchema> schema, bool internal) {
    ICEPIE_RETURN_IF_ERROR(CheckChange());
    const absl::StatusOr<Stream*> stream =
        streams_->Create(*catalog_, name, format, paths, std::move(schema), internal);
    ICEPIE_RETURN_IF_ERROR(TripOnFailure(stream.status()));
    return InfoOf(**stream);
  }

  absl::StatusOr<PreparedAppend> Prepare(AppendBatch batch) {
    if (batch.chain && (batch.chain->refused || batch.chain->failed)) return ChainBroken();
    ICEPIE_RETURN_IF_ERROR(guard_->Check());
    ICEPIE_ASSIGN_OR_RETURN(const std::vector<Stream*> streams,
                            ValidateRecords(batch.records, options_, *streams_));
    return PrepareAppend(std::move(batch), streams, *streams_, options_.merkle_tree);
  }

  // A failed write leaves the disk's state unknown, whoever wrote.
  absl::Status TripOnFailure(const absl::Status& status) {
    if (absl::IsUnavailable(status) || absl::IsDataLoss(status)) {
      guard_->Trip(absl::StrCat("writing the catalog failed (", status.message(), ")"));
    }
    return status;
  }

  // Small changes go on while the disk is too full for records.
  absl::Status CheckChange() {
    ICEPIE_RETURN_IF_ERROR(guard_->Check());
    space_->Update();
    return space_->CheckReserve();
  }

  absl::Status CheckReadable() const {
    return store_ == nullptr ? guard_->Check() : absl::OkStatus();
  }

  const CoreOptions options_;
  const std::unique_ptr<DataLock> lock_;
  const std::string accepted_loss_;
  const std::unique_ptr<ReadOnlyGuard> guard_;
  const std::unique_ptr<DiskSpace> space_;
  CommittedHead head_;
  const std::unique_ptr<LogStore> store_;
  const std::unique_ptr<SegmentSet> segments_;
  const std::unique_ptr<StreamRegistry> streams_;
  const std::unique_ptr<RequestLog> requests_;  // the sequencer's
  const std::unique_ptr<HighWaterMark> mark_;
  std::unique_ptr<CatalogChanges> catalog_;  // nullptr when opened read-only
  TileWriter tree_;                          // the sequencer's
  std::unique_ptr<CoreProofs> proofs_;
  std::unique_ptr<Sequencer> sequencer_;  // nullptr when opened read-only
  std::unique_ptr<Sealer> sealer_;        // the same
  std::unique_ptr<Scrubber> scrubber_;    // the same; first to go
};

// A restored backup: the original may have signed more since, so this is a log of another name.
absl::StatusOr<SigningState> OpenBackupSigning(const CoreOptions& options, int64_t head) {
  ICEPIE_RETURN_IF_ERROR(RetireSigning(options.directory, head));
  ICEPIE_ASSIGN_OR_RETURN(SigningState signing,
                          LoadSigning(options.directory, options.origin, /*may_create=*/true));
  ICEPIE_RETURN_IF_ERROR(RemoveBackupMark(options.directory));
  return signing;
}

// Before anything is touched: of another core it says nothing.
absl::StatusOr<std::optional<Checkpoint>> OpenExpected(const CoreOptions& options) {
  if (!options.expected_checkpoint) return std::optional<Checkpoint>();
  ICEPIE_ASSIGN_OR_RETURN(const SigningState signing,
                          LoadSigning(options.directory, options.origin, /*may_create=*/false));
  absl::StatusOr<Checkpoint> expected = absl::DataLossError(
      signing.damage.empty() ? "there is no signing key in it" : signing.damage);
  if (signing.key) {
    expected = OpenCheckpoint(*options.expected_checkpoint, signing.key->verifier());
  }
  if (expected.ok()) return std::optional(*std::move(expected));
  return absl::FailedPreconditionError(absl::StrCat(
      "the expected checkpoint is none of the core in ", options.directory, ": ",
      expected.status().message(),
      "; correct or remove --expect-checkpoint, or restore the directory whose key signed it"));
}

// What others were given and the log does not have; empty: it has all of it.
absl::StatusOr<std::string> MissingOfSigned(const RecoveredCore& core,
                                            const std::optional<SignedCheckpoint>& last,
                                            const std::optional<Checkpoint>& expected) {
  const std::string has = absl::StrCat("the core has ", core.head, " records, but ");
  const std::string older = " records was signed: the log was restored from an older backup";
  if (last && last->checkpoint.size > core.head) {
    return absl::StrCat(has, "a checkpoint of ", last->checkpoint.size, older);
  }
  if (!expected) return "";
  if (expected->size > core.head) {
    return absl::StrCat(has, "the expected checkpoint of ", expected->size, older);
  }
  TiledNodes nodes(TreeReader(*core.store));
  const absl::StatusOr<Digest> root = RootOf(expected->size, nodes);
  if (!root.ok() && !absl::IsDataLoss(root.status())) return root.status();
  if (root.ok() && *root == expected->root) return "";
  return absl::StrCat("the first ", expected->size,
                      " records do not lead to the root of the expected checkpoint: ",
                      root.ok() ? "others were signed" : root.status().message());
}

// A log that is whole in itself may be older than what others were given. An operator who accepts
// that starts a log of another name: the old key must never sign what contradicts it.
absl::StatusOr<SigningState> OpenSigning(const CoreOptions& options, RecoveredCore& recovered,
                                         const std::optional<Checkpoint>& expected) {
  const bool writes = recovered.read_only_cause.empty();
  if (writes && recovered.is_backup) return OpenBackupSigning(options, recovered.head);
  ICEPIE_ASSIGN_OR_RETURN(SigningState signing,
                          LoadSigning(options.directory, options.origin, writes));
  if (!writes && signing.last) {
    absl::StrAppend(&recovered.read_only_cause, " (", recovered.head,
                    " records can be read, a checkpoint of ", signing.last->checkpoint.size,
                    " was signed)");
  }
  if (!writes) return signing;
  ICEPIE_ASSIGN_OR_RETURN(const std::string missing,
                          MissingOfSigned(recovered, signing.last, expected));
  if (missing.empty()) return signing;
  if (options.accept_loss_position != recovered.head) {
    recovered.read_only_cause =
        absl::StrCat(missing, kAppendsRefused,
                     ": stop the daemon and restore one that has what was signed. Or go on "
                     "without what is lost: icepied --accept-core-loss=",
                     recovered.head);
    return signing;
  }
  ICEPIE_RETURN_IF_ERROR(KeepAcceptedLoss(
      options.directory,
      absl::StrCat("the loss from position ", recovered.head, " on was accepted: ", missing)));
  const int64_t signed_size = std::max(signing.last ? signing.last->checkpoint.size : 0,
                                       expected ? expected->size : int64_t{0});
  ICEPIE_RETURN_IF_ERROR(RetireSigning(options.directory, signed_size));
  return LoadSigning(options.directory, options.origin, /*may_create=*/true);
}

absl::Status CheckOptions(const CoreOptions& options) {
  // A record fits a block with its framing, and a group of appends fits memory.
  constexpr int64_t kRecordBytesMax = kBlockRawBytesMax / 2;
  if (options.directory.empty() || options.record_bytes_max < 1 ||
      options.record_bytes_max > kRecordBytesMax || options.batch_bytes_max < 1 ||
      options.batch_records_max < 1 || options.queue_bytes_max < 1 || options.free_bytes_min < 0 ||
      options.ballast_bytes < 0 || options.sealing.segment_bytes < 1 ||
      options.sealing.hot_bytes_min < 0 || options.scrub.bytes_per_second < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "core limits must be positive, and record_bytes_max at most ", kRecordBytesMax));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Core>> Core::Open(const CoreOptions& options) {
  ICEPIE_RETURN_IF_ERROR(CheckOptions(options));
  ICEPIE_RETURN_IF_ERROR(CheckBackupFinished(options.directory));
  ICEPIE_RETURN_IF_ERROR(MakeDirectories(options.directory));
  ICEPIE_ASSIGN_OR_RETURN(std::unique_ptr<DataLock> lock, DataLock::Acquire(options.directory));
  // An opening that ended before may have made them without getting so far.
  ICEPIE_RETURN_IF_ERROR(SyncDirectory(absl::StrCat(options.directory, "/..")));
  ICEPIE_RETURN_IF_ERROR(SyncDirectory(options.directory));
  auto space = std::make_unique<DiskSpace>(DiskSpace::Options{
      options.directory, options.free_bytes_min, options.ballast_bytes, options.free_bytes});
  ICEPIE_ASSIGN_OR_RETURN(const std::optional<Checkpoint> expected, OpenExpected(options));
  space->Update();  // opening needs room too: a full disk gives the ballast back first
  auto guard = std::make_unique<ReadOnlyGuard>();
  ICEPIE_ASSIGN_OR_RETURN(RecoveredCore recovered, RecoverCore(options, *guard, *space));
  SigningState signing;
  if (options.merkle_tree) {
    ICEPIE_ASSIGN_OR_RETURN(signing, OpenSigning(options, recovered, expected));
    signing.mark = recovered.found_mark;
  }
  ICEPIE_ASSIGN_OR_RETURN(std::string accepted_loss, ReadAcceptedLoss(options.directory));
  return std::make_unique<CoreImpl>(options, std::move(lock), std::move(space), std::move(guard),
                                    std::move(recovered), std::move(signing),
                                    std::move(accepted_loss));
}

absl::StatusOr<AppendResult> Core::AppendAndWait(AppendBatch batch) {
  Mutex mutex;
  CondVar answered;
  std::optional<absl::StatusOr<AppendResult>> answer;
  Append(std::move(batch), [&](absl::StatusOr<AppendResult> result) {
    const MutexLock lock(mutex);
    answer = std::move(result);
    answered.Signal();  // under the lock: the waiting thread owns all of this
  });
  const MutexLock lock(mutex);
  while (!answer) answered.Wait(mutex);
  return std::move(*answer);
}

}  // namespace icepie
