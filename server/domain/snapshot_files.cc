#include "server/domain/snapshot_files.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "core/base/directory.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "nlohmann/json.hpp"
#include "spdlog/spdlog.h"

namespace icepie::server {
namespace {

constexpr char kUnfinished[] = "unfinished";
// A worker may replace the newest snapshot between the listing and the reading.
constexpr int kLooksMax = 3;

struct SnapshotName {
  int64_t generation = 0;
  int64_t position = -1;
};

// g7-p00000000000081204113.duckdb and what is beside it, with the content's version behind a v
// where the rows were made anew at that position; g7-held.json, without a position; generation 0
// for any other name.
SnapshotName ParseName(absl::string_view name) {
  SnapshotName out;
  const absl::string_view stem = name.substr(0, name.find('.'));
  const std::vector<absl::string_view> parts = absl::StrSplit(stem, '-');
  if (parts.size() < 2 || !absl::ConsumePrefix(&name, "g")) return out;
  int64_t generation = 0;
  int64_t position = 0;
  if (!absl::SimpleAtoi(parts[0].substr(1), &generation)) return out;
  if (parts[1] == "held") return {generation, -1};
  const absl::string_view digits = parts[1].substr(0, parts[1].find('v'));
  if (!absl::StartsWith(digits, "p") || !absl::SimpleAtoi(digits.substr(1), &position)) {
    return out;
  }
  return {generation, position};
}

std::filesystem::path SliceDirectory(const std::string& domain_directory,
                                     const std::string& slice) {
  return std::filesystem::path(domain_directory) / "snapshots" / slice;
}

std::filesystem::path UnfinishedDirectory(const std::string& domain_directory,
                                          const std::string& slice) {
  return std::filesystem::path(domain_directory) / kUnfinished / slice;
}

std::vector<std::filesystem::path> Files(const std::string& domain_directory,
                                         const std::string& slice) {
  std::vector<std::filesystem::path> out;
  std::error_code error;
  for (const auto& entry : DirectoryEntries(SliceDirectory(domain_directory, slice), error)) {
    out.push_back(entry.path());
  }
  return out;
}

std::vector<std::string> DirectoriesIn(const std::filesystem::path& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : DirectoryEntries(directory, error)) {
    if (entry.is_directory(error)) names.push_back(entry.path().filename().string());
  }
  return names;
}

// "g7" below unfinished/<slice>/; 0 for any other name.
int64_t GenerationOfBuild(absl::string_view name) {
  int64_t generation = 0;
  return absl::ConsumePrefix(&name, "g") && absl::SimpleAtoi(name, &generation) ? generation : 0;
}

}  // namespace

int64_t HighestGenerationOnDisk(const std::string& domain_directory, const std::string& slice) {
  int64_t highest = 0;
  for (const auto& path : Files(domain_directory, slice)) {
    highest = std::max(highest, ParseName(path.filename().string()).generation);
  }
  for (const std::string& name : DirectoriesIn(UnfinishedDirectory(domain_directory, slice))) {
    highest = std::max(highest, GenerationOfBuild(name));
  }
  return highest;
}

int64_t FurthestGenerationOnDisk(const std::string& domain_directory, const std::string& slice) {
  SnapshotName furthest;
  for (const auto& file : Files(domain_directory, slice)) {
    if (file.extension() != ".duckdb") continue;
    const SnapshotName name = ParseName(file.filename().string());
    const bool further =
        name.position > furthest.position ||
        (name.position == furthest.position && name.generation < furthest.generation);
    if (name.generation > 0 && name.position >= 0 && further) furthest = name;
  }
  return furthest.generation;
}

int64_t FurthestGenerationOnDisk(const std::string& domain_directory, const std::string& slice,
                                 const std::string& definition_hash) {
  const int64_t furthest = FurthestGenerationOnDisk(domain_directory, slice);
  if (furthest == 0) return 0;
  absl::StatusOr<std::string> text = absl::NotFoundError("");
  for (int attempt = 0; attempt < kLooksMax && absl::IsNotFound(text.status()); ++attempt) {
    std::filesystem::path manifest(domain_directory);
    manifest /= NewestSnapshot(domain_directory, slice, furthest);
    text = ReadFile(manifest.replace_extension(".json").string());
  }
  if (!text.ok()) return 0;
  const auto json = nlohmann::json::parse(*text, nullptr, false);
  const bool same = json.is_object() && json.contains("definition_hash") &&
                    json["definition_hash"] == definition_hash;
  return same ? furthest : 0;
}

