#include "core/log/log_store.h"

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/listener.h>
#include <rocksdb/metadata.h>
#include <rocksdb/options.h>
#include <rocksdb/sst_file_manager.h>
#include <rocksdb/sst_file_reader.h>
#include <rocksdb/table.h>
#include <rocksdb/utilities/checkpoint.h>
#include <rocksdb/write_batch.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <set>

#include "absl/functional/function_ref.h"
#include "absl/memory/memory.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "core/base/check.h"
#include "core/base/directory.h"
#include "core/base/file.h"
#include "core/base/page_cache.h"
#include "core/base/status.h"
#include "core/block/block.h"
#include "core/byte_order.h"
#include "core/log/quota_file_system.h"
#include "core/log/read_file_system.h"
#include "core/log/read_only_guard.h"
#include "core/log/table_file_system.h"
#include "core/log/wal_check.h"
#include "core/log/wal_file_system.h"
#include "core/log/wal_order.h"

namespace icepie {
namespace {

constexpr uint32_t kTableFormat = 5;
constexpr size_t kLogKeyBytes = 12;
constexpr size_t kIndexKeyBytes = 8;
constexpr size_t kTreeKeyBytes = 9;
constexpr size_t kIndexValueBytes = 20;
constexpr size_t kOldIndexValueBytes = 16;  // without the block's bytes

absl::Status FromRocks(const rocksdb::Status& status, absl::string_view doing) {
  if (status.ok()) return absl::OkStatus();
  // Of a table that is missing RocksDB names the name that LevelDB would have given it, tried last.
  const std::string message =
      absl::StrCat(doing, ": ", absl::StrReplaceAll(status.ToString(), {{".ldb", ".sst"}}));
  if (status.IsCorruption() || status.IsPathNotFound()) {  // damaged or missing files
    return MakeError(absl::StatusCode::kDataLoss, message, "RECORD_DAMAGED");
  }
  // What the directory holds does not fit what is asked for, e.g. column families are missing.
  if (status.IsInvalidArgument()) return absl::FailedPreconditionError(message);
  return absl::UnavailableError(message);
}

rocksdb::Slice AsSlice(absl::string_view view) { return {view.data(), view.size()}; }

std::string LogKey(uint32_t stream_id, int64_t first_offset) {
  std::string key;
  PutBigEndian(key, stream_id);
  PutBigEndian(key, first_offset);
  return key;
}

std::string IndexKey(int64_t first_position) {
  std::string key;
  PutBigEndian(key, first_position);
  return key;
}

std::string IndexValue(const BlockPlace& place, size_t stored_bytes) {
  std::string value;
  PutLittleEndian(value, place.stream_id);
  PutLittleEndian(value, place.record_count);
  PutLittleEndian(value, place.first_offset);
  PutLittleEndian(value, static_cast<uint32_t>(stored_bytes));
  return value;
}

absl::StatusOr<BlockPlace> DecodePlace(const rocksdb::Iterator& entry) {
  const rocksdb::Slice key = entry.key();
  const rocksdb::Slice value = entry.value();
  if (key.size() != kIndexKeyBytes ||
      (value.size() != kIndexValueBytes && value.size() != kOldIndexValueBytes)) {
    return MakeError(absl::StatusCode::kDataLoss,
                     absl::StrCat("index entry ", key.ToString(/*hex=*/true), " is damaged"),
                     "RECORD_DAMAGED");
  }
  BlockPlace place;
  place.first_position = GetBigEndian<int64_t>(key.data());
  place.stream_id = GetLittleEndian<uint32_t>(value.data());
  place.record_count = GetLittleEndian<uint32_t>(value.data() + 4);
  place.first_offset = GetLittleEndian<int64_t>(value.data() + 8);
  if (value.size() == kIndexValueBytes) {
    place.stored_bytes = GetLittleEndian<uint32_t>(value.data() + 16);
  }
  return place;
}

// `position` is the first that is not found.
absl::Status IndexDamaged(int64_t position, absl::string_view why) {
  return MakeError(absl::StatusCode::kDataLoss,
                   absl::StrCat("records from position ", position, " on cannot be found: ", why),
                   "RECORD_DAMAGED", {{"position", absl::StrCat(position)}});
}

std::string TreeKey(int level, int64_t first) {
  std::string key(1, static_cast<char>(level));
  PutBigEndian(key, first);
  return key;
}

absl::Status TreeDamaged(absl::string_view what) {
  return MakeError(absl::StatusCode::kDataLoss,
                   absl::StrCat("the stored Merkle tree is damaged: ", what), "PROOF_DAMAGED");
}

absl::StatusOr<TileRun> DecodeRun(const rocksdb::Iterator& entry) {
  const rocksdb::Slice key = entry.key();
  const rocksdb::Slice hashes = entry.value();
  if (key.size() != kTreeKeyBytes || hashes.empty() || hashes.size() % kDigestBytes != 0) {
    return TreeDamaged(absl::StrCat("entry ", key.ToString(/*hex=*/true)));
  }
  return TileRun{static_cast<uint8_t>(key[0]), GetBigEndian<int64_t>(key.data() + 1),
                 hashes.ToString()};
}

absl::Status FromTree(const rocksdb::Status& status) {
  return status.IsCorruption() ? TreeDamaged(status.ToString()) : FromRocks(status, "read tree");
}

// An error of RocksDB's own threads that it does not get over ends in its refusal of the next
// write: the core says so before somebody has to try.
class BackgroundErrorListener final : public rocksdb::EventListener {
 public:
  explicit BackgroundErrorListener(ReadOnlyGuard* guard) : guard_(guard) {}

  void OnBackgroundError(rocksdb::BackgroundErrorReason reason, rocksdb::Status* error) override {
    spdlog::error("core: RocksDB background error {}: {}", static_cast<int>(reason),
                  error->ToString());
    if (guard_ == nullptr || !IsFinal(reason, *error)) return;
    guard_->Trip(absl::StrCat("RocksDB's work in the background failed (", error->ToString(), ")"));
  }

