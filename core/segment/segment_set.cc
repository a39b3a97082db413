#include "core/segment/segment_set.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <filesystem>
#include <set>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/directory.h"
#include "core/base/file.h"
#include "core/base/page_cache.h"
#include "core/base/status.h"
#include "core/byte_order.h"
#include "core/log/catalog_keys.h"

namespace icepie {
namespace {

constexpr uint8_t kSegmentEntryVersion = 1;
constexpr size_t kFixedBytes = 45;
constexpr size_t kStreamEndBytes = 12;
constexpr size_t kOpenReadersMax = 16;

absl::Status DamagedEntry(absl::string_view what) {
  return MakeError(absl::StatusCode::kDataLoss, absl::StrCat("the catalog of segments: ", what),
                   "RECORD_DAMAGED");
}

std::string EncodeEntry(const SegmentEntry& entry) {
  std::string bytes;
  bytes.push_back(static_cast<char>(kSegmentEntryVersion));
  PutLittleEndian(bytes, entry.first_position);
  PutLittleEndian(bytes, entry.end_position);
  PutLittleEndian(bytes, entry.file_bytes);
  PutLittleEndian(bytes, entry.checksum);
  PutLittleEndian(bytes, entry.last_ingest_time_us);
  PutLittleEndian(bytes, static_cast<uint32_t>(entry.stream_ends.size()));
  for (const auto& [id, end_offset] : entry.stream_ends) {
    PutLittleEndian(bytes, id);
    PutLittleEndian(bytes, end_offset);
  }
  return bytes;
}

absl::StatusOr<SegmentEntry> DecodeEntry(absl::string_view bytes) {
  if (bytes.size() < kFixedBytes || static_cast<uint8_t>(bytes[0]) != kSegmentEntryVersion) {
    return DamagedEntry("an entry is damaged");
  }
  const char* in = bytes.data();
  SegmentEntry entry;
  entry.first_position = GetLittleEndian<int64_t>(in + 1);
  entry.end_position = GetLittleEndian<int64_t>(in + 9);
  entry.file_bytes = GetLittleEndian<int64_t>(in + 17);
  entry.checksum = GetLittleEndian<uint64_t>(in + 25);
  entry.last_ingest_time_us = GetLittleEndian<int64_t>(in + 33);
  const size_t streams = GetLittleEndian<uint32_t>(in + 41);
  if (bytes.size() != kFixedBytes + streams * kStreamEndBytes) {
    return DamagedEntry("an entry is cut off");
  }
  for (size_t i = 0; i < streams; ++i) {
    const char* stream = in + kFixedBytes + i * kStreamEndBytes;
    entry.stream_ends.emplace_back(GetLittleEndian<uint32_t>(stream),
                                   GetLittleEndian<int64_t>(stream + 4));
  }
  return entry;
}

constexpr const char* kBeyondSuffix = ".beyond-";

// Of a segment, from its name; -1 when the name is another's.
int64_t EndPositionOf(const std::string& name) {
  int64_t first = 0;
  int64_t end = 0;
  const bool is_segment = std::sscanf(name.c_str(), "%20" SCNd64 "-%20" SCNd64, &first, &end) == 2;
  return is_segment && name == SegmentFileName(first, end) ? end : -1;
}

absl::Status Unreadable(const SegmentEntry& entry, const std::string& directory,
                        absl::string_view why) {
  const std::string file = absl::StrCat(directory, "/", entry.file_name());
  return MakeError(absl::StatusCode::kDataLoss,
                   absl::StrCat("segment ", file, " with the positions from ", entry.first_position,
                                " to ", entry.end_position, ": ", why),
                   "RECORD_DAMAGED",
                   {{"position", absl::StrCat(entry.first_position)}, {"file", file}});
}

}  // namespace

absl::StatusOr<int64_t> LastEndOfFiles(const std::string& directory) {
  int64_t last = 0;
  std::error_code error;
  for (const auto& file : DirectoryEntries(directory, error)) {
    last = std::max(last, EndPositionOf(file.path().filename().string()));
  }
  if (error == std::errc::no_such_file_or_directory) return 0;
  if (error) return ErrnoError(error.value(), absl::StrCat("list ", directory));
  return last;
}

class SegmentSet::Registered {
 public:
  Registered(SegmentEntry entry, const std::string& directory)
      : entry_(std::move(entry)), path_(absl::StrCat(directory, "/", entry_.file_name())) {}
  ~Registered() {
    if (!replaced_ || ::unlink(path_.c_str()) == 0 || errno == ENOENT) return;
    spdlog::warn("core: {}; the next start removes it",
                 ErrnoError(errno, absl::StrCat("remove ", path_)).ToString());
  }
  Registered(const Registered&) = delete;
  Registered& operator=(const Registered&) = delete;