void RemoveGenerations(const std::string& domain_directory, const std::string& slice,
                       const std::function<bool(int64_t)>& unwanted) {
  for (const auto& path : Files(domain_directory, slice)) {
    const int64_t generation = ParseName(path.filename().string()).generation;
    std::error_code ignored;
    if (generation > 0 && unwanted(generation)) std::filesystem::remove(path, ignored);
  }
}

void RemoveUnfinished(const std::string& domain_directory, const std::string& slice,
                      const std::function<bool(int64_t)>& unwanted) {
  const std::filesystem::path builds = UnfinishedDirectory(domain_directory, slice);
  for (const std::string& name : DirectoriesIn(builds)) {
    const int64_t generation = GenerationOfBuild(name);
    std::error_code ignored;
    if (generation > 0 && unwanted(generation)) {
      std::filesystem::remove_all(builds / name, ignored);
    }
  }
}

std::vector<std::string> SlicesOnDisk(const std::string& domain_directory) {
  std::set<std::string> names;
  for (const char* kind : {"snapshots", kUnfinished}) {
    const auto slices = DirectoriesIn(std::filesystem::path(domain_directory) / kind);
    names.insert(slices.begin(), slices.end());
  }
  return {names.begin(), names.end()};
}

void RemoveSlice(const std::string& domain_directory, const std::string& slice) {
  std::error_code ignored;
  std::filesystem::remove_all(SliceDirectory(domain_directory, slice), ignored);
  std::filesystem::remove_all(UnfinishedDirectory(domain_directory, slice), ignored);
  // One that gets its name has a schedule of its own.
  std::filesystem::remove(std::filesystem::path(domain_directory) / "next_named" / slice, ignored);
}

namespace {

// One JSON file of a slice's directory, and what it describes, to a directory of another slice.
// What was cleaned up meanwhile is left out.
absl::Status AdoptFile(const std::filesystem::path& file, const std::filesystem::path& target,
                       const std::string& to) {
  const auto text = ReadFile(file.string());
  if (absl::IsNotFound(text.status())) return absl::OkStatus();
  ICEPIE_RETURN_IF_ERROR(text.status());
  auto json = nlohmann::json::parse(*text, nullptr, false);
  const bool manifest = json.is_object() && json.contains("slice") && json.contains("sha256");
  if (!manifest) return WriteFileAtomically((target / file.filename()).string(), *text);
  std::filesystem::path data = file;
  data.replace_extension(".duckdb");
  std::error_code error;
  std::filesystem::create_hard_link(data, target / data.filename(), error);
  if (error == std::errc::no_such_file_or_directory) return absl::OkStatus();
  if (error)
    return absl::InternalError(absl::StrCat("linking ", data.string(), ": ", error.message()));
  json["slice"] = to;
  const std::string renamed =
      json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  return WriteFileAtomically((target / file.filename()).string(), renamed);
}

}  // namespace

absl::Status AdoptSlice(const std::string& domain_directory, const std::string& from,
                        const std::string& to) {
  const std::filesystem::path source = SliceDirectory(domain_directory, from);
  const std::filesystem::path wanted = SliceDirectory(domain_directory, to);
  const std::filesystem::path staging = std::filesystem::path(domain_directory) / "renaming" / to;
  std::error_code error;
  if (!std::filesystem::exists(source, error) || std::filesystem::exists(wanted, error)) {
    return absl::OkStatus();
  }
  std::filesystem::remove_all(staging, error);
  for (const char* part : {"", "named"}) {
    ICEPIE_RETURN_IF_ERROR(MakeDirectories((staging / part).string()));
    const auto entries = DirectoryEntries(source / part, error);
    if (error && error != std::errc::no_such_file_or_directory) {
      return ErrnoError(error.value(), absl::StrCat("read ", (source / part).string()));
    }
    for (const auto& entry : entries) {
      if (entry.path().extension() != ".json") continue;
      ICEPIE_RETURN_IF_ERROR(AdoptFile(entry.path(), staging / part, to));
    }
    ICEPIE_RETURN_IF_ERROR(SyncDirectory((staging / part).string()));
  }
  std::filesystem::rename(staging, wanted, error);
  if (error) return absl::InternalError(absl::StrCat("renaming its files: ", error.message()));
  return SyncDirectory(wanted.parent_path().string());
}