 private:
  static bool IsFinal(rocksdb::BackgroundErrorReason reason, const rocksdb::Status& error) {
    using Reason = rocksdb::BackgroundErrorReason;
    // Whoever writes hears of these, and knows what was written.
    if (reason == Reason::kWriteCallback || reason == Reason::kMemTable) return false;
    if (error.IsNoSpace()) return false;  // RocksDB goes on by itself once there is space
    if (error.severity() != rocksdb::Status::kNoError) {
      return error.severity() >= rocksdb::Status::kHardError;
    }
    // What may be tried again has no severity yet: compactions are, the rest is not
    // (max_bgerror_resume_count).
    return reason != Reason::kCompaction;
  }

  ReadOnlyGuard* const guard_;
};

bool Writes(LogStore::Mode mode) {
  return mode == LogStore::Mode::kReadWrite || mode == LogStore::Mode::kReadWriteAfterLoss;
}

bool StopsAtDamage(LogStore::Mode mode) {
  return mode != LogStore::Mode::kReadWrite && mode != LogStore::Mode::kReadOnly;
}

rocksdb::DBOptions DatabaseOptions(const LogStore::Options& options, rocksdb::Env* env) {
  rocksdb::DBOptions db;
  db.env = env;
  db.create_if_missing = Writes(options.mode);
  db.create_missing_column_families = db.create_if_missing;
  // A torn end is what a crash leaves behind; any other damage must be an error. The default
  // (point in time) drops everything behind one flipped bit without a word.
  db.wal_recovery_mode = StopsAtDamage(options.mode)
                             ? rocksdb::WALRecoveryMode::kPointInTimeRecovery
                             : rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  // Would refuse to open after a crash that our high-water mark judges better, and does not notice
  // a deleted live log anyway.
  db.track_and_verify_wals_in_manifest = false;
  // A failed background write makes the database refuse further writes, and a table file that is
  // missing or does not open the opening.
  db.paranoid_checks = options.mode != LogStore::Mode::kSalvageTables;
  // The three column families fill at different speeds; without a bound the slow ones would keep
  // old logs alive for ever, and opening replays them.
  db.max_total_wal_size = uint64_t{128} << 20;
  db.max_open_files = 512;  // bounded, for cores with many files
  // A flush beside a compaction; more would take the machine from slices, and sealing leaves little
  // to merge.
  db.max_background_jobs = 2;
  db.bytes_per_sync = uint64_t{1} << 20;  // flushes write steadily and do not stall the log's syncs
  // RocksDB's LOG is for people who look for a fault: what went wrong, in 16 MiB at most.
  db.max_log_file_size = size_t{4} << 20;
  db.keep_log_file_num = 4;
  db.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  // After a failed sync the kernel may have dropped the pages: no resuming on the same files. This
  // alone does not say it for full disks; see wal_file_system.h.
  db.max_bgerror_resume_count = 0;
  db.listeners.push_back(std::make_shared<BackgroundErrorListener>(options.guard));
  return db;
}

rocksdb::ColumnFamilyOptions FamilyOptions(const std::shared_ptr<rocksdb::Cache>& cache,
                                           size_t write_buffer_bytes) {
  rocksdb::ColumnFamilyOptions family;
  family.write_buffer_size = write_buffer_bytes;
  family.compression = rocksdb::kNoCompression;  // blocks are compressed, the rest is small
  family.enable_blob_files = false;              // unreliable in 7.8.3 in several set-ups
  family.paranoid_file_checks = true;            // each written file is read back and compared
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = cache;
  // What core/README.md says of tables, whatever is the default of the RocksDB that is built with.
  table.checksum = rocksdb::kXXH3;
  table.format_version = kTableFormat;
  // Most request ids that are looked up are new. Ten bits tell it of 99 in 100.
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  family.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return family;
}

constexpr const char* kTreeFamily = "tree";

std::vector<rocksdb::ColumnFamilyDescriptor> Families(
    const std::shared_ptr<rocksdb::Cache>& cache) {
  // Blocks wait in memory until they are sealed, so that most never become a table (core/README.md
  // says how much waits); beside them the other entries are small.
  const rocksdb::ColumnFamilyOptions small = FamilyOptions(cache, size_t{8} << 20);
  // RocksDB insists on a family called "default"; it stays empty.
  return {{rocksdb::kDefaultColumnFamilyName, small},
          {"log", FamilyOptions(cache, size_t{64} << 20)},
          {"index", small},
          {"catalog", small},
          {kTreeFamily, small}};
}

// Logs of before the tree have no family for it: a reader does without.
void DropMissingTree(const rocksdb::DBOptions& database, const std::string& directory,
                     std::vector<rocksdb::ColumnFamilyDescriptor>& families) {
  std::vector<std::string> names;
  const rocksdb::Status listed = rocksdb::DB::ListColumnFamilies(database, directory, &names);
  if (!listed.ok() || std::find(names.begin(), names.end(), kTreeFamily) != names.end()) return;
  families.pop_back();
}

absl::Status FileDamaged(const std::string& path, absl::string_view what) {
  return MakeError(absl::StatusCode::kDataLoss, absl::StrCat(path, " ", what), "RECORD_DAMAGED",
                   {{"file", path}});
}

// Of a table all is under checksums but its last 53 bytes: the kind of checksums, two handles of
// two varints each, zeros up to the 41st byte, format version and magic number. RocksDB itself
// notices a change of these, but not of the zeros, and not that another version means other
// filters.
absl::Status CheckTableFooter(const std::string& path) {
  constexpr size_t kFooterBytes = 53;
  constexpr size_t kHandlesEnd = 41;
  std::ifstream file(path, std::ios::binary);
  std::string footer(kFooterBytes, '\0');
  file.seekg(-static_cast<std::streamoff>(kFooterBytes), std::ios::end);
  if (!file.read(footer.data(), kFooterBytes)) return FileDamaged(path, "has no footer");
  absl::string_view left = absl::string_view(footer).substr(1, kHandlesEnd - 1);
  for (int varint = 0; varint < 4; ++varint) {
    while (!left.empty() && (left.front() & 0x80) != 0) left.remove_prefix(1);
    if (!left.empty()) left.remove_prefix(1);
  }
  const bool is_whole = left.find_first_not_of('\0') == absl::string_view::npos &&
                        GetLittleEndian<uint32_t>(footer.data() + kHandlesEnd) == kTableFormat;
  return is_whole ? absl::OkStatus() : FileDamaged(path, "has a damaged footer");
}

class RocksLogStore final : public LogStore {
 public:
  RocksLogStore(bool writes, std::shared_ptr<LiveWals> wals, std::unique_ptr<rocksdb::Env> env,
                std::unique_ptr<WalOrder> order, std::shared_ptr<rocksdb::SstFileManager> files,
                std::shared_ptr<rocksdb::Cache> cache, std::unique_ptr<rocksdb::DB> db,
                std::vector<rocksdb::ColumnFamilyHandle*> families)
      : writes_(writes),
        wals_(std::move(wals)),
        env_(std::move(env)),
        order_(std::move(order)),
        files_(std::move(files)),
        cache_(std::move(cache)),
        db_(std::move(db)),
        families_(std::move(families)),
        log_(families_[1]),
        index_(families_[2]),
        catalog_(families_[3]),
        tree_(families_.size() > 4 ? families_[4] : nullptr) {
    files_->SetCompactionBufferSize(kBeyondAnyDisk);
  }