  const SegmentEntry& entry() const { return entry_; }
  // The catalog has another one for its records: the last holder removes the file.
  void BecomeReplaced() { replaced_.store(true); }

 private:
  const SegmentEntry entry_;
  const std::string path_;
  std::atomic<bool> replaced_{false};
};

class SegmentSet::HeldSegments final : public SegmentLease {
 public:
  explicit HeldSegments(Kept held) : held_(std::move(held)) {
    for (const SharedSegment& segment : held_) {
      const SegmentEntry& entry = segment->entry();
      segments_.push_back({absl::StrCat(kSegmentDirectory, "/", entry.file_name()),
                           entry.first_position, entry.end_position});
    }
  }

  const std::vector<SealedSegment>& segments() const override { return segments_; }

 private:
  const Kept held_;
  std::vector<SealedSegment> segments_;
};

SegmentSet::SegmentSet(std::string directory) : directory_(std::move(directory)) {}
SegmentSet::~SegmentSet() = default;

LogStore::CatalogChange RegistrationOf(const SegmentEntry& entry) {
  std::string key(kSegmentKeyPrefix);
  PutBigEndian(key, entry.first_position);
  return {std::move(key), EncodeEntry(entry)};
}

absl::StatusOr<std::unique_ptr<SegmentSet>> SegmentSet::Load(const LogStore& store,
                                                             const std::string& directory) {
  auto set = std::make_unique<SegmentSet>(directory);
  ICEPIE_ASSIGN_OR_RETURN(const auto entries, store.ScanCatalog(kSegmentKeyPrefix));
  for (const auto& [key, bytes] : entries) {
    ICEPIE_ASSIGN_OR_RETURN(SegmentEntry entry, DecodeEntry(bytes));
    if (entry.first_position != set->sealed_position() ||
        entry.end_position <= entry.first_position || RegistrationOf(entry).first != key) {
      return DamagedEntry(absl::StrCat("no segment begins at position ", set->sealed_position()));
    }
    set->Add(std::move(entry));
  }
  return set;
}

// The segments in `directory`, by first position; the longest first of those that begin together.
std::multimap<int64_t, int64_t> FilesIn(const std::string& directory) {
  std::vector<std::pair<int64_t, int64_t>> files;
  std::error_code error;
  for (const auto& file : DirectoryEntries(directory, error)) {
    const std::string name = file.path().filename().string();
    const int64_t end = EndPositionOf(name);
    if (end >= 0) files.emplace_back(std::strtoll(name.c_str(), nullptr, 10), end);
  }
  std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a > b; });
  return {files.begin(), files.end()};
}

// The entry that the catalog had of a file; of one that does not open, what its name says.
SegmentEntry EntryOf(const std::string& directory, int64_t first_position, int64_t end_position) {
  SegmentEntry entry;
  entry.first_position = first_position;
  entry.end_position = end_position;
  const std::string path = absl::StrCat(directory, "/", entry.file_name());
  std::error_code error;
  const auto bytes = std::filesystem::file_size(path, error);
  const auto reader = SegmentReader::Open(path);
  if (error || !reader.ok()) return entry;
  entry.file_bytes = static_cast<int64_t>(bytes);
  entry.checksum = (*reader)->footer().checksum;
  entry.last_ingest_time_us = (*reader)->footer().last_ingest_time_us;
  for (const SegmentStream& stream : (*reader)->streams()) {
    entry.stream_ends.emplace_back(stream.id, stream.end_offset());
  }
  return entry;
}

