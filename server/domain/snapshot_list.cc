#include "server/domain/snapshot_list.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/base/directory.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "server/base/proto_time.h"
#include "server/domain/snapshot_files.h"
#include "spdlog/spdlog.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;
namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr absl::string_view kAbout = ".about.json";

fs::path NamedFolder(const std::string& domain_directory, const std::string& slice) {
  return fs::path(domain_directory) / "snapshots" / slice / "named";
}

// As slices/snapshot/snapshot_store.cc writes it.
std::optional<v1::Snapshot> FromManifest(const fs::path& path) {
  const auto text = ReadFile(path.string());
  if (!text.ok()) return std::nullopt;
  try {
    const Json json = Json::parse(*text);
    v1::Snapshot snapshot;
    snapshot.set_slice(json.at("slice").get<std::string>());
    snapshot.set_generation(json.at("generation").get<int64_t>());
    snapshot.set_definition_hash(json.at("definition_hash").get<std::string>());
    const Json& progress = json.at("progress");
    snapshot.set_position(progress.at("applied_position").get<int64_t>());
    const auto applied = progress.at("applied_time_us").get<int64_t>();
    if (applied > 0) *snapshot.mutable_applied_time() = ToProto(absl::FromUnixMicros(applied));
    *snapshot.mutable_create_time() =
        ToProto(absl::FromUnixMicros(json.at("time_us").get<int64_t>()));
    snapshot.set_row_count(json.at("rows").get<int64_t>());
    std::error_code error;
    fs::path file = path;
    const auto bytes = fs::file_size(file.replace_extension(".duckdb"), error);
    if (!error) snapshot.set_byte_count(static_cast<int64_t>(bytes));
    return snapshot;
  } catch (const Json::exception& error) {
    spdlog::warn("manifest {}: {}", path.string(), error.what());
    return std::nullopt;
  }
}

// Who made it, and why; a snapshot stands without.
void AddAbout(fs::path manifest, v1::Snapshot& snapshot) {
  const auto text = ReadFile(manifest.replace_extension(kAbout.data()).string());
  if (!text.ok()) return;
  const Json json = Json::parse(*text, nullptr, false);
  const auto field = [&](const char* name) {
    return json.is_object() && json.contains(name) ? json[name] : Json();
  };
  if (field("actor").is_string()) snapshot.set_actor(field("actor").get<std::string>());
  if (field("reason").is_string()) snapshot.set_reason(field("reason").get<std::string>());
  snapshot.set_scheduled(field("scheduled") == true);
  // The manifest tells when the state was saved; it may have got its name later.
  if (!field("time_us").is_number_integer()) return;
  *snapshot.mutable_create_time() = ToProto(absl::FromUnixMicros(field("time_us").get<int64_t>()));
}

std::vector<v1::Snapshot> Read(const fs::path& folder, bool named) {
  std::vector<v1::Snapshot> snapshots;
  std::error_code error;
  for (const auto& entry : DirectoryEntries(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (!absl::EndsWith(name, ".json") || absl::EndsWith(name, kAbout)) continue;
    std::optional<v1::Snapshot> snapshot = FromManifest(entry.path());
    if (!snapshot) continue;
    if (named) {
      snapshot->set_name(entry.path().stem().string());
      AddAbout(entry.path(), *snapshot);
    }
    snapshots.push_back(*std::move(snapshot));
  }
  std::sort(snapshots.begin(), snapshots.end(), [](const auto& a, const auto& b) {
    return std::pair(FromProto(a.create_time()), a.position()) >
           std::pair(FromProto(b.create_time()), b.position());
  });
  return snapshots;
}

}  // namespace

std::vector<v1::Snapshot> ListSnapshots(const std::string& domain_directory,
                                        const std::string& slice, int64_t generation) {
  const fs::path folder = NamedFolder(domain_directory, slice);
  std::vector<v1::Snapshot> snapshots = Read(folder, true);
  for (v1::Snapshot& snapshot : Read(folder.parent_path(), false)) {
    if (snapshot.generation() == generation) snapshots.push_back(std::move(snapshot));
  }
  return snapshots;
}

absl::Status DeleteSnapshot(const std::string& domain_directory, const std::string& slice,
                            const std::string& name) {
  const fs::path folder = NamedFolder(domain_directory, slice);
  std::vector<std::string> have;
  for (const v1::Snapshot& snapshot : Read(folder, true)) have.push_back(snapshot.name());
  // Only what is there is removed: the name comes from outside.
  if (std::find(have.begin(), have.end(), name) == have.end()) {
    return MakeError(absl::StatusCode::kNotFound,
                     absl::StrCat("slice ", slice, " has no snapshot ", name, " (have: ",
                                  have.empty() ? "none" : absl::StrJoin(have, ", "), ")"),
                     "SNAPSHOT_NOT_FOUND", {{"slice", slice}, {"name", name}});
  }
  // The manifest first: without it there is no snapshot.
  const std::string manifest = (folder / absl::StrCat(name, ".json")).string();
  if (std::remove(manifest.c_str()) != 0) {
    return ErrnoError(errno, absl::StrCat("removing ", manifest));
  }
  for (const char* ending : {".about.json", ".duckdb"}) {
    std::error_code ignored;
    fs::remove(folder / absl::StrCat(name, ending), ignored);
  }
  return SyncDirectory(folder.string());
}

}  // namespace icepie::server
