#include "slices/snapshot/snapshot_store.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "core/base/directory.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "nlohmann/json.hpp"
#include "slices/apply/generation.h"
#include "slices/apply/slice_log.h"
#include "slices/duckdb/duckdb.h"
#include "slices/expectation/expectation_store.h"
#include "slices/role/process_mark.h"
#include "slices/snapshot/paced_writes.h"
#include "slices/snapshot/snapshot_format.h"

namespace icepie::slices {
namespace {

using Json = nlohmann::json;

constexpr char kEnding[] = ".duckdb";
constexpr char kUnusable[] = "SNAPSHOT_UNUSABLE";
constexpr char kTried[] = "a process ended while it was read";
constexpr char kUnfinished[] = "unfinished";
constexpr int kLooksMax = 3;                    // for the newest snapshot
constexpr int64_t kBytesWithoutRows = 2 << 20;  // a few blocks of 256 KiB for each table
constexpr int64_t kKeptOnTheWay = 2;            // the newest may turn out to be damaged
constexpr absl::Duration kTriedAgainAfter = absl::Minutes(10);
constexpr absl::Duration kCheckpointWaitMax = absl::Seconds(10);
constexpr absl::Duration kCheckpointRetry = absl::Milliseconds(5);

// Of another state at the position of `plain`; comes behind it, as List orders them.
std::string VersionPath(const std::string& plain, int64_t content_version) {
  return absl::StrFormat("%sv%020d%s", absl::StripSuffix(plain, kEnding), content_version, kEnding);
}

std::string ManifestPath(const std::string& snapshot) {
  return snapshot.substr(0, snapshot.size() - std::string(".duckdb").size()) + ".json";
}

// Of a snapshot that cannot be used so.
std::string MarkPath(const std::string& snapshot, SnapshotUse use) {
  return absl::StrCat(absl::StripSuffix(snapshot, ".duckdb"),
                      use == SnapshotUse::kServe ? ".unservable" : ".unrestorable");
}

// The first line of a mark. Another version may read what this one cannot.
std::string MarkedBy() { return absl::StrCat("DuckDB ", duckdb_library_version()); }

Json ProgressToJson(const Progress& progress) {
  return {{"applied_position", progress.applied_position},
          {"applied_time_us", progress.applied_time_us},
          {"event_time_max_us", progress.event_time_max_us},
          {"input", progress.input},
          {"applied", progress.applied},
          {"filtered", progress.filtered},
          {"quarantined", progress.quarantined},
          {"content_version", progress.content_version}};
}

Progress ProgressFromJson(const Json& json) {
  Progress progress;
  progress.applied_position = json.at("applied_position").get<int64_t>();
  progress.applied_time_us = json.at("applied_time_us").get<int64_t>();
  progress.event_time_max_us = json.at("event_time_max_us").get<int64_t>();
  progress.input = json.at("input").get<int64_t>();
  progress.applied = json.at("applied").get<int64_t>();
  progress.filtered = json.at("filtered").get<int64_t>();
  progress.quarantined = json.at("quarantined").get<int64_t>();
  progress.content_version = json.at("content_version").get<int64_t>();
  return progress;
}

std::string ManifestText(const SnapshotManifest& manifest) {
  Json columns = Json::array();
  for (const OutputColumn& column : manifest.info.columns) {
    columns.push_back({{"name", column.name}, {"type", column.type}});
  }
  Json json = {{"format", kSnapshotFormat},
               {"slice", manifest.info.slice},
               {"generation", manifest.info.number},
               {"definition_hash", manifest.info.definition_hash},
               {"strategy", manifest.info.strategy},
               {"columns", columns},
               {"key", manifest.info.key},
               {"sql", manifest.info.sql},
               {"reads", manifest.info.reads},
               {"progress", ProgressToJson(manifest.progress)},
               {"rows", manifest.rows},
               {"rows_max", manifest.rows_max},
               {"expectations", ExpectationsToJson(manifest.expectations)},
               {"time_us", manifest.time_us},
               {"sha256", manifest.sha256}};
  if (!manifest.info.overridden.empty()) json["overridden"] = manifest.info.overridden;
  if (!manifest.info.layout.empty()) json["layout"] = manifest.info.layout;
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

SnapshotManifest ManifestFromJson(const Json& json) {
  SnapshotManifest manifest;
  if (json.at("format").get<int>() != kSnapshotFormat) return manifest;
  manifest.info.slice = json.at("slice").get<std::string>();
  manifest.info.number = json.at("generation").get<int64_t>();
  manifest.info.definition_hash = json.at("definition_hash").get<std::string>();
  manifest.info.strategy = json.at("strategy").get<std::string>();
  for (const Json& column : json.at("columns")) {
    manifest.info.columns.push_back(
        {column.at("name").get<std::string>(), column.at("type").get<std::string>()});
  }
  manifest.info.key = json.at("key").get<std::vector<std::string>>();
  manifest.info.sql = json.at("sql").get<std::string>();
  manifest.info.reads = json.at("reads").get<std::vector<std::string>>();
  manifest.progress = ProgressFromJson(json.at("progress"));
  manifest.rows = json.at("rows").get<int64_t>();
  manifest.rows_max = json.at("rows_max").get<int64_t>();
  if (json.contains("expectations")) {
    manifest.expectations = ExpectationsFromJson(json.at("expectations"));
  }
  manifest.time_us = json.at("time_us").get<int64_t>();
  manifest.sha256 = json.at("sha256").get<std::string>();
  manifest.info.overridden = json.value("overridden", "");
  manifest.info.layout = json.value("layout", "");
  return manifest;
}

absl::StatusOr<SnapshotManifest> ParseManifest(const std::string& text, const std::string& path) {
  try {
    SnapshotManifest manifest = ManifestFromJson(Json::parse(text));
    if (!manifest.sha256.empty()) return manifest;
  } catch (const Json::exception& error) {
    return absl::DataLossError(absl::StrCat("manifest of ", path, ": ", error.what()));
  }
  return absl::DataLossError(absl::StrCat("manifest of ", path, ": unknown format"));
}

// Slice and generation of "snapshots/by_city/g7-p….duckdb"; generation 0 of any other name.
std::pair<std::string, int64_t> GenerationOf(const std::string& path) {
  const std::filesystem::path file(path);
  absl::string_view name = absl::string_view(path).substr(path.rfind('/') + 1);
  int64_t generation = 0;
  if (!absl::ConsumePrefix(&name, "g") ||
      !absl::SimpleAtoi(name.substr(0, name.find("-p")), &generation)) {
    generation = 0;
  }
  return {file.parent_path().filename().string(), generation};
}

// When the file was written; now, when it is gone.
absl::Time WrittenAt(const std::string& file) {
  struct stat written = {};
  if (::stat(file.c_str(), &written) != 0) return absl::Now();
  return absl::TimeFromTimespec(written.st_mtim);
}

absl::Time SavedAt(const std::string& snapshot) { return WrittenAt(ManifestPath(snapshot)); }

void RemoveFiles(const std::string& file) {
  ::unlink(file.c_str());
  ::unlink((file + ".wal").c_str());
}

void RemoveMarks(const std::string& snapshot) {
  ::unlink(MarkPath(snapshot, SnapshotUse::kServe).c_str());
  ::unlink(MarkPath(snapshot, SnapshotUse::kRestore).c_str());
}

// A transaction that has begun to read the copy before it was filled keeps DuckDB from writing it
// out until it ends: one whose statement did not find a name and looked for a similar one in every
// database, say. Nobody works with the copy, so that passes.
absl::Status Checkpoint(DuckConnection& connection, const std::string& database) {
  const absl::Time deadline = SteadyNow() + kCheckpointWaitMax;
  while (true) {
    const absl::Status status = connection.Run(absl::StrCat("CHECKPOINT ", database));
    const bool blocked = absl::StrContains(status.message(), "other write transactions");
    if (!blocked || SteadyNow() > deadline) return status;
    absl::SleepFor(kCheckpointRetry);
  }
}

using DigestContext = std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)>;

// A large file takes seconds, which somebody may not have.
absl::StatusOr<std::string> Sha256OfFileUntil(const std::string& path, absl::Time deadline,
                                              const std::function<bool()>& given_up) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return ErrnoError(errno, absl::StrCat("opening ", path));
  const auto closing = absl::MakeCleanup([file] { ::close(file); });
  const DigestContext digest(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  EVP_DigestInit_ex(digest.get(), EVP_sha256(), nullptr);
  std::string buffer(1 << 20, '\0');
  ssize_t got = 0;
  while ((got = ::read(file, buffer.data(), buffer.size())) > 0) {
    EVP_DigestUpdate(digest.get(), buffer.data(), static_cast<size_t>(got));
    if (SteadyNow() > deadline) {
      return absl::DeadlineExceededError(absl::StrCat("checking ", path, " takes too long"));
    }
    if (given_up && given_up()) return absl::CancelledError(absl::StrCat("checking ", path));
  }
  if (got < 0) return ErrnoError(errno, absl::StrCat("reading ", path));
  std::string bytes(EVP_MD_size(EVP_sha256()), '\0');
  EVP_DigestFinal_ex(digest.get(), reinterpret_cast<unsigned char*>(bytes.data()), nullptr);
  return absl::BytesToHexString(bytes);
}

// Both at one position of one generation.
bool IsSameState(const SnapshotManifest& a, const SnapshotManifest& b) {
  return a.info.definition_hash == b.info.definition_hash && a.info.layout == b.info.layout &&
         a.progress.content_version == b.progress.content_version;
}

absl::Status Rename(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) == 0) return absl::OkStatus();
  return ErrnoError(errno, absl::StrCat("renaming ", from, " to ", to));
}

}  // namespace