  ~RocksLogStore() override {
    for (rocksdb::ColumnFamilyHandle* family : families_) {
      db_->DestroyColumnFamilyHandle(family).PermitUncheckedError();
    }
    const rocksdb::Status status = db_->Close();
    if (!status.ok()) spdlog::warn("core: closing RocksDB: {}", status.ToString());
  }

  absl::Status Commit(absl::Span<const LogEntry> entries, const TileChanges& tree,
                      absl::Span<const CatalogChange> catalog) override {
    rocksdb::WriteBatch batch = NewBatch();
    for (const LogEntry& entry : entries) {
      const BlockPlace& place = entry.place;
      ICEPIE_RETURN_IF_ERROR(FromRocks(
          batch.Put(log_, LogKey(place.stream_id, place.first_offset), entry.block), "add block"));
      ICEPIE_RETURN_IF_ERROR(FromRocks(
          batch.Put(index_, IndexKey(place.first_position), IndexValue(place, entry.block.size())),
          "add index entry"));
    }
    ICEPIE_RETURN_IF_ERROR(AddTree(tree, batch));
    ICEPIE_RETURN_IF_ERROR(AddCatalog(catalog, batch));
    return WriteSynced(batch);
  }

  absl::Status DropSealed(const SealedRange& sealed) override {
    rocksdb::WriteBatch batch = NewBatch();
    const auto& [key, value] = sealed.registration;
    ICEPIE_RETURN_IF_ERROR(FromRocks(batch.Put(catalog_, key, *value), "register segment"));
    ICEPIE_RETURN_IF_ERROR(FromRocks(
        batch.DeleteRange(index_, IndexKey(sealed.first_position), IndexKey(sealed.end_position)),
        "drop index entries"));
    for (const auto& [stream_id, first, end] : sealed.streams) {
      ICEPIE_RETURN_IF_ERROR(
          FromRocks(batch.DeleteRange(log_, LogKey(stream_id, first), LogKey(stream_id, end)),
                    "drop blocks"));
    }
    return WriteSynced(batch);
  }

  absl::Status ChangeTree(const TileChanges& tree,
                          absl::Span<const CatalogChange> changes) override {
    rocksdb::WriteBatch batch = NewBatch();
    ICEPIE_RETURN_IF_ERROR(AddTree(tree, batch));
    ICEPIE_RETURN_IF_ERROR(AddCatalog(changes, batch));
    return WriteSynced(batch);
  }

  // RocksDB compares a compaction's size with what it may still use of a quota for its tables. The
  // quota itself must never be reached, since that would end all writes: so both it and the part
  // that compactions must leave are raised by more than any disk has.
  void LimitCompactions(int64_t bytes) override {
    const uint64_t limit =
        files_->GetTotalSize() + static_cast<uint64_t>(std::max<int64_t>(bytes, 0));
    files_->SetMaxAllowedSpaceUsage(limit + kBeyondAnyDisk);
  }

  absl::Status ChangeCatalog(absl::Span<const CatalogChange> changes) override {
    rocksdb::WriteBatch batch = NewBatch();
    ICEPIE_RETURN_IF_ERROR(AddCatalog(changes, batch));
    return WriteSynced(batch);
  }

  absl::StatusOr<std::vector<std::pair<std::string, std::string>>> ScanCatalog(
      absl::string_view prefix) const override {
    std::vector<std::pair<std::string, std::string>> pairs;
    ICEPIE_RETURN_IF_ERROR(
        VisitCatalog(prefix, prefix, [&](absl::string_view key, absl::string_view value) {
          pairs.emplace_back(key, value);
          return true;
        }));
    return pairs;
  }

  absl::StatusOr<std::optional<std::string>> ReadCatalog(absl::string_view key) const override {
    std::string value;
    const rocksdb::Status status = db_->Get(rocksdb::ReadOptions(), catalog_, AsSlice(key), &value);
    if (status.IsNotFound()) return std::nullopt;
    ICEPIE_RETURN_IF_ERROR(FromRocks(status, "read catalog"));
    return value;
  }