std::string NewestSnapshot(const std::string& domain_directory, const std::string& slice,
                           int64_t generation) {
  int64_t position = -1;
  std::string file;
  for (const auto& path : Files(domain_directory, slice)) {
    // The manifest is written last: a file without one is not whole.
    if (path.extension() != ".json") continue;
    const SnapshotName name = ParseName(path.filename().string());
    if (name.generation != generation || name.position < 0) continue;
    // Of two at one position the later one has the greater name (SnapshotStore::List).
    std::string stem = path.stem().string();
    if (std::tie(name.position, stem) <= std::tie(position, file)) continue;
    position = name.position;
    file = std::move(stem);
  }
  if (file.empty()) return "";
  return absl::StrCat("snapshots/", slice, "/", file, ".duckdb");
}

std::string PinSnapshot(const std::string& domain_directory, const std::string& path,
                        const std::string& pin) {
  const std::filesystem::path root(domain_directory);
  const std::filesystem::path pins = std::filesystem::path("builds") / pin;
  UnpinSnapshot(domain_directory, pin);
  std::error_code error;
  std::filesystem::create_directories(root / pins, error);
  std::filesystem::path file(path);
  const std::string pinned = (pins / file.filename()).string();
  for (const char* extension : {".duckdb", ".json"}) {
    file.replace_extension(extension);
    std::filesystem::create_hard_link(root / file, root / pins / file.filename(), error);
    if (!error) continue;
    UnpinSnapshot(domain_directory, pin);
    return "";
  }
  return pinned;
}

std::vector<std::string> PinsOnDisk(const std::string& domain_directory) {
  return DirectoriesIn(std::filesystem::path(domain_directory) / "builds");
}

void UnpinSnapshot(const std::string& domain_directory, const std::string& pin) {
  std::error_code ignored;
  std::filesystem::remove_all(std::filesystem::path(domain_directory) / "builds" / pin, ignored);
}

namespace {

std::vector<std::filesystem::directory_entry> EntriesOrError(const std::filesystem::path& path) {
  std::error_code error;
  auto entries = DirectoryEntries(path, error);
  if (error && error != std::errc::no_such_file_or_directory &&
      error != std::errc::not_a_directory) {
    spdlog::error("read {}: {}; it may hold snapshots beyond the core's end", path.string(),
                  error.message());
  }
  return entries;
}

}  // namespace

namespace {

void RemoveUnfinishedBeyond(const std::filesystem::path& unfinished, int64_t head) {
  std::error_code error;
  std::vector<std::filesystem::path> beyond;
  for (std::filesystem::recursive_directory_iterator file(unfinished, error), end;
       !error && file != end; file.increment(error)) {
    if (ParseName(file->path().filename().string()).position > head) beyond.push_back(file->path());
  }
  // What cannot be read may be such a one.
  if (error && error != std::errc::no_such_file_or_directory) beyond = {unfinished};
  for (const auto& path : beyond) std::filesystem::remove_all(path, error);
}

}  // namespace

int64_t SetAsideSnapshotsBeyond(const std::string& domains_directory, int64_t head) {
  std::error_code error;
  std::vector<std::filesystem::path> files;
  for (const auto& domain : EntriesOrError(domains_directory)) {
    RemoveUnfinishedBeyond(domain.path() / kUnfinished, head);
    for (const char* kind : {"snapshots", "builds"}) {
      for (const auto& holder : EntriesOrError(domain.path() / kind)) {
        for (const auto& file : EntriesOrError(holder.path())) {
          const SnapshotName name = ParseName(file.path().filename().string());
          if (name.generation > 0 && name.position > head) files.push_back(file.path());
        }
      }
    }
  }
  int64_t snapshots = 0;
  // The manifests first: without one a file is no snapshot, wherever this ends.
  std::stable_partition(files.begin(), files.end(),
                        [](const auto& path) { return path.extension() == ".json"; });
  for (const auto& path : files) {
    const auto holder = path.parent_path();
    const auto aside = holder.parent_path().parent_path() / "beyond_core" / holder.filename();
    std::filesystem::create_directories(aside, error);
    std::filesystem::rename(path, aside / path.filename(), error);
    if (error) std::filesystem::remove(path, error);
    if (path.extension() == ".json") ++snapshots;
  }
  return snapshots;
}

int64_t SnapshotPosition(const std::string& path) {
  return ParseName(std::filesystem::path(path).filename().string()).position;
}

}  // namespace icepie::server