// What a process has made badly before it hashed it, and what another version has made that this
// one does not know. Other errors of input and output may pass.
absl::Status SnapshotError(const absl::Status& status) {
  // That one broke over something else before.
  const bool invalidated = absl::StrContains(status.message(), "has been invalidated");
  const bool of_content =
      (absl::IsInternal(status) && !invalidated) ||
      (absl::IsUnavailable(status) &&
       (absl::StrContains(status.message(), "Corrupt database file") ||
        absl::StrContains(status.message(), "not a valid DuckDB") ||
        absl::StrContains(status.message(), "database file with version number")));
  return of_content ? MakeError(status.code(), status.message(), kUnusable) : status;
}

bool IsUnusableSnapshot(const absl::Status& status) { return ErrorReason(status) == kUnusable; }

SnapshotInfo SnapshotManifest::Info() const {
  return {path,   progress.applied_position, absl::FromUnixMicros(time_us),
          sha256, progress.content_version,  rows};
}

absl::Status SnapshotStore::Prepare() const {
  ICEPIE_RETURN_IF_ERROR(MakeDirectories(directory_ + "/snapshots"));
  ICEPIE_RETURN_IF_ERROR(MakeDirectories(directory_ + "/tmp"));
  // A disk that has no room for it ends no start: who saves finds out.
  MarkProcess(directory_ + "/tmp").IgnoreError();
  RemoveLeftovers(directory_ + "/tmp");
  return absl::OkStatus();
}

