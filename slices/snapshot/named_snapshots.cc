#include "slices/snapshot/named_snapshots.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "core/base/directory.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "slices/apply/slice_log.h"
#include "slices/definition/definition_values.h"

namespace icepie::slices {
namespace {

constexpr absl::string_view kDatabase = ".duckdb";
constexpr absl::string_view kManifest = ".json";
constexpr absl::string_view kAbout = ".about.json";

std::string Folder(const std::string& slice) { return absl::StrCat("snapshots/", slice, "/named"); }

constexpr const char* kNextFolder = "next_named";
std::string NextPath(const std::string& slice) { return absl::StrCat(kNextFolder, "/", slice); }

// snapshots/s/named/n.duckdb → snapshots/s/named/n
std::string Stem(absl::string_view path) { return std::string(absl::StripSuffix(path, kDatabase)); }

absl::Status Link(const std::string& from, const std::string& to) {
  if (::link(from.c_str(), to.c_str()) == 0) return absl::OkStatus();
  return ErrnoError(errno, absl::StrCat("linking ", from, " to ", to));
}

std::string AboutText(const SnapshotName& name) {
  const nlohmann::json json = {{"actor", name.actor},
                               {"reason", name.reason},
                               {"scheduled", name.scheduled},
                               {"time_us", absl::ToUnixMicros(absl::Now())}};
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

absl::Status Exists(const std::string& slice, const std::string& name) {
  return MakeError(absl::StatusCode::kAlreadyExists,
                   absl::StrCat("slice ", slice, " has a snapshot ", name,
                                " already; delete it first or give another name"),
                   "SNAPSHOT_EXISTS", {{"name", name}});
}

}  // namespace

std::string NamedSnapshots::PathOf(const std::string& slice, const std::string& name) {
  return absl::StrCat(Folder(slice), "/", name, kDatabase);
}

std::string NamedSnapshots::Absolute(const std::string& slice, const std::string& name,
                                     absl::string_view ending) const {
  return store_.AbsolutePath(absl::StrCat(Folder(slice), "/", name, ending));
}

absl::Status NamedSnapshots::Add(const SnapshotManifest& snapshot, const SnapshotName& name) const {
  if (const absl::Status good = CheckSnapshotName(name.name); !good.ok()) {
    return MakeError(absl::StatusCode::kInvalidArgument, good.message(), "PARAMETER_INVALID");
  }
  const std::string& slice = snapshot.info.slice;
  const std::string manifest = Absolute(slice, name.name, kManifest);
  if (::access(manifest.c_str(), F_OK) == 0) return Exists(slice, name.name);
  ICEPIE_RETURN_IF_ERROR(MakeDirectories(store_.AbsolutePath(Folder(slice))));
  const std::string database = Absolute(slice, name.name, kDatabase);
  ::unlink(database.c_str());  // of one that was not finished: it has no manifest
  const std::string source = store_.AbsolutePath(snapshot.path);
  ICEPIE_RETURN_IF_ERROR(Link(source, database));
  ICEPIE_RETURN_IF_ERROR(WriteFileAtomically(Absolute(slice, name.name, kAbout), AboutText(name)));
  // The manifest comes last: with it the snapshot exists.
  const absl::Status linked =
      Link(store_.AbsolutePath(absl::StrCat(Stem(snapshot.path), kManifest)), manifest);
  if (absl::IsAlreadyExists(linked)) return Exists(slice, name.name);
  if (!linked.ok()) {
    ::unlink(database.c_str());
    ::unlink(Absolute(slice, name.name, kAbout).c_str());
    return linked;
  }
  return SyncDirectory(store_.AbsolutePath(Folder(slice)));
}

std::vector<std::string> NamedSnapshots::List(const std::string& slice) const {
  std::vector<std::string> paths;
  std::error_code error;
  for (const auto& entry : DirectoryEntries(store_.AbsolutePath(Folder(slice)), error)) {
    const std::string name = entry.path().filename().string();
    if (!absl::EndsWith(name, kManifest) || absl::EndsWith(name, kAbout)) continue;
    paths.push_back(PathOf(slice, std::string(absl::StripSuffix(name, kManifest))));
  }
  return paths;
}

// The manifest's time is that of the state, which may have stood unchanged for long.
std::vector<std::pair<absl::Time, std::string>> NamedSnapshots::Scheduled(
    const std::string& slice) const {
  std::vector<std::pair<absl::Time, std::string>> made;
  for (const std::string& path : List(slice)) {
    const auto text = ReadFile(store_.AbsolutePath(absl::StrCat(Stem(path), kAbout)));
    if (!text.ok()) continue;
    const auto json = nlohmann::json::parse(*text, nullptr, false);
    const auto known = [&](const char* name) { return json.is_object() && json.contains(name); };
    if (!known("scheduled") || json["scheduled"] != true) continue;
    if (!known("time_us") || !json["time_us"].is_number_integer()) continue;
    made.emplace_back(absl::FromUnixMicros(json["time_us"].get<int64_t>()), path);
  }
  std::sort(made.rbegin(), made.rend());
  return made;
}

absl::Time NamedSnapshots::LastScheduled(const std::string& slice) const {
  const auto made = Scheduled(slice);
  return made.empty() ? absl::InfinitePast() : made.front().first;
}

bool NamedSnapshots::KeepNext(const std::string& slice, const SnapshotSchedule& schedule,
                              absl::Time next) const {
  const std::string path = store_.AbsolutePath(NextPath(slice));
  if (next == absl::InfiniteFuture()) {
    ::unlink(path.c_str());
    return true;
  }
  const nlohmann::json json = {{"next_us", absl::ToUnixMicros(next)},
                               {"cron", schedule.cron},
                               {"time_zone", schedule.time_zone}};
  absl::Status kept = MakeDirectories(store_.AbsolutePath(kNextFolder));
  if (kept.ok()) kept = WriteFileAtomically(path, json.dump() + "\n");
  if (!kept.ok()) SliceWarn(slice, "the time of its next scheduled snapshot: {}", kept.ToString());
  return kept.ok();
}

absl::Time NamedSnapshots::KeptNext(const std::string& slice,
                                    const SnapshotSchedule& schedule) const {
  const auto text = ReadFile(store_.AbsolutePath(NextPath(slice)));
  if (!text.ok()) return absl::InfiniteFuture();
  const auto json = nlohmann::json::parse(*text, nullptr, false);
  const auto has = [&](const char* name, const std::string& value) {
    return json.is_object() && json.contains(name) && json[name] == value;
  };
  if (!has("cron", schedule.cron) || !has("time_zone", schedule.time_zone) ||
      !json.contains("next_us") || !json["next_us"].is_number_integer()) {
    return absl::InfiniteFuture();
  }
  return absl::FromUnixMicros(json["next_us"].get<int64_t>());
}

void NamedSnapshots::Prune(const std::string& slice, const SnapshotSchedule& schedule,
                           absl::Time now) const {
  const auto made = Scheduled(slice);
  for (size_t i = 0; i < made.size(); ++i) {
    const auto& [time, path] = made[i];
    const bool surplus = schedule.keep_count > 0 && static_cast<int64_t>(i) >= schedule.keep_count;
    if (!surplus && now - time <= schedule.keep_for) continue;
    SliceInfo(slice, "snapshot {}: its schedule keeps it no longer", path);
    for (const absl::string_view ending : {kManifest, kAbout, kDatabase}) {
      ::unlink(store_.AbsolutePath(absl::StrCat(Stem(path), ending)).c_str());
    }
  }
}

}  // namespace icepie::slices