std::unique_ptr<SegmentSet> SegmentSet::Salvage(const LogStore& store, const std::string& directory,
                                                int64_t hot_position) {
  std::map<int64_t, SegmentEntry> known;
  for (const auto& [key, bytes] : store.SalvageCatalog(kSegmentKeyPrefix)) {
    absl::StatusOr<SegmentEntry> entry = DecodeEntry(bytes);
    if (!entry.ok() || entry->end_position <= entry->first_position) continue;
    const int64_t first_position = entry->first_position;
    known.emplace(first_position, *std::move(entry));
  }
  auto set = std::make_unique<SegmentSet>(directory);
  const std::multimap<int64_t, int64_t> files = FilesIn(directory);
  while (true) {
    const int64_t at = set->sealed_position();
    if (const auto found = known.find(at); found != known.end()) {
      set->Add(std::move(found->second));
      continue;
    }
    // A file that reaches further is none of the log's, but one of before an accepted loss.
    const auto next = known.upper_bound(at);
    const int64_t bound = next == known.end() ? hot_position : next->first;
    const auto [begin, end] = files.equal_range(at);
    const auto file =
        std::find_if(begin, end, [bound](const auto& segment) { return segment.second <= bound; });
    if (file == end) return set;
    set->Add(EntryOf(directory, at, file->second));
  }
}

std::map<uint32_t, std::string> SegmentSet::StreamNames() const {
  std::map<uint32_t, std::string> names;
  for (const auto& entry : List()) {
    const auto reader = OpenFile(*entry);
    if (!reader.ok()) continue;
    for (const SegmentStream& stream : (*reader)->streams()) names.emplace(stream.id, stream.name);
  }
  return names;
}

absl::Status SegmentSet::CheckFiles() const {
  absl::Status first;
  int64_t faults = 0;
  for (const auto& held : List()) {
    const SegmentEntry& entry = *held;
    const absl::StatusOr<SegmentFooter> footer =
        ReadSegmentFooter(absl::StrCat(directory_, "/", entry.file_name()));
    std::error_code error;
    const auto bytes =
        std::filesystem::file_size(absl::StrCat(directory_, "/", entry.file_name()), error);
    absl::Status status;
    if (absl::IsNotFound(footer.status())) {
      status = Unreadable(entry, directory_, "the file is missing");
    } else if (!footer.ok()) {
      status = Unreadable(entry, directory_, footer.status().message());
    } else if (footer->checksum != entry.checksum || error ||
               static_cast<int64_t>(bytes) != entry.file_bytes) {
      status = Unreadable(entry, directory_, "the file is not the one that was sealed");
    }
    if (status.ok()) continue;
    if (faults++ == 0) first = std::move(status);
  }
  if (faults > 1) {
    return Annotate(first, absl::StrCat(faults, " segments are missing or damaged, the first is"));
  }
  return first;
}

std::vector<LeftoverFile> SegmentSet::Leftovers(int64_t head) const {
  using Fate = LeftoverFile::Fate;
  std::set<std::string> registered;
  for (const auto& entry : List()) registered.insert(entry->file_name());
  std::vector<LeftoverFile> leftovers;
  std::error_code error;
  for (const auto& file : DirectoryEntries(directory_, error)) {
    const std::string name = file.path().filename().string();
    if (registered.count(name) > 0) continue;
    const size_t suffix = name.rfind(kBeyondSuffix);
    const bool is_set_aside = suffix != std::string::npos;
    const bool is_beyond = EndPositionOf(name.substr(0, suffix)) > head;
    leftovers.push_back({file.path().string(), !is_beyond      ? Fate::kRemoved
                                               : !is_set_aside ? Fate::kSetAside
                                                               : Fate::kStays});
  }
  return leftovers;
}

absl::Status SegmentSet::RemoveLeftovers(int64_t head) const {
  bool moved = false;
  std::error_code error;
  for (const auto& [path, fate] : Leftovers(head)) {
    if (fate == LeftoverFile::Fate::kRemoved) {
      std::filesystem::remove(path, error);
      if (error) return ErrnoError(error.value(), absl::StrCat("remove ", path));
    } else if (fate == LeftoverFile::Fate::kSetAside) {
      std::filesystem::rename(path, absl::StrCat(path, kBeyondSuffix, head), error);
      if (error) return ErrnoError(error.value(), absl::StrCat("rename ", path));
      moved = true;
    }
  }
  return moved ? SyncDirectory(directory_) : absl::OkStatus();
}