  absl::Status VisitCatalog(absl::string_view prefix, absl::string_view start,
                            const CatalogVisitor& visit) const override {
    const auto iterator = NewIterator(catalog_);
    for (iterator->Seek(AsSlice(start));
         iterator->Valid() && iterator->key().starts_with(AsSlice(prefix)); iterator->Next()) {
      const rocksdb::Slice key = iterator->key();
      const rocksdb::Slice value = iterator->value();
      if (!visit({key.data(), key.size()}, {value.data(), value.size()})) break;
    }
    return FromRocks(iterator->status(), "read catalog");
  }

  absl::StatusOr<std::optional<BlockPlace>> LastPlace() const override {
    const auto iterator = NewIterator(index_);
    iterator->SeekToLast();
    ICEPIE_RETURN_IF_ERROR(FromRocks(iterator->status(), "read index"));
    if (!iterator->Valid()) return std::nullopt;
    ICEPIE_ASSIGN_OR_RETURN(const bool is_kept, IsKept(index_, *iterator));
    if (!is_kept) return std::nullopt;
    ICEPIE_ASSIGN_OR_RETURN(const BlockPlace place, DecodePlace(*iterator));
    return place;
  }

  absl::StatusOr<std::optional<std::string>> LastBlock(uint32_t stream_id) const override {
    return BlockAtOffset(stream_id, INT64_MAX);
  }

  absl::StatusOr<std::optional<std::string>> BlockAtOffset(uint32_t stream_id,
                                                           int64_t offset) const override {
    const auto iterator = NewIterator(log_);
    iterator->SeekForPrev(LogKey(stream_id, offset));
    ICEPIE_RETURN_IF_ERROR(FromRocks(iterator->status(), "read log"));
    if (!iterator->Valid() || iterator->key().size() != kLogKeyBytes ||
        GetBigEndian<uint32_t>(iterator->key().data()) != stream_id) {
      return std::nullopt;
    }
    ICEPIE_ASSIGN_OR_RETURN(const bool is_kept, IsKept(log_, *iterator));
    if (!is_kept) return std::nullopt;
    return iterator->value().ToString();
  }

  absl::Status VisitPlaces(int64_t from, int64_t end, const Visitor& visit) const override {
    const auto iterator = NewIterator(index_);
    int64_t next = from;
    const absl::Status found = SeekKept(from, *iterator);
    if (absl::IsDataLoss(found)) return IndexDamaged(next, found.message());
    ICEPIE_RETURN_IF_ERROR(found);
    for (; iterator->Valid(); iterator->Next()) {
      const absl::StatusOr<BlockPlace> place = DecodePlace(*iterator);
      if (!place.ok()) return IndexDamaged(next, place.status().message());
      if (place->first_position >= end) break;
      if (place->end_position() > from && !visit(*place)) break;
      next = std::max(next, place->end_position());
    }
    const absl::Status status = FromRocks(iterator->status(), "read index");
    return absl::IsDataLoss(status) ? IndexDamaged(next, status.message()) : status;
  }

  absl::Status VisitStreamBackwards(uint32_t stream_id, const Visitor& visit) const override {
    const auto iterator = NewIterator(log_);
    for (iterator->SeekForPrev(LogKey(stream_id, INT64_MAX)); iterator->Valid(); iterator->Prev()) {
      const rocksdb::Slice key = iterator->key();
      if (key.size() != kLogKeyBytes || GetBigEndian<uint32_t>(key.data()) != stream_id) break;
      const rocksdb::Slice block = iterator->value();
      const absl::StatusOr<BlockHeader> header = ReadBlockHeader({block.data(), block.size()});
      const bool has_place =
          block.size() >= kDearBytes && header.ok() && HasPlace(header->first_position);
      if (!has_place) {
        ICEPIE_ASSIGN_OR_RETURN(const bool is_kept, IsKept(log_, *iterator));
        if (!is_kept) break;
      }
      ICEPIE_RETURN_IF_ERROR(header.status());
      if (!visit({header->first_position, stream_id, header->first_offset, header->record_count,
                  static_cast<uint32_t>(block.size())})) {
        break;
      }
    }
    return FromRocks(iterator->status(), "read log");
  }

  absl::StatusOr<std::string> ReadBlock(const BlockPlace& place) const override {
    std::string block;
    const rocksdb::Status status =
        db_->Get(rocksdb::ReadOptions(), log_, LogKey(place.stream_id, place.first_offset), &block);
    if (status.ok()) return block;
    if (!status.IsCorruption() && !status.IsNotFound() && !status.IsPathNotFound()) {
      return FromRocks(status, "read block");
    }
    return MakeError(absl::StatusCode::kDataLoss,
                     absl::StrCat("records from position ", place.first_position, " to ",
                                  place.end_position(), " are damaged: ", status.ToString()),
                     "RECORD_DAMAGED", {{"position", absl::StrCat(place.first_position)}});
  }

  void SalvagePlaces(const std::function<void(const BlockPlace&)>& visit) const override {
    Salvage(index_, "", [&](const rocksdb::Iterator& entry) {
      const absl::StatusOr<bool> is_kept = IsKept(index_, entry);
      if (!is_kept.ok() || !*is_kept) return;  // nor what may be dropped
      const absl::StatusOr<BlockPlace> place = DecodePlace(entry);
      if (place.ok()) visit(*place);
    });
  }

  std::vector<std::pair<std::string, std::string>> SalvageCatalog(
      absl::string_view prefix) const override {
    std::vector<std::pair<std::string, std::string>> pairs;
    Salvage(catalog_, prefix, [&pairs](const rocksdb::Iterator& entry) {
      pairs.emplace_back(entry.key().ToString(), entry.value().ToString());
    });
    return pairs;
  }