SnapshotStore SnapshotStore::OnTheWay(const std::string& slice, int64_t generation,
                                      absl::string_view stage) const {
  SnapshotStore store = *this;
  store.folder_ = absl::StrCat(kUnfinished, "/", slice, "/g", generation, "/", stage);
  store.keeping_ = {kKeptOnTheWay};
  return store;
}

std::string SnapshotStore::PathOf(const std::string& slice, int64_t generation,
                                  int64_t position) const {
  return absl::StrFormat("%s/%s/g%d-p%020d.duckdb", folder_, slice, generation, position);
}

absl::StatusOr<SnapshotManifest> SnapshotStore::Copy(DuckDatabase& instance,
                                                     const std::string& alias,
                                                     const std::string& file,
                                                     const SnapshotCheck& check) const {
  ICEPIE_ASSIGN_OR_RETURN(const auto connection, DuckConnection::Connect(instance));
  {
    MutexLock lock(copying_->mutex);
    copying_->connections.insert(connection.get());
  }
  const auto copied_all = absl::MakeCleanup([&] {
    MutexLock lock(copying_->mutex);
    copying_->connections.erase(connection.get());
  });
  // A name of its own: a transaction that has seen the copy before would take both for one, which
  // is DuckDB's end.
  static std::atomic<int64_t> counter{0};
  const std::string copy_alias = absl::StrCat("copy_", ++counter, "_of_", alias);
  const std::string copy = QuoteIdentifier(copy_alias);
  ICEPIE_RETURN_IF_ERROR(
      connection->Run(absl::StrCat("ATTACH ", QuoteLiteral(file), " AS ", copy)));
  auto copied = [&]() -> absl::StatusOr<SnapshotManifest> {
    ICEPIE_RETURN_IF_ERROR(
        connection->Run(absl::StrCat("COPY FROM DATABASE ", QuoteIdentifier(alias), " TO ", copy)));
    ICEPIE_RETURN_IF_ERROR(Checkpoint(*connection, copy));
    SnapshotManifest manifest;
    ICEPIE_ASSIGN_OR_RETURN(const auto progress,
                            connection->QueryCells(absl::StrCat(
                                "SELECT ", kProgressColumns, " FROM ", copy, ".main.__progress")));
    ICEPIE_ASSIGN_OR_RETURN(const auto rows, connection->QueryCells(absl::StrCat(
                                                 "SELECT count(*) FROM ", copy, ".main.__result")));
    manifest.progress = ReadProgressRow(progress.at(0));
    manifest.rows = std::get<int64_t>(rows.at(0).at(0));
    if (check) {
      ICEPIE_RETURN_IF_ERROR(check(*connection, copy_alias, manifest));
    }
    return manifest;
  }();
  const absl::Status detached = connection->Run(absl::StrCat("DETACH ", copy));
  if (copied.ok() && !detached.ok()) return detached;
  return copied;
}