int64_t SegmentSet::count() const {
  const MutexLock lock(mutex_);
  return static_cast<int64_t>(entries_.size());
}

std::vector<std::shared_ptr<const SegmentEntry>> SegmentSet::List(int64_t from) const {
  const MutexLock lock(mutex_);
  std::vector<std::shared_ptr<const SegmentEntry>> entries;
  for (auto it = entries_.upper_bound(from); it != entries_.end(); ++it) {
    entries.emplace_back(it->second, &it->second->entry());
  }
  return entries;
}

std::shared_ptr<const SegmentLease> SegmentSet::Lease(int64_t from, int64_t end,
                                                      size_t count_max) const {
  Kept held;
  const MutexLock lock(mutex_);
  for (auto it = entries_.upper_bound(from); it != entries_.end() && held.size() < count_max;
       ++it) {
    if (it->second->entry().first_position >= end) break;
    held.push_back(it->second);
  }
  return std::make_shared<const HeldSegments>(std::move(held));
}

std::shared_ptr<const void> SegmentSet::KeepFiles() {
  const MutexLock lock(mutex_);
  auto keeper = std::make_shared<Kept>();
  for (const auto& [end_position, segment] : entries_) keeper->push_back(segment);
  if (replaced_ != nullptr) keeper->push_back(replaced_);
  keepers_.push_back(keeper);
  return keeper;
}

std::shared_ptr<const void> SegmentSet::KeepOnly(
    const std::shared_ptr<const void>& files,
    const std::vector<std::shared_ptr<const SegmentEntry>>& named) {
  std::set<std::string> names;
  for (const auto& entry : named) names.insert(entry->file_name());
  auto kept = std::make_shared<Kept>();
  const auto keep = [&](const SharedSegment& segment) {
    if (segment != nullptr && names.count(segment->entry().file_name()) > 0) {
      kept->push_back(segment);
    }
  };
  const MutexLock lock(mutex_);
  for (const SharedSegment& segment : *std::static_pointer_cast<const Kept>(files)) keep(segment);
  for (const auto& [end_position, segment] : entries_) keep(segment);
  keep(replaced_);
  return kept;
}

void SegmentSet::Add(SegmentEntry entry) {
  const MutexLock lock(mutex_);
  const int64_t end_position = entry.end_position;
  ICEPIE_CHECK(end_position > sealed_position_.load());
  if (entry.first_position < sealed_position_.load()) TakeOutLast();
  ICEPIE_CHECK(entry.first_position == (entries_.empty() ? 0 : entries_.rbegin()->first));
  sealed_bytes_ += entry.file_bytes;
  for (const auto& [id, end_offset] : entry.stream_ends) {
    stream_ends_[id].push_back({end_offset, end_position});
  }
  entries_.emplace(end_position, std::make_shared<Registered>(std::move(entry), directory_));
  sealed_position_.store(end_position);
}

void SegmentSet::TakeOutLast() {
  const auto last = std::prev(entries_.end());
  replaced_ = last->second;
  entries_.erase(last);
  const SegmentEntry& entry = replaced_->entry();
  for (const auto& [id, end_offset] : entry.stream_ends) stream_ends_[id].pop_back();
  sealed_bytes_ -= entry.file_bytes;
  const auto is_its = [&entry](const auto& reader) {
    return reader->footer().checksum == entry.checksum;
  };
  open_.erase(std::remove_if(open_.begin(), open_.end(), is_its), open_.end());
}

void SegmentSet::RemoveReplaced() {
  SharedSegment segment;  // the file, if it goes now, goes without the lock
  const MutexLock lock(mutex_);
  segment.swap(replaced_);
  if (segment == nullptr) return;
  segment->BecomeReplaced();
  const auto is_gone = [](const auto& keeper) { return keeper.expired(); };
  keepers_.erase(std::remove_if(keepers_.begin(), keepers_.end(), is_gone), keepers_.end());
  for (const auto& keeper : keepers_) {
    if (const std::shared_ptr<Kept> kept = keeper.lock()) kept->push_back(segment);
  }
}

