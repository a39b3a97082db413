#include "core/verify/verification.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/directory.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/block/block.h"
#include "core/log/data_lock.h"
#include "core/log/high_water_mark.h"
#include "core/log/log_state.h"
#include "core/log/wal_check.h"
#include "core/proof/signing_files.h"
#include "core/proof/tree_store.h"

namespace icepie {
namespace {

constexpr int64_t kStepBytes = int64_t{4} << 20;
constexpr int kStepBlocksMax = 65536;
constexpr size_t kFindingsKept = 100;

using State = VerificationAnswer::State;

}  // namespace

bool VerificationReport::ok() const {
  return bytes_rehashed.state == State::kHolds && tree_recomputed.state == State::kHolds &&
         consistent.state != State::kFails;
}

Verification::Verification(const VerificationTask& task, CompactRange edge)
    : task_(task), stored_(TreeReader(*task.records.store), task.head), edge_(std::move(edge)) {
  if (task_.last_signed && task_.last_signed->size == edge_.size()) signed_root_ = edge_.Root();
  if (task_.older && task_.older->size == edge_.size()) older_root_ = edge_.Root();
  if (task_.mark && task_.mark->position == edge_.size()) marked_root_ = edge_.Root();
}

Verification::Verification(const VerificationTask& task) : Verification(task, CompactRange()) {
  task_.records.store->DropCache();
  task_.records.segments->ForgetReaders();
  absl::StatusOr<std::vector<LogStore::StoredFile>> files = task_.records.store->ListFiles();
  if (files.ok()) {
    files_ = *std::move(files);
  } else {
    Add({task_.records.segments->sealed_position(), task_.head,
         std::string(files.status().message())});
  }
}

// What a table file's damage means for records is seen when those are read. What a write-ahead log
// has is in memory still, and would be missing at the next start.
void Verification::CheckNextFile(const std::function<bool()>& goes_on) {
  const absl::Status status = task_.records.store->CheckFile(
      files_.back(), {[&goes_on](int64_t /*bytes*/) { return goes_on(); }, task_.patience});
  if (absl::IsCancelled(status)) return;
  files_.pop_back();
  if (status.ok()) return;
  if (absl::IsDeadlineExceeded(status)) {
    unverified_ = std::string(status.message());
    return;
  }
  Add({task_.records.segments->sealed_position(), task_.head, std::string(status.message())});
}

void Verification::Add(VerificationFinding finding) {
  ++report_.finding_count;
  if (report_.findings.size() < kFindingsKept) report_.findings.push_back(std::move(finding));
}

// `is_known`: the leaf was made from a record, so the stored tree must have it.
void Verification::Append(const Digest& leaf, bool is_known) {
  const int64_t position = edge_.size();
  edge_.Append(leaf, [&](int height, const Digest& node) {
    if (height % kTileHeight != 0 || !is_known || (height > 0 && !is_whole_)) return;
    const absl::Status status = stored_.Compare(height / kTileHeight, position >> height, node);
    if (status.ok()) return;
    is_whole_ = false;  // the nodes above differ too, and say nothing new
    const int64_t first = position >> height << height;
    Add({first, position + 1, std::string(status.message())});
  });
  if (!is_known) ++unread_;
  if (task_.last_signed && task_.last_signed->size == edge_.size()) {
    signed_root_ = edge_.Root();
    signed_unread_ = unread_;
  }
  if (task_.older && task_.older->size == edge_.size()) {
    older_root_ = edge_.Root();
    older_unread_ = unread_;
  }
  if (task_.mark && task_.mark->position == edge_.size()) marked_root_ = edge_.Root();
}

absl::Status Verification::ReadNext(int64_t end, int64_t bytes_max) {
  ICEPIE_ASSIGN_OR_RETURN(
      const BlockRange range,
      ReadBlockRange(task_.records, task_.head, {{}, edge_.size(), end, bytes_max}));
  for (const StoredBlock& block : range.blocks) {
    report_.bytes += static_cast<int64_t>(block.data.size());
  }
  ICEPIE_RETURN_IF_ERROR(VisitEntries(range, *task_.records.streams, edge_.size(), task_.head,
                                      [this](int64_t position, const std::string& entry) {
                                        if (position != edge_.size())
                                          return absl::DataLossError("records are missing");
                                        Append(LeafHash(entry), /*is_known=*/true);
                                        return absl::OkStatus();
                                      }));
  const int64_t wanted = std::min(range.complete_position, end);
  return edge_.size() >= wanted ? absl::OkStatus() : absl::DataLossError("records are missing");
}

bool Verification::Readable(int64_t position) const {
  const auto range = ReadBlockRange(task_.records, task_.head, {{}, position, position + 1, 1});
  return range.ok() && !range->blocks.empty() &&
         DecodedBlock::Decode(range->blocks.front().data).ok();
}

// The first readable position behind the one that is not. The index says where the damaged block
// ends; when it is damaged itself, ever longer jumps and then halving find the place.
int64_t Verification::EndOfDamage() const {
  const int64_t from = edge_.size();
  if (from < task_.records.segments->sealed_position()) {
    return std::min(task_.records.segments->EndOfBlock(from), task_.head);
  }
  std::optional<BlockPlace> place;
  const absl::Status visited =
      task_.records.store->VisitPlaces(from, task_.head, [&place](const BlockPlace& found) {
        place = found;
        return false;
      });
  if (visited.ok() && place) {
    const int64_t end =
        place->first_position > from ? place->first_position : place->end_position();
    if (end > from && (end >= task_.head || Readable(end))) return std::min(end, task_.head);
  }
  int64_t bad = from;
  int64_t good = from + 1;
  for (int64_t jump = 1; good < task_.head && !Readable(good); jump *= 2) {
    bad = good;
    good += jump;
  }
  good = std::min(good, task_.head);
  while (good - bad > 1) {
    const int64_t middle = bad + (good - bad) / 2;
    (Readable(middle) ? good : bad) = middle;
  }
  return good;
}

// Goes on behind records that cannot be read, with the leaves that the tree has for them.
void Verification::Skip(const std::string& what) {
  const int64_t first = edge_.size();
  const int64_t end = EndOfDamage();
  Add({first, end, what});
  const HashReader reader = TreeReader(*task_.records.store);
  while (edge_.size() < end) {
    const int64_t in_tile = kTileWidth - edge_.size() % kTileWidth;
    const auto count = static_cast<int>(std::min(in_tile, end - edge_.size()));
    absl::StatusOr<std::string> hashes = reader(0, edge_.size(), count);
    if (!hashes.ok() || hashes->size() != count * kDigestBytes) {
      is_whole_ = false;
      hashes = std::string(count * kDigestBytes, '\0');
    }
    for (int i = 0; i < count; ++i) {
      Append(DigestFrom(absl::string_view(*hashes).substr(i * kDigestBytes, kDigestBytes)),
             /*is_known=*/false);
    }
  }
}

bool Verification::Step(const std::function<bool()>& goes_on) {
  if (!files_.empty()) {
    CheckNextFile(goes_on);
    return true;
  }
  if (edge_.size() >= task_.head) return false;
  if (ReadNext(task_.head, kStepBytes).ok()) return edge_.size() < task_.head;
  // A range fails as a whole: block by block up to the damage, each by itself.
  for (int blocks = 0; blocks < kStepBlocksMax && edge_.size() < task_.head; ++blocks) {
    const int64_t at = edge_.size();
    const absl::Status status = ReadNext(at + 1, 1);
    if (status.ok() || edge_.size() > at) continue;
    Skip(std::string(status.message()));
    break;
  }
  return edge_.size() < task_.head;
}

VerificationAnswer Verification::Compare(const std::optional<Checkpoint>& checkpoint,
                                         const std::optional<Digest>& root, int64_t unread,
                                         absl::string_view name) const {
  if (!checkpoint) return {State::kNotChecked, absl::StrCat("no ", name, " checkpoint")};
  const std::string of =
      absl::StrCat("the ", name, " checkpoint of ", checkpoint->size, " records");
  if (!root) {
    return {State::kFails, absl::StrCat(of, " has more than the core's ", task_.head)};
  }
  if (*root != checkpoint->root) {
    return {State::kFails, absl::StrCat("the records do not lead to the root of ", of)};
  }
  if (unread > 0) {
    return {State::kHolds,
            absl::StrCat("the tree leads to the root of ", of, ", with the log's own leaves for ",
                         unread, " of them, which cannot be read")};
  }
  return {State::kHolds, absl::StrCat("the records lead to the root of ", of)};
}

// Where single records were found to differ, that the whole differs says nothing new.
void Verification::CompareMark() {
  if (!task_.mark || !task_.mark->root || report_.finding_count > 0) return;
  if (marked_root_ == task_.mark->root) return;
  Add({0, task_.mark->position,
       absl::StrCat(
           "the records do not lead to the root that the high-water mark has for the first ",
           task_.mark->position, ": other records were acknowledged")});
}

std::optional<VerificationFinding> CompareWithMark(const absl::StatusOr<HighWater>& mark,
                                                   int64_t head, int64_t catalog_changes) {
  if (absl::IsNotFound(mark.status()) && head == 0) return std::nullopt;
  if (!mark.ok()) {
    return VerificationFinding{
        head, head,
        absl::StrCat("whether records behind the last one are lost is not known, the high-water "
                     "mark cannot be read: ",
                     mark.status().message())};
  }
  if (mark->position > head) {
    return VerificationFinding{
        head, mark->position,
        absl::StrCat("the log has ", head, " records, but ", mark->position, " were acknowledged")};
  }
  if (mark->changes <= catalog_changes) return std::nullopt;
  return VerificationFinding{
      head, head,
      absl::StrCat("the log has ", catalog_changes,
                   " changes of its catalog (streams, domains, slices), but ", mark->changes,
                   " were acknowledged")};
}

VerificationReport Verification::Finish() {
  report_.end_position = edge_.size();
  CompareMark();
  if (report_.finding_count == 0 && !unverified_.empty()) {
    report_.bytes_rehashed = {State::kNotChecked, unverified_};
  } else if (report_.finding_count == 0) {
    report_.bytes_rehashed = {State::kHolds, report_.end_position == 0
                                                 ? "there are no records yet"
                                                 : "every record is what was committed"};
  } else {
    const VerificationFinding& first = report_.findings.front();
    const std::string count = report_.finding_count == 1
                                  ? "one finding, "
                                  : absl::StrCat(report_.finding_count, " findings, the first ");
    report_.bytes_rehashed = {
        State::kFails, absl::StrCat(count, "at position ", first.position, ": ", first.what)};
  }
  report_.tree_recomputed = Compare(task_.last_signed, signed_root_, signed_unread_, "signed");
  if (!task_.last_signed && !task_.why_no_signed.empty()) {
    report_.tree_recomputed = {State::kFails, task_.why_no_signed};
  } else if (!task_.last_signed && task_.head == 0) {
    // A start makes the key, and signs the empty tree with it.
    report_.tree_recomputed = {State::kHolds, "nothing was signed yet"};
  }
  report_.consistent = Compare(task_.older, older_root_, older_unread_, "older");
  return report_;
}

namespace {

struct OpenedLog {
  std::unique_ptr<LogStore> store;  // nullptr: nothing of it can be read
  LogState state;
  std::vector<VerificationFinding> findings;
  std::string dropped;  // as VerificationReport has it
};

absl::Status OpenAs(LogStore::Mode mode, const std::string& path, const std::string& segments,
                    OpenedLog& log) {
  ICEPIE_ASSIGN_OR_RETURN(std::unique_ptr<LogStore> store, LogStore::Open({path, mode, nullptr}));
  ICEPIE_ASSIGN_OR_RETURN(log.state, ReadLogState(*store, segments));
  log.store = std::move(store);
  return absl::OkStatus();
}

// What a start goes on with, if it does: then OK.
absl::Status OpenAsAStart(const std::string& path, const std::string& segments,
                          const absl::StatusOr<HighWater>& mark, OpenedLog& log) {
  const absl::Status status = OpenAs(LogStore::Mode::kReadOnly, path, segments, log);
  const bool lacks_sectors = absl::IsDataLoss(status) && LacksOnlySectorsOfLastWrite(path);
  if (!status.ok() && !lacks_sectors) return status;
  if (lacks_sectors) {
    OpenedLog left;
    if (!OpenAs(LogStore::Mode::kSalvage, path, segments, left).ok() || !mark.ok() ||
        mark->position > left.state.head || mark->changes > left.state.catalog_changes) {
      return status;
    }
    log = std::move(left);
  }
  log.dropped = UnacknowledgedEnd(path, lacks_sectors);
  return absl::OkStatus();
}

OpenedLog OpenWhatThereIs(const std::string& directory) {
  const std::string path = absl::StrCat(directory, "/rocksdb");
  const std::string segments = absl::StrCat(directory, "/", kSegmentDirectory);
  const absl::StatusOr<HighWater> mark =
      HighWaterMark::Read(absl::StrCat(directory, "/", kHighWaterMarkFile));
  OpenedLog log;
  const absl::Status status = OpenAsAStart(path, segments, mark, log);
  if (status.ok()) return log;
  log.findings.push_back({0, 0, absl::StrCat("the log is damaged: ", status.message())});
  // RocksDB says no more than that some write-ahead log is damaged.
  std::error_code error;
  for (const auto& file : DirectoryEntries(path, error)) {
    if (file.path().extension() != ".log") continue;
    const absl::Status check = CheckWalFile(file.path().string(), 0).status();
    if (absl::IsDataLoss(check)) log.findings.push_back({0, 0, std::string(check.message())});
  }
  SalvagedLog salvaged = SalvageLog(path, segments, mark.ok() ? mark->position : 0, nullptr);
  log.store = std::move(salvaged.store);
  log.state = std::move(salvaged.state);
  return log;
}

std::optional<HighWater> CheckEnds(const std::string& directory, OpenedLog& log) {
  const std::string path = absl::StrCat(directory, "/", kHighWaterMarkFile);
  const absl::StatusOr<HighWater> mark = HighWaterMark::Read(path);
  auto finding = CompareWithMark(mark, log.state.head, log.state.catalog_changes);
  if (finding) log.findings.push_back(*std::move(finding));
  // One whole slot is enough for a start, but a changed bit is a changed bit.
  const absl::Status slots = HighWaterMark::Check(path, 0).status();
  if (mark.ok() && !slots.ok()) {
    log.findings.push_back({log.state.head, log.state.head, std::string(slots.message())});
  }
  if (!log.store) return std::nullopt;
  if (const absl::Status tree = LoadTree(*log.store, log.state.head).status(); !tree.ok()) {
    log.findings.push_back({log.state.head, log.state.head, std::string(tree.message())});
  }
  return mark.ok() ? std::optional<HighWater>(*mark) : std::nullopt;
}

std::vector<UnownedFile> FindUnowned(const SegmentSet& segments, int64_t head, bool is_damaged) {
  const auto fate_of = [is_damaged](LeftoverFile::Fate fate) {
    if (is_damaged) return "it stays as long as the core takes no appends";
    switch (fate) {
      case LeftoverFile::Fate::kRemoved:
        return "the next start that takes appends removes it";
      case LeftoverFile::Fate::kSetAside:
        return "it reaches beyond the core's end; the next start that takes appends renames it";
      case LeftoverFile::Fate::kStays:
        return "it was set aside when it reached beyond the core's end; a start removes it once "
               "the core has grown so far";
    }
    return "";
  };
  std::vector<UnownedFile> unowned;
  for (LeftoverFile& file : segments.Leftovers(head)) {
    unowned.push_back({std::move(file.path), fate_of(file.fate)});
  }
  std::sort(unowned.begin(), unowned.end(),
            [](const UnownedFile& a, const UnownedFile& b) { return a.path < b.path; });
  return unowned;
}

VerificationReport NothingReadable(const OpenedLog& log) {
  VerificationReport report;
  report.findings = log.findings;
  report.finding_count = static_cast<int64_t>(log.findings.size());
  report.bytes_rehashed = {State::kFails, log.findings.front().what};
  report.tree_recomputed = {State::kNotChecked, "nothing of the log can be read"};
  report.consistent = report.tree_recomputed;
  return report;
}

// Where there is no log: what tells that there was one, as a start does.
absl::StatusOr<VerificationReport> FindLostLog(const std::string& directory) {
  const absl::StatusOr<HighWater> mark =
      HighWaterMark::Read(absl::StrCat(directory, "/", kHighWaterMarkFile));
  const std::string segments = absl::StrCat(directory, "/", kSegmentDirectory);
  ICEPIE_ASSIGN_OR_RETURN(const int64_t sealed, LastEndOfFiles(segments));
  OpenedLog log;
  if (mark.ok() && (mark->position > 0 || mark->changes > 0)) {
    log.findings.push_back(
        {0, mark->position,
         absl::StrCat("the log is missing, but ", mark->position, " records and ", mark->changes,
                      " changes of its catalog (streams, domains, slices) were acknowledged")});
  } else if (!mark.ok() && !absl::IsNotFound(mark.status())) {
    log.findings.push_back(
        {0, sealed,
         absl::StrCat("the log is missing; the high-water mark: ", mark.status().message())});
  } else if (sealed > 0) {
    log.findings.push_back(
        {0, sealed,
         absl::StrCat("the log ", mark.ok() ? "is" : "and the high-water mark are",
                      " missing, but there are records up to position ", sealed, " in ",
                      segments)});
  } else if (mark.ok()) {
    return absl::NotFoundError(
        absl::StrCat(directory, " has no log, and its high-water mark says that nothing was ",
                     "acknowledged: there is nothing to verify"));
  } else {
    return absl::NotFoundError(absl::StrCat(directory, " holds no core"));
  }
  return NothingReadable(log);
}

}  // namespace

absl::StatusOr<VerificationReport> VerifyDirectory(const std::string& directory,
                                                   const std::string& older_note,
                                                   const VerificationProgress& progress) {
  if (!LogStore::Exists(absl::StrCat(directory, "/rocksdb"))) return FindLostLog(directory);
  ICEPIE_ASSIGN_OR_RETURN(const std::unique_ptr<DataLock> lock, DataLock::AcquireToRead(directory));
  OpenedLog log = OpenWhatThereIs(directory);
  const std::optional<HighWater> mark = CheckEnds(directory, log);
  ICEPIE_ASSIGN_OR_RETURN(SigningState signing, LoadSigning(directory, "", /*may_create=*/false));
  VerificationTask task{{log.store.get(), log.state.segments.get(), log.state.streams.get()},
                        log.state.head,
                        {},
                        signing.damage,
                        {},
                        mark};
  if (signing.last) task.last_signed = signing.last->checkpoint;
  if (!older_note.empty()) {
    if (!signing.key)
      return absl::FailedPreconditionError("the core has no key: " + signing.damage);
    ICEPIE_ASSIGN_OR_RETURN(task.older, OpenCheckpoint(older_note, signing.key->verifier()));
  }
  if (!log.store) return NothingReadable(log);
  Verification verification(task);
  for (VerificationFinding& finding : log.findings) verification.Add(std::move(finding));
  while (verification.Step())
    progress(verification.position(), log.state.head, verification.bytes());
  progress(verification.position(), log.state.head, verification.bytes());
  VerificationReport report = verification.Finish();
  // Beside a finding, what is missing may well have been acknowledged, and a start may drop
  // nothing.
  if (report.finding_count == 0) report.dropped = std::move(log.dropped);
  report.unowned = FindUnowned(*log.state.segments, log.state.head, report.finding_count > 0);
  return report;
}

}  // namespace icepie