absl::Status SnapshotStore::Publish(const std::string& temporary,
                                    SnapshotManifest& manifest) const {
  ICEPIE_RETURN_IF_ERROR(SyncFile(temporary));
  ICEPIE_ASSIGN_OR_RETURN(manifest.sha256, Sha256OfFile(temporary));
  manifest.time_us = absl::ToUnixMicros(absl::Now());
  const std::string file = AbsolutePath(manifest.path);
  ICEPIE_RETURN_IF_ERROR(MakeDirectories(std::filesystem::path(file).parent_path()));
  ICEPIE_RETURN_IF_ERROR(Rename(temporary, file));
  RemoveMarks(file);  // of one that was there before
  return WriteFileAtomically(ManifestPath(file), ManifestText(manifest));
}

absl::StatusOr<SnapshotManifest> SnapshotStore::Save(DuckDatabase& instance,
                                                     const std::string& alias,
                                                     const GenerationInfo& info, int64_t rows_max,
                                                     const SnapshotCheck& check) const {
  const auto annotated = [&](const absl::Status& status) {
    return Annotate(status, absl::StrCat("snapshot of ", info.slice));
  };
  ICEPIE_RETURN_IF_ERROR(annotated(MarkProcess(directory_ + "/tmp")));
  RemoveLeftovers(directory_ + "/tmp");  // of one that had not quite gone when this one started
  ICEPIE_RETURN_IF_ERROR(annotated(MakeRoom(ExpectedBytes(instance, alias, info))));
  const std::string temporary = NewTemporary();
  absl::StatusOr<SnapshotManifest> manifest = [&] {
    const PacedWrites paced(pace_, [this] { return copying_->hurry.load(); });
    return Copy(instance, alias, temporary, check);
  }();
  if (manifest.ok()) {
    const absl::Status fits = MakeRoom(0);
    if (!fits.ok()) manifest = fits;
  }
  absl::Status status = manifest.status();
  if (status.ok()) {
    manifest->info = info;
    manifest->rows_max = rows_max;
    const std::string plain = PathOf(info.slice, info.number, manifest->progress.applied_position);
    const std::vector<std::string> there = At(info, plain);
    for (const std::string& path : there) {
      auto present = Check(path);
      if (!present.ok() || !IsSameState(*present, *manifest)) continue;
      if (!IsUsable(path, SnapshotUse::kRestore)) continue;
      RemoveFiles(temporary);
      return present;
    }
    // Not over what others read, which is two files.
    manifest->path = there.empty() ? plain : VersionPath(plain, manifest->progress.content_version);
    status = Publish(temporary, *manifest);
    for (const std::string& path : there) {
      if (status.ok() && path != manifest->path) Remove(path);
    }
  }
  RemoveFiles(temporary);
  if (ErrorReason(status) == "EXPECTATION_FAILED") return status;
  if (!status.ok()) return annotated(status);
  CleanUp(info.slice, info.number, {manifest->path});
  return manifest;
}