  absl::StatusOr<std::vector<TileRun>> ReadTreeRuns(int level, int64_t first,
                                                    int64_t end) const override {
    std::vector<TileRun> runs;
    if (tree_ == nullptr) return runs;
    const auto iterator = NewIterator(tree_);
    const std::string end_key = TreeKey(level, end);
    for (iterator->Seek(TreeKey(level, first));
         iterator->Valid() && iterator->key().compare(end_key) < 0; iterator->Next()) {
      ICEPIE_ASSIGN_OR_RETURN(TileRun run, DecodeRun(*iterator));
      runs.push_back(std::move(run));
    }
    ICEPIE_RETURN_IF_ERROR(FromTree(iterator->status()));
    return runs;
  }

  absl::StatusOr<std::optional<TileRun>> LastTreeRun(int level) const override {
    if (tree_ == nullptr) return std::nullopt;
    const auto iterator = NewIterator(tree_);
    iterator->SeekForPrev(TreeKey(level, INT64_MAX));
    ICEPIE_RETURN_IF_ERROR(FromTree(iterator->status()));
    if (!iterator->Valid() || iterator->key().compare(TreeKey(level, 0)) < 0) return std::nullopt;
    ICEPIE_ASSIGN_OR_RETURN(TileRun run, DecodeRun(*iterator));
    return run;
  }

  absl::Status CopyTo(const std::string& directory) const override {
    rocksdb::Checkpoint* checkpoint = nullptr;
    ICEPIE_RETURN_IF_ERROR(
        FromRocks(rocksdb::Checkpoint::Create(db_.get(), &checkpoint), "begin a copy"));
    const std::unique_ptr<rocksdb::Checkpoint> owned(checkpoint);
    // Always flushed: what of the log is only linked is not fully synced.
    return FromRocks(owned->CreateCheckpoint(directory, /*log_size_for_flush=*/0),
                     absl::StrCat("copy the log to ", directory));
  }

  absl::StatusOr<std::vector<StoredFile>> ListFiles() const override {
    std::vector<StoredFile> files = Tables();
    if (!writes_) return files;
    std::set<std::string> wals;  // those that are there, and those that must be
    std::error_code error;
    for (const auto& file : DirectoryEntries(db_->GetName(), error)) {
      if (IsWal(file.path().string())) wals.insert(file.path().string());
    }
    if (error) return ErrnoError(error.value(), absl::StrCat("read ", db_->GetName()));
    for (const std::string& path : wals_->Paths()) {
      // Those of a copy are somewhere else.
      if (std::filesystem::path(path).parent_path() == db_->GetName()) wals.insert(path);
    }
    for (const std::string& path : wals) {
      const absl::StatusOr<int64_t> bytes = WalBytes(path);
      if (absl::IsNotFound(bytes.status())) continue;  // its content is in tables
      ICEPIE_RETURN_IF_ERROR(bytes.status());
      files.push_back({path, "", *bytes});
    }
    ICEPIE_ASSIGN_OR_RETURN(StoredFile manifest, Manifest());
    files.push_back(std::move(manifest));
    return files;
  }

  absl::Status CheckFile(const StoredFile& file, const CheckOptions& how) const override {
    if (!file.family.empty()) return CheckTable(file, how.progress);
    return IsWal(file.path) ? CheckWal(file.path, how) : CheckManifest(how.progress);
  }

  void DropCache() const override { cache_->EraseUnRefEntries(); }

 private:
  std::vector<StoredFile> Tables() const {
    std::vector<rocksdb::LiveFileMetaData> tables;
    db_->GetLiveFilesMetaData(&tables);
    std::vector<StoredFile> files;
    for (const rocksdb::LiveFileMetaData& table : tables) {
      files.push_back({absl::StrCat(table.db_path, table.name), table.column_family_name,
                       static_cast<int64_t>(table.size)});
    }
    return files;
  }

  static bool IsWal(const std::string& path) { return absl::EndsWith(path, ".log"); }

  // The one that RocksDB writes, with as many bytes as it has written.
  absl::StatusOr<StoredFile> Manifest() const {
    std::vector<std::string> names;
    uint64_t bytes = 0;
    ICEPIE_RETURN_IF_ERROR(
        FromRocks(db_->GetLiveFiles(names, &bytes, /*flush_memtable=*/false), "list files"));
    for (const std::string& name : names) {
      if (!absl::StartsWith(name, kManifestName)) continue;
      return StoredFile{absl::StrCat(db_->GetName(), name), "", static_cast<int64_t>(bytes)};
    }
    return absl::InternalError("RocksDB names no manifest");
  }

  // Nothing reads it and CURRENT before the next start, to which they say what tables and logs
  // count.
  absl::Status CheckManifest(const CheckProgress& progress) const {
    while (true) {
      ICEPIE_ASSIGN_OR_RETURN(const StoredFile manifest, Manifest());
      const absl::Status status = CheckManifest(manifest, progress);
      if (status.ok() || absl::IsCancelled(status)) return status;
      ICEPIE_ASSIGN_OR_RETURN(const StoredFile now, Manifest());
      if (now.path == manifest.path) return status;  // else RocksDB has begun another one since
    }
  }

  absl::Status CheckManifest(const StoredFile& manifest, const CheckProgress& progress) const {
    ICEPIE_RETURN_IF_ERROR(CheckCurrent(manifest.path));
    DropFromPageCache(manifest.path);
    const absl::StatusOr<WalCheck> check = CheckWalFile(manifest.path, 0, progress);
    if (absl::IsNotFound(check.status())) return FileDamaged(manifest.path, "is missing");
    ICEPIE_RETURN_IF_ERROR(check.status());
    if (check->whole_bytes >= manifest.bytes) return absl::OkStatus();
    return FileDamaged(manifest.path, LostEnd(manifest.bytes, check->whole_bytes));
  }