absl::StatusOr<std::shared_ptr<const SegmentReader>> SegmentSet::OpenFile(
    const SegmentEntry& entry) const {
  const auto reader = SegmentReader::Open(absl::StrCat(directory_, "/", entry.file_name()));
  if (absl::IsNotFound(reader.status())) {
    return Unreadable(entry, directory_, "the file is missing");
  }
  if (!reader.ok()) return Unreadable(entry, directory_, reader.status().message());
  if ((*reader)->footer().checksum != entry.checksum) {
    return Unreadable(entry, directory_, "the file is not the one that was sealed");
  }
  return reader;
}

int64_t SegmentSet::EndOfBlock(int64_t position) {
  const auto segment = Open(position);
  if (segment.ok()) {
    return (*segment)->blocks()[(*segment)->FirstBlock(position)].header.end_position();
  }
  const MutexLock lock(mutex_);
  return entries_.upper_bound(position)->first;
}

absl::StatusOr<std::optional<int64_t>> SegmentSet::FindOffset(uint32_t stream_id, int64_t offset) {
  int64_t end_position = 0;
  {
    const MutexLock lock(mutex_);
    const auto ends = stream_ends_.find(stream_id);
    if (ends == stream_ends_.end()) return std::nullopt;
    const auto found =
        std::partition_point(ends->second.begin(), ends->second.end(),
                             [offset](const StreamEnd& end) { return end.offset <= offset; });
    if (found == ends->second.end()) return std::nullopt;
    end_position = found->position;
  }
  ICEPIE_ASSIGN_OR_RETURN(const auto segment, Open(end_position - 1));
  for (const SegmentBlock& block : segment->blocks()) {
    const BlockHeader& header = block.header;
    if (header.stream_id == stream_id && offset >= header.first_offset &&
        offset < header.first_offset + header.record_count) {
      return header.first_position + offset - header.first_offset;
    }
  }
  return DamagedEntry(absl::StrCat("no block holds offset ", offset, " of stream ", stream_id));
}

int64_t SegmentSet::SealedEndOffset(uint32_t stream_id) const {
  const MutexLock lock(mutex_);
  const auto ends = stream_ends_.find(stream_id);
  return ends == stream_ends_.end() ? 0 : ends->second.back().offset;
}

int64_t SegmentSet::FirstPositionWith(const std::unordered_set<uint32_t>& stream_ids,
                                      int64_t from) const {
  const MutexLock lock(mutex_);
  int64_t first = sealed_position_.load();
  for (const uint32_t id : stream_ids) {
    const auto ends = stream_ends_.find(id);
    if (ends == stream_ends_.end()) continue;
    const auto found =
        std::partition_point(ends->second.begin(), ends->second.end(),
                             [from](const StreamEnd& end) { return end.position <= from; });
    if (found == ends->second.end()) continue;
    first = std::min(first, entries_.at(found->position)->entry().first_position);
  }
  return std::max(first, from);
}

absl::StatusOr<std::shared_ptr<const SegmentReader>> SegmentSet::Open(int64_t position) {
  SharedSegment segment;  // keeps the file
  {
    const MutexLock lock(mutex_);
    const auto found = entries_.upper_bound(position);
    ICEPIE_CHECK(found != entries_.end());
    segment = found->second;
    for (auto it = open_.begin(); it != open_.end(); ++it) {
      if ((*it)->footer().checksum != segment->entry().checksum) continue;
      const std::shared_ptr<const SegmentReader> reader = *it;
      open_.erase(it);
      open_.push_front(reader);
      return reader;
    }
  }
  ICEPIE_ASSIGN_OR_RETURN(const auto reader, OpenFile(segment->entry()));
  const MutexLock lock(mutex_);
  // One that was replaced meanwhile would keep its file's space.
  if (entries_.upper_bound(position)->second != segment) return reader;
  open_.push_front(reader);
  if (open_.size() > kOpenReadersMax) open_.pop_back();
  return reader;
}

void SegmentSet::ForgetReaders() {
  {
    const MutexLock lock(mutex_);
    open_.clear();
  }
  for (const auto& entry : List()) {
    DropFromPageCache(absl::StrCat(directory_, "/", entry->file_name()));
  }
}

}  // namespace icepie