std::vector<std::string> SnapshotStore::At(const GenerationInfo& info,
                                           const std::string& plain) const {
  std::vector<std::string> paths = List(info.slice, info.number);
  const absl::string_view stem = absl::StripSuffix(plain, kEnding);
  paths.erase(std::remove_if(paths.begin(), paths.end(),
                             [&](const auto& path) { return !absl::StartsWith(path, stem); }),
              paths.end());
  return paths;
}

int64_t SnapshotStore::NewestBytes(const std::vector<std::string>& paths) const {
  std::error_code error;
  const auto bytes =
      paths.empty() ? 0 : std::filesystem::file_size(AbsolutePath(paths.front()), error);
  return error ? 0 : static_cast<int64_t>(bytes);
}

// As large as the last one, and as much larger as it has more rows. Not more than twice as large:
// what rows are made of may be most of it, and grows otherwise.
int64_t SnapshotStore::ExpectedBytes(DuckDatabase& instance, const std::string& alias,
                                     const GenerationInfo& info) const {
  const std::vector<std::string> paths = List(info.slice, info.number);
  const int64_t newest = NewestBytes(paths);
  if (budget_.disk_bytes <= 0 || newest == 0) return newest;
  const auto last = ReadManifest(paths.front());
  const auto connection = DuckConnection::Connect(instance);
  if (!last.ok() || last->rows <= 0 || !connection.ok()) return newest;
  const auto rows = (*connection)
                        ->QueryCells(absl::StrCat("SELECT count(*) FROM ", QuoteIdentifier(alias),
                                                  ".main.__result"));
  if (!rows.ok()) return newest;
  const int64_t more = std::get<int64_t>(rows->at(0).at(0)) - last->rows;
  const double of_a_row = static_cast<double>(std::max<int64_t>(0, newest - kBytesWithoutRows)) /
                          static_cast<double>(last->rows);
  const double growth = of_a_row * static_cast<double>(std::max<int64_t>(0, more));
  return newest + static_cast<int64_t>(std::min(growth, static_cast<double>(newest)));
}

absl::Status SnapshotStore::MakeRoom(int64_t bytes) const {
  if (budget_.disk_bytes <= 0) return absl::OkStatus();
  const auto used = [&] { return BytesBelow(directory_) + bytes; };
  const auto fits = [&](int64_t all) {
    return all <= budget_.disk_bytes ? absl::OkStatus()
                                     : DiskBudgetExceeded(all, budget_.disk_bytes);
  };
  if (bytes > budget_.disk_bytes) return fits(bytes);  // whatever is removed for it
  // Leaves room for the next snapshot of what answers, which would else remove what is saved here.
  if (absl::StartsWith(folder_, kUnfinished)) {
    const int64_t next = LargestBytes();
    RemoveOldest(used() + next - budget_.disk_bytes, {});
    return fits(used() + next);
  }
  RemoveOldest(used() - budget_.disk_bytes, {});
  if (const int64_t over = used() - budget_.disk_bytes; over > 0) RemoveUnfinished(over);
  return fits(used());
}

int64_t SnapshotStore::LargestBytes() const {
  SnapshotStore answering = *this;
  answering.folder_ = "snapshots";
  int64_t largest = 0;
  for (const Stored& stored : answering.AllStored()) largest = std::max(largest, stored.bytes);
  return largest;
}