  absl::Status CheckCurrent(const std::string& manifest) const {
    const std::string path = absl::StrCat(db_->GetName(), "/CURRENT");
    DropFromPageCache(path);
    const absl::StatusOr<std::string> text = ReadFile(path);
    if (absl::IsNotFound(text.status())) return FileDamaged(path, "is missing");
    ICEPIE_RETURN_IF_ERROR(text.status());
    absl::string_view name = *text;
    if (absl::ConsumeSuffix(&name, "\n")) {
      const std::string named = absl::StrCat(db_->GetName(), "/", name);
      // One with a higher number: RocksDB is about to go on in it.
      const bool is_next = named > manifest && ::access(named.c_str(), F_OK) == 0;
      if (named == manifest || is_next) return absl::OkStatus();
    }
    return FileDamaged(path, absl::StrCat("does not name ", manifest));
  }

  bool IsLive(const StoredFile& table) const {
    const std::vector<StoredFile> files = Tables();
    return std::any_of(files.begin(), files.end(),
                       [&table](const StoredFile& live) { return live.path == table.path; });
  }

  // What a failed write has left at its end was never acknowledged, and the next start drops it.
  bool HasFailed(const std::string& log) const {
    if (!has_failed_.load()) return false;
    const absl::StatusOr<std::vector<StoredFile>> files = ListFiles();
    return files.ok() && std::none_of(files->begin(), files->end(), [&log](const auto& other) {
             return IsWal(other.path) && other.path > log;
           });
  }

  absl::Status CheckTable(const StoredFile& table, const CheckProgress& progress) const {
    DropFromPageCache(table.path);
    bool goes_on = true;
    const auto env = WithReadProgress(*db_->GetEnv(), [&](int64_t bytes) {
      goes_on = !progress || progress(bytes);
      return goes_on;
    });
    rocksdb::Options options;
    options.env = env.get();
    rocksdb::BlockBasedTableOptions format;
    format.no_block_cache = true;  // from the disk, and it leaves nothing behind
    options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(format));
    rocksdb::SstFileReader reader(options);
    rocksdb::Status status = reader.Open(table.path);
    if (status.ok()) status = reader.VerifyChecksum(rocksdb::ReadOptions());
    if (!goes_on) {
      return absl::CancelledError(absl::StrCat("the check of ", table.path, " was ended"));
    }
    const absl::Status found =
        status.ok()
            ? CheckTableFooter(table.path)
            : FromRocks(status, absl::StrCat("table file ", table.path, " (", table.family, ")"));
    return found.ok() || !IsLive(table) ? absl::OkStatus() : found;
  }

  // Beside appends, the file may end in a record that is being written. So all that is there at the
  // beginning must be whole as soon as whoever wrote then is done.
  absl::Status CheckWal(const std::string& path, const CheckOptions& how) const {
    DropFromPageCache(path);
    const absl::StatusOr<int64_t> bytes = WalBytes(path);
    if (absl::IsNotFound(bytes.status())) return absl::OkStatus();
    ICEPIE_RETURN_IF_ERROR(bytes.status());
    const int64_t there = *bytes;
    const uint64_t begun = writes_begun_.load();
    int64_t checked = 0;
    int64_t whole = 0;
    for (absl::Duration waited;; waited += kWalPause) {
      // RocksDB writes one group after the other: that a later write has ended is enough.
      const uint64_t ended = writes_ended_.load();
      const bool is_settled = ended > begun || ended == writes_begun_.load();
      const absl::StatusOr<WalCheck> check = CheckWalFile(path, checked, how.progress);
      if (absl::IsNotFound(check.status())) {
        if (!wals_->BytesOf(path)) return absl::OkStatus();  // its content is in tables
        return FileDamaged(path, "is missing");
      }
      ICEPIE_RETURN_IF_ERROR(check.status());
      whole = std::max(whole, check->whole_bytes);
      if (whole >= there) return absl::OkStatus();
      if (is_settled && HasFailed(path)) return absl::OkStatus();
      if (is_settled) {
        return FileDamaged(path, check->is_whole ? LostEnd(there, whole) : "ends within a record");
      }
      if (waited >= how.patience) return Unverified(path, whole, there);
      checked = check->checked_bytes;
      absl::SleepFor(kWalPause);
    }
  }

  // As many as were written, and what of a write under way is there; of a log that was there at the
  // opening as many as there are.
  absl::StatusOr<int64_t> WalBytes(const std::string& path) const {
    const std::optional<int64_t> written = wals_->BytesOf(path);
    std::error_code error;
    const auto there = static_cast<int64_t>(std::filesystem::file_size(path, error));
    if (!error) return std::max(there, written.value_or(0));
    if (written && error == std::errc::no_such_file_or_directory) return *written;
    return ErrnoError(error.value(), absl::StrCat("look at ", path));
  }

  static std::string LostEnd(int64_t written, int64_t whole) {
    return absl::StrCat("has lost its end: ", written, " bytes were written, of which ", whole,
                        " are there");
  }

  static absl::Status Unverified(const std::string& path, int64_t from, int64_t end) {
    return absl::DeadlineExceededError(
        absl::StrCat("write-ahead log ", path, " is not verified from byte ", from, " to ", end,
                     ": a write to it does not end; try again later"));
  }

  absl::Status AddTree(const TileChanges& tree, rocksdb::WriteBatch& batch) {
    for (const TileRun& run : tree.put) {
      ICEPIE_RETURN_IF_ERROR(
          FromRocks(batch.Put(tree_, TreeKey(run.level, run.first), run.hashes), "add hashes"));
    }
    for (const auto& [level, first] : tree.erase) {
      ICEPIE_RETURN_IF_ERROR(FromRocks(batch.Delete(tree_, TreeKey(level, first)), "join hashes"));
    }
    return absl::OkStatus();
  }

  absl::Status AddCatalog(absl::Span<const CatalogChange> changes, rocksdb::WriteBatch& batch) {
    for (const auto& [key, value] : changes) {
      const rocksdb::Status status =
          value ? batch.Put(catalog_, key, *value) : batch.Delete(catalog_, key);
      ICEPIE_RETURN_IF_ERROR(FromRocks(status, "change catalog"));
    }
    return absl::OkStatus();
  }