// At last: each costs its build all that it has done, should that be started again.
void SnapshotStore::RemoveUnfinished(int64_t bytes) const {
  std::error_code error;
  for (const auto& slice : DirectoryEntries(AbsolutePath(kUnfinished), error)) {
    std::error_code gone;
    for (const auto& build : DirectoryEntries(slice.path(), gone)) {
      if (bytes <= 0) return;
      const int64_t freed = BytesBelow(build.path());
      std::filesystem::remove_all(build.path(), gone);
      bytes -= freed;
      spdlog::warn(
          "{}: {} bytes that the build of {} had saved on its way made room for a snapshot "
          "(limits.disk): should its process end, it begins again",
          slice.path().filename().string(), freed, build.path().filename().string());
    }
  }
}

void SnapshotStore::CleanUp(const std::string& slice, int64_t generation, Good good) const {
  const std::vector<std::string> paths = List(slice, generation);
  const absl::Time oldest = absl::Now() - keeping_.age;
  for (size_t i = static_cast<size_t>(std::max<int64_t>(1, keeping_.count)); i < paths.size();
       ++i) {
    if (SavedAt(AbsolutePath(paths[i])) < oldest && MayGo(paths[i], good)) Remove(paths[i]);
  }
  if (keeping_.bytes_max <= 0) return;
  int64_t bytes = 0;
  for (const Stored& stored : AllStored()) bytes += stored.bytes;
  RemoveOldest(bytes - keeping_.bytes_max, std::move(good));
}

void SnapshotStore::CleanUpAll() const {
  std::set<std::pair<std::string, int64_t>> generations;
  for (const Stored& stored : AllStored()) generations.insert(GenerationOf(stored.path));
  for (const auto& [slice, generation] : generations) CleanUp(slice, generation, {});
}

// The manifest goes first: without it there is no snapshot.
void SnapshotStore::Remove(const std::string& path) const {
  ::unlink(ManifestPath(AbsolutePath(path)).c_str());
  RemoveFiles(AbsolutePath(path));
  RemoveMarks(AbsolutePath(path));
}

void SnapshotStore::InterruptCopies() const {
  MutexLock lock(copying_->mutex);
  for (DuckConnection* connection : copying_->connections) connection->Interrupt();
}

absl::Status SnapshotStore::NoteUnusable(const std::string& path, SnapshotUse use,
                                         const absl::Status& why) const {
  return WriteFileAtomically(MarkPath(AbsolutePath(path), use),
                             absl::StrCat(MarkedBy(), "\n", why.ToString(), "\n"));
}

bool SnapshotStore::IsUsable(const std::string& path, SnapshotUse use) const {
  const auto mark = ReadFile(MarkPath(AbsolutePath(path), use));
  if (mark.ok() && absl::StartsWith(*mark, MarkedBy() + "\n")) return false;
  return use == SnapshotUse::kServe || IsUsable(path, SnapshotUse::kServe);
}

absl::Status SnapshotStore::NoteTried(const std::string& path) const {
  return NoteUnusable(path, SnapshotUse::kRestore, absl::AbortedError(kTried));
}

void SnapshotStore::ForgetTried(const std::string& path) const {
  ::unlink(MarkPath(AbsolutePath(path), SnapshotUse::kRestore).c_str());
}

std::string SnapshotStore::Edition(const std::string& path) const {
  return absl::StrCat(path, " ", absl::ToUnixNanos(SavedAt(AbsolutePath(path))), " ",
                      IsUsable(path, SnapshotUse::kServe));
}

// Newer ones of the generation may be damaged, or not to be read: the newest good one has to stay.
// Whatever is older than a good one may go.
bool SnapshotStore::MayGo(const std::string& path, Good& good) const {
  const auto [slice, generation] = GenerationOf(path);
  for (const std::string& newer : List(slice, generation)) {
    if (newer <= path) return false;
    if (good.count(newer) == 0 && (!IsUsable(newer, SnapshotUse::kRestore) || !Check(newer).ok())) {
      continue;
    }
    good.insert(newer);
    return true;
  }
  return false;
}

std::vector<SnapshotStore::Stored> SnapshotStore::AllStored() const {
  std::vector<Stored> all;
  std::error_code error;
  for (const auto& slice : DirectoryEntries(AbsolutePath(folder_), error)) {
    std::map<std::string, std::set<std::string>> generations;  // "g7" → its snapshots
    const std::string name = slice.path().filename().string();
    std::error_code gone;
    for (const auto& entry : DirectoryEntries(slice.path(), gone)) {
      const std::string stem = entry.path().stem().string();
      const size_t position = stem.find("-p");
      if (entry.path().extension() != ".json" || position == std::string::npos) continue;
      generations[stem.substr(0, position)].insert(
          absl::StrCat(folder_, "/", name, "/", stem, ".duckdb"));
    }
    for (const auto& [generation, paths] : generations) {
      for (const std::string& path : paths) {
        const auto bytes = std::filesystem::file_size(AbsolutePath(path), gone);
        if (gone) continue;  // another process has removed it just now
        all.push_back({path, SavedAt(AbsolutePath(path)), static_cast<int64_t>(bytes),
                       path != *paths.rbegin()});
      }
    }
  }
  return all;
}

// At least so many bytes, as far as that can be.
void SnapshotStore::RemoveOldest(int64_t bytes, Good good) const {
  if (bytes <= 0) return;
  std::vector<Stored> all = AllStored();
  std::sort(all.begin(), all.end(),
            [](const Stored& a, const Stored& b) { return a.time < b.time; });
  for (const Stored& stored : all) {
    if (bytes <= 0) return;
    if (!stored.spare || !MayGo(stored.path, good)) continue;
    Remove(stored.path);
    bytes -= stored.bytes;
  }
}

std::vector<std::string> SnapshotStore::List(const std::string& slice, int64_t generation) const {
  std::vector<std::string> paths;
  const std::string prefix = absl::StrCat("g", generation, "-p");
  const std::string folder = absl::StrCat(folder_, "/", slice, "/");
  std::error_code error;
  for (const auto& entry : DirectoryEntries(AbsolutePath(folder), error)) {
    const std::string name = entry.path().filename().string();
    if (!absl::StartsWith(name, prefix) || !absl::EndsWith(name, ".json")) continue;
    paths.push_back(folder + entry.path().stem().string() + ".duckdb");
  }
  std::sort(paths.rbegin(), paths.rend());
  return paths;
}

absl::StatusOr<SnapshotManifest> SnapshotStore::ReadManifest(const std::string& path) const {
  if (!absl::EndsWith(path, ".duckdb")) {
    return absl::InvalidArgumentError(absl::StrCat("not a snapshot: ", path));
  }
  ICEPIE_ASSIGN_OR_RETURN(const std::string text, ReadFile(ManifestPath(AbsolutePath(path))));
  ICEPIE_ASSIGN_OR_RETURN(SnapshotManifest manifest, ParseManifest(text, path));
  manifest.path = path;
  return manifest;
}

absl::StatusOr<SnapshotManifest> SnapshotStore::Check(const std::string& path,
                                                      const std::function<bool()>& given_up) const {
  ICEPIE_ASSIGN_OR_RETURN(SnapshotManifest manifest, ReadManifest(path));
  ICEPIE_RETURN_IF_ERROR(
      CheckDigest(AbsolutePath(path), manifest, absl::InfiniteFuture(), given_up));
  return manifest;
}

absl::Status SnapshotStore::CheckDigest(const std::string& file, const SnapshotManifest& manifest,
                                        absl::Time deadline,
                                        const std::function<bool()>& given_up) const {
  ICEPIE_ASSIGN_OR_RETURN(const std::string sha256, Sha256OfFileUntil(file, deadline, given_up));
  if (sha256 == manifest.sha256) return absl::OkStatus();
  return MakeError(absl::StatusCode::kDataLoss,
                   absl::StrCat("snapshot ", manifest.path, " is damaged: its SHA-256 is ", sha256,
                                ", its manifest says ", manifest.sha256),
                   "SNAPSHOT_DAMAGED");
}

SnapshotLink::~SnapshotLink() {
  if (!path_.empty()) ::unlink(path_.c_str());
}