  // Entries carry a checksum from here to the disk, so that a bit flipped in memory is found.
  static rocksdb::WriteBatch NewBatch() {
    return rocksdb::WriteBatch(/*reserved_bytes=*/0, /*max_bytes=*/0,
                               /*protection_bytes_per_key=*/8, /*default_cf_ts_sz=*/0);
  }

  absl::Status WriteSynced(rocksdb::WriteBatch& batch) {
    rocksdb::WriteOptions options;
    options.sync = true;
    ++writes_begun_;
    const rocksdb::Status status = db_->Write(options, &batch);
    if (!status.ok()) has_failed_ = true;
    ++writes_ended_;
    return FromRocks(status, "write to the log");
  }

  // Iterators go over what DropSealed has dropped as if it were still there: those that heed ranges
  // of deletions abort (RocksDB 7.8) when a table cannot be read, or pass over its entries without
  // a word. IsKept() says of what they find whether it is dropped.
  std::unique_ptr<rocksdb::Iterator> NewIterator(rocksdb::ColumnFamilyHandle* family) const {
    rocksdb::ReadOptions options;
    options.ignore_range_deletions = true;
    return absl::WrapUnique(db_->NewIterator(options, family));
  }

  absl::StatusOr<bool> IsKept(rocksdb::ColumnFamilyHandle* family,
                              const rocksdb::Iterator& entry) const {
    rocksdb::PinnableSlice value;
    const rocksdb::Status status = db_->Get(rocksdb::ReadOptions(), family, entry.key(), &value);
    if (status.IsNotFound()) return false;
    ICEPIE_RETURN_IF_ERROR(FromRocks(status, "look up an entry"));
    return true;
  }

  // Whether the index has a block that begins there: then that is kept, since both are dropped by
  // one write. False says nothing. A lookup of the block itself copies it.
  bool HasPlace(int64_t first_position) const {
    rocksdb::PinnableSlice value;
    return db_->Get(rocksdb::ReadOptions(), index_, IndexKey(first_position), &value).ok();
  }

  // Moves to the entry of the block that holds `from`, else to the first one that is kept. Those
  // that are dropped come before all that are kept, and may be many: the first is found by halving.
  absl::Status SeekKept(int64_t from, rocksdb::Iterator& index) const {
    // Mostly a block begins there: found without a look at what comes before it, which may be
    // dropped, and damaged.
    index.Seek(IndexKey(from));
    bool is_kept = false;
    if (index.Valid() && index.key() == IndexKey(from)) {
      ICEPIE_ASSIGN_OR_RETURN(is_kept, IsKept(index_, index));
    }
    if (is_kept) return absl::OkStatus();
    index.SeekForPrev(IndexKey(from));  // the block may begin before it
    if (!index.Valid() && index.status().ok()) index.SeekToFirst();
    if (!index.Valid()) return FromRocks(index.status(), "read index");
    ICEPIE_ASSIGN_OR_RETURN(is_kept, IsKept(index_, index));
    if (is_kept) return absl::OkStatus();
    ICEPIE_ASSIGN_OR_RETURN(BlockPlace place, DecodePlace(index));
    int64_t low = place.first_position + 1;
    index.SeekToLast();
    if (!index.Valid()) return FromRocks(index.status(), "read index");
    ICEPIE_ASSIGN_OR_RETURN(place, DecodePlace(index));
    int64_t high = place.first_position + 1;
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      index.Seek(IndexKey(middle));
      if (!index.Valid()) return FromRocks(index.status(), "read index");
      ICEPIE_ASSIGN_OR_RETURN(is_kept, IsKept(index_, index));
      if (is_kept) {
        high = middle;
      } else {
        ICEPIE_ASSIGN_OR_RETURN(place, DecodePlace(index));
        low = place.first_position + 1;
      }
    }
    index.Seek(IndexKey(low));
    return FromRocks(index.status(), "read index");
  }

  void Salvage(rocksdb::ColumnFamilyHandle* family, absl::string_view prefix,
               absl::FunctionRef<void(const rocksdb::Iterator&)> visit) const {
    std::string last;
    const auto forward = NewIterator(family);
    for (forward->Seek(AsSlice(prefix));
         forward->Valid() && forward->key().starts_with(AsSlice(prefix)); forward->Next()) {
      visit(*forward);
      last = forward->key().ToString();
    }
    if (forward->status().ok()) return;
    const auto backward = NewIterator(family);
    if (prefix.empty()) {
      backward->SeekToLast();
    } else {
      std::string end(prefix);
      ++end.back();  // no key is so short
      backward->SeekForPrev(end);
    }
    for (; backward->Valid() && backward->key().starts_with(AsSlice(prefix)) &&
           backward->key().compare(last) > 0;
         backward->Prev()) {
      visit(*backward);
    }
  }

  static constexpr size_t kDearBytes = 16
                                       << 10;  // to copy them takes longer than to look elsewhere
  static constexpr uint64_t kBeyondAnyDisk = uint64_t{1} << 60;
  static constexpr absl::Duration kWalPause = absl::Milliseconds(10);
  static constexpr absl::string_view kManifestName = "/MANIFEST-";  // as RocksDB lists it

  const bool writes_;
  std::atomic<uint64_t> writes_begun_{0};
  std::atomic<uint64_t> writes_ended_{0};
  std::atomic<bool> has_failed_{false};  // a write, so the newest log is final
  const std::shared_ptr<LiveWals> wals_;
  const std::unique_ptr<rocksdb::Env> env_;  // outlives all that follows
  const std::unique_ptr<WalOrder> order_;    // RocksDB keeps its address
  const std::shared_ptr<rocksdb::SstFileManager> files_;
  const std::shared_ptr<rocksdb::Cache> cache_;
  const std::unique_ptr<rocksdb::DB> db_;
  const std::vector<rocksdb::ColumnFamilyHandle*> families_;
  rocksdb::ColumnFamilyHandle* const log_;
  rocksdb::ColumnFamilyHandle* const index_;
  rocksdb::ColumnFamilyHandle* const catalog_;
  rocksdb::ColumnFamilyHandle* const tree_;  // nullptr: a reader of a log from before the tree
};