absl::StatusOr<SnapshotLink> SnapshotStore::Link(const SnapshotManifest& manifest) const {
  SnapshotLink link(NewTemporary());
  if (::link(AbsolutePath(manifest.path).c_str(), link.path().c_str()) == 0) return link;
  return ErrnoError(errno, absl::StrCat("linking snapshot ", manifest.path));
}

std::string SnapshotStore::NewTemporary() const {
  static std::atomic<int64_t> counter{0};
  return absl::StrCat(directory_, "/tmp/snapshot-", ::getpid(), "-", ++counter, ".duckdb");
}

// One that has gone since they were listed made room for a newer one, perhaps of its position.
absl::StatusOr<SnapshotManifest> SnapshotStore::NewestGood(const std::string& slice,
                                                           int64_t generation,
                                                           const std::string& definition_hash,
                                                           SnapshotUse use) const {
  absl::StatusOr<SnapshotManifest> found = absl::NotFoundError("");
  for (int attempt = 0; attempt < kLooksMax; ++attempt) {
    const std::vector<std::string> listed = List(slice, generation);
    bool gone = false;
    found = NewestGood(slice, generation, definition_hash, use, gone);
    // A manifest whose file is missing for good tells nothing new.
    if (!gone || List(slice, generation) == listed) break;
  }
  return found;
}

absl::StatusOr<SnapshotManifest> SnapshotStore::NewestGood(const std::string& slice,
                                                           int64_t generation,
                                                           const std::string& definition_hash,
                                                           SnapshotUse use, bool& gone) const {
  std::vector<std::string> unusable;
  const auto look = [&](const std::string& path) -> std::optional<SnapshotManifest> {
    absl::StatusOr<SnapshotManifest> manifest = Check(path);
    gone = gone || absl::IsNotFound(manifest.status());
    if (!manifest.ok()) {
      SliceWarn(slice, "{}; an older one is used", manifest.status().ToString());
    } else if (!definition_hash.empty() && manifest->info.definition_hash != definition_hash) {
      SliceWarn(slice, "snapshot {} is of another definition; passed over", path);
    } else {
      return *std::move(manifest);
    }
    return std::nullopt;
  };
  for (const std::string& path : List(slice, generation)) {
    if (!IsUsable(path, use)) {
      SliceWarn(slice, "snapshot {} could not be read; passed over", path);
      unusable.push_back(path);
    } else if (std::optional<SnapshotManifest> manifest = look(path)) {
      return *std::move(manifest);
    }
  }
  if (use == SnapshotUse::kRestore) unusable.clear();  // it is made from raw
  for (const std::string& path : unusable) {
    const auto marked = WrittenAt(MarkPath(AbsolutePath(path), SnapshotUse::kServe));
    if (absl::Now() - marked < kTriedAgainAfter) continue;
    if (std::optional<SnapshotManifest> manifest = look(path)) return *std::move(manifest);
  }
  return absl::NotFoundError(
      absl::StrCat("no good snapshot of ", slice, " generation ", generation));
}

absl::StatusOr<SnapshotManifest> SnapshotStore::NewestOfEarlier(const std::string& slice,
                                                                int64_t generation) const {
  std::set<int64_t, std::greater<>> earlier;
  std::error_code error;
  const std::string folder = AbsolutePath(absl::StrCat(folder_, "/", slice));
  for (const auto& entry : DirectoryEntries(folder, error)) {
    const std::string name = entry.path().filename().string();
    int64_t number = 0;
    if (!absl::StartsWith(name, "g") || !absl::StrContains(name, "-p")) continue;
    if (absl::SimpleAtoi(name.substr(1, name.find("-p") - 1), &number) && number < generation) {
      earlier.insert(number);
    }
  }
  for (const int64_t number : earlier) {
    absl::StatusOr<SnapshotManifest> manifest = NewestGood(slice, number, "");
    if (manifest.ok()) return manifest;
  }
  return absl::NotFoundError(
      absl::StrCat("no good snapshot of ", slice, " before generation ", generation));
}

}  // namespace icepie::slices