absl::Status CheckOrder(const WalOrder& order) {
  if (order.gap().empty()) return absl::OkStatus();
  return MakeError(absl::StatusCode::kDataLoss, order.gap(), "RECORD_DAMAGED");
}

std::optional<uint64_t> NumberIn(absl::string_view name, absl::string_view before,
                                 absl::string_view behind) {
  uint64_t number = 0;
  if (!absl::ConsumePrefix(&name, before) || !absl::ConsumeSuffix(&name, behind) ||
      !absl::SimpleAtoi(name, &number)) {
    return std::nullopt;
  }
  return number;
}

// That the first of the logs that are needed is missing shows in no other one. RocksDB keeps the
// number from which on it needs them: once something was flushed for good, that of a log. Until
// then that of none, and what it needs begins with the log that it made when it was opened, before
// it began the manifest. Where no log is there at all, the high-water mark tells.
absl::Status CheckFirstLog(rocksdb::DB& db, const std::string& directory, const WalOrder& order) {
  uint64_t kept = 0;
  std::string current;
  ICEPIE_RETURN_IF_ERROR(FromRocks(
      rocksdb::ReadFileToString(db.GetEnv(), absl::StrCat(directory, "/CURRENT"), &current),
      "read CURRENT"));
  std::vector<std::string> names;
  ICEPIE_RETURN_IF_ERROR(FromRocks(db.GetEnv()->GetChildren(directory, &names), "list the logs"));
  if (!db.GetIntProperty(rocksdb::DB::Properties::kMinLogNumberToKeep, &kept)) {
    return absl::OkStatus();
  }
  const std::optional<uint64_t> manifest = NumberIn(current, "MANIFEST-", "\n");
  std::optional<uint64_t> first;
  for (const std::string& name : names) {
    const auto number = NumberIn(name, "", ".log");
    if (number && *number >= std::max(kept, order.first_needed())) {
      first = std::min(*number, first.value_or(*number));
    }
  }
  if (!manifest || !first || *first == kept || *first < *manifest) return absl::OkStatus();
  return MakeError(absl::StatusCode::kDataLoss,
                   absl::StrFormat("the oldest write-ahead log that is needed is missing: those "
                                   "that are there begin with %s/%06d.log",
                                   directory, *first),
                   "RECORD_DAMAGED");
}

}  // namespace

absl::StatusOr<std::unique_ptr<LogStore>> LogStore::Open(const Options& options) {
  const std::unique_ptr<rocksdb::Env> quotas =
      WithQuotasAsFullDisks(options.env == nullptr ? *rocksdb::Env::Default() : *options.env);
  const std::unique_ptr<rocksdb::Env> reads = WithLastingReadErrors(
      *quotas,
      /*also_logs=*/options.mode == Mode::kSalvageTables || !StopsAtDamage(options.mode));
  const std::unique_ptr<rocksdb::Env> tables = WithLateTableFailures(*reads, options.directory);
  const auto wals = std::make_shared<LiveWals>();
  std::unique_ptr<rocksdb::Env> env = WithFinalWalFailures(
      *tables, wals,
      [own = absl::StrCat(options.directory, "/"), make = options.make_room](const auto& path) {
        return make && absl::StartsWith(path, own) && make();
      });
  rocksdb::DBOptions database = DatabaseOptions(options, env.get());
  database.sst_file_manager.reset(rocksdb::NewSstFileManager(database.env));
  auto order = std::make_unique<WalOrder>();
  database.wal_filter = order.get();
  // For looking up positions and ids; records are read from end to end, mostly in segments.
  const std::shared_ptr<rocksdb::Cache> cache = rocksdb::NewLRUCache(size_t{32} << 20);
  std::vector<rocksdb::ColumnFamilyDescriptor> families = Families(cache);
  if (!Writes(options.mode)) DropMissingTree(database, options.directory, families);
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* db = nullptr;
  const rocksdb::Status status =
      Writes(options.mode)
          ? rocksdb::DB::Open(database, options.directory, families, &handles, &db)
          : rocksdb::DB::OpenForReadOnly(database, options.directory, families, &handles, &db);
  if (status.IsCorruption()) ICEPIE_RETURN_IF_ERROR(CheckOrder(*order));
  ICEPIE_RETURN_IF_ERROR(FromRocks(status, absl::StrCat("open ", options.directory)));
  ICEPIE_CHECK(handles.size() == families.size());
  const WalOrder& judged = *order;
  std::unique_ptr<LogStore> store = std::make_unique<RocksLogStore>(
      Writes(options.mode), wals, std::move(env), std::move(order), database.sst_file_manager,
      cache, absl::WrapUnique(db), std::move(handles));
  if (options.mode == Mode::kSalvageTables) return store;
  // RocksDB stops there where it may; but what came after it is in tables of some families.
  ICEPIE_RETURN_IF_ERROR(CheckOrder(judged));
  if (!Writes(options.mode)) {
    ICEPIE_RETURN_IF_ERROR(CheckFirstLog(*db, options.directory, judged));
  }
  return store;
}

bool LogStore::Exists(const std::string& directory) {
  // Creating a database writes CURRENT before the first log or table.
  std::error_code error;
  for (const auto& file : DirectoryEntries(directory, error)) {
    const std::string extension = file.path().extension().string();
    if (extension == ".log" || extension == ".sst" || file.path().filename() == "CURRENT") {
      return true;
    }
  }
  return error == std::errc::io_error;  // something is there, which opening it will name
}

}  // namespace icepie
