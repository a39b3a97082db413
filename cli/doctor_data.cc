// Checks of a data directory: who may use it, who does, and its snapshots.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/doctor_checks.h"
#include "cli/format.h"
#include "core/base/directory.h"
#include "core/base/file.h"
#include "slices/snapshot/snapshot_store.h"

namespace icepie::cli {
namespace {

using Severity = DoctorFinding::Severity;
namespace fs = std::filesystem;

// A directory of many domains has more; the first that is wrong says enough.
constexpr int kFilesLookedAt = 100000;

// The first file below `root` that this account cannot use, or with `error` the directory that
// cannot be listed; empty: none.
std::string FirstForeign(const std::string& root, std::error_code& error) {
  std::vector<fs::path> directories = {root};
  for (int looked_at = 0; !directories.empty() && looked_at < kFilesLookedAt;) {
    const fs::path directory = std::move(directories.back());
    directories.pop_back();
    for (const auto& entry : DirectoryEntries(directory, error)) {
      ++looked_at;
      struct stat info {};
      if (lstat(entry.path().c_str(), &info) != 0 || S_ISLNK(info.st_mode)) continue;
      const int needed = S_ISDIR(info.st_mode) ? R_OK | W_OK | X_OK : R_OK | W_OK;
      if (info.st_uid != geteuid() ||
          faccessat(AT_FDCWD, entry.path().c_str(), needed, AT_EACCESS) != 0) {
        error.clear();
        return entry.path().string();
      }
      if (S_ISDIR(info.st_mode)) directories.push_back(entry.path());
    }
    if (error == std::errc::no_such_file_or_directory) error.clear();  // removed in this moment
    if (error) return directory.string();
  }
  return "";
}

// A directory that is not there is none that cannot be listed.
void AddUnlisted(const std::string& check, const std::string& directory,
                 const std::error_code& error, DoctorFindings& out) {
  if (!error || error == std::errc::no_such_file_or_directory) return;
  out.push_back({Severity::kProblem, check,
                 absl::StrCat(directory, " cannot be listed: ", error.message()),
                 "look at the disk's health"});
}

struct SnapshotCounts {
  int good = 0;
  std::vector<std::string> damaged;
};

// "by_item g3" of "snapshots/by_item/g3-p00000000000000000042.duckdb".
std::string GenerationOf(const fs::path& file) {
  const std::string name = file.filename().string();
  return absl::StrCat(file.parent_path().filename().string(), " ", name.substr(0, name.find('-')));
}

void AddSnapshots(const std::string& domain_directory, std::map<std::string, SnapshotCounts>& out,
                  DoctorFindings& findings) {
  const slices::SnapshotStore store(domain_directory, {});
  const std::string domain = fs::path(domain_directory).filename().string();
  const std::string snapshots = domain_directory + "/snapshots";
  std::error_code error;
  const auto slices = DirectoryEntries(snapshots, error);
  AddUnlisted("snapshots", snapshots, error, findings);
  for (const auto& slice : slices) {
    if (!slice.is_directory(error)) continue;
    const auto files = DirectoryEntries(slice.path(), error);
    AddUnlisted("snapshots", slice.path().string(), error, findings);
    for (const auto& file : files) {
      if (file.path().extension() != ".json") continue;
      fs::path database = file.path();
      database.replace_extension(".duckdb");
      if (!fs::exists(database, error)) continue;
      SnapshotCounts& counts = out[absl::StrCat(domain, ".", GenerationOf(database))];
      const auto checked = store.Check(fs::relative(database, domain_directory, error).string());
      if (checked.ok()) {
        ++counts.good;
      } else {
        counts.damaged.push_back(
            absl::StrCat(database.string(), ": ", std::string(checked.status().message())));
      }
    }
  }
}

}  // namespace

// By /proc/locks, so that looking never keeps a starting daemon from its lock.
int64_t LockOwner(const std::string& data_directory) {
  struct stat info {};
  if (stat((data_directory + "/core/lock").c_str(), &info) != 0) return 0;
  std::ifstream locks("/proc/locks");
  std::string line;
  while (std::getline(locks, line)) {
    std::istringstream fields(line);
    std::string number, kind, mode, access, process, file;
    fields >> number >> kind >> mode >> access >> process >> file;
    const size_t colon = file.rfind(':');
    uint64_t inode = 0;
    int64_t pid = 0;
    if (kind != "FLOCK" || colon == std::string::npos ||
        !absl::SimpleAtoi(file.substr(colon + 1), &inode) || inode != info.st_ino ||
        !absl::SimpleAtoi(process, &pid)) {
      continue;
    }
    return pid == 0 ? -1 : pid;  // of a process that this container does not see
  }
  return 0;
}

bool CheckDirectory(const std::string& data_directory, DoctorFindings& out) {
  struct stat info {};
  if (stat(data_directory.c_str(), &info) != 0) {
    out.push_back({Severity::kProblem, "directory",
                   absl::StrCat("there is no directory ", data_directory),
                   "name the daemon's with --data-dir, or start it: it makes one"});
    return false;
  }
  if (!S_ISDIR(info.st_mode)) {
    out.push_back({Severity::kProblem, "directory",
                   absl::StrCat(data_directory, " is no directory"),
                   "name the daemon's data directory with --data-dir"});
    return false;
  }
  std::error_code error;
  const std::string foreign = access(data_directory.c_str(), R_OK | W_OK | X_OK) != 0
                                  ? data_directory
                                  : FirstForeign(data_directory, error);
  if (error) {
    AddUnlisted("directory", foreign, error, out);
  } else if (!foreign.empty()) {
    out.push_back(
        {Severity::kProblem, "permissions",
         absl::StrCat("user ", geteuid(), " cannot use ", foreign,
                      ", or it belongs to another one"),
         absl::StrCat("run as the daemon's user, or, when it was once started as another: "
                      "chown -R USER ",
                      data_directory)});
  } else if ((info.st_mode & 077) != 0 && (info.st_mode & 05) != 0) {
    out.push_back({Severity::kWarning, "permissions",
                   absl::StrFormat("%s can be entered by everybody (mode %03o)", data_directory,
                                   info.st_mode & 0777),
                   absl::StrCat("chmod 700 ", data_directory)});
  } else {
    out.push_back({Severity::kOk, "permissions", "all files can be read and written", ""});
  }
  return true;
}

void ReadAnnouncement(const std::string& data_directory, icepie::config::v1::Settings& settings) {
  const auto text = ReadFile(data_directory + "/icepied.json");
  if (!text.ok()) return;
  const auto said = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
  const auto at = [&said](const char* name) {
    return said.is_object() && said.contains(name) && said[name].is_string();
  };
  if (at("grpc")) settings.mutable_listen()->set_grpc(said["grpc"].get<std::string>());
  if (at("http")) settings.mutable_listen()->set_http(said["http"].get<std::string>());
}

void CheckLock(const std::string& data_directory, int64_t daemon, DoctorFindings& out) {
  if (daemon != 0) {
    out.push_back({Severity::kNote, "lock",
                   daemon > 0
                       ? absl::StrCat("process ", daemon, " runs on ", data_directory,
                                      "; its log is not read here, and a second daemon is "
                                      "refused")
                       : absl::StrCat("a process of another container runs on ", data_directory),
                   "icepie status says what it has found, as that it takes no records"});
    return;
  }
  std::error_code error;
  if (fs::exists(data_directory + "/icepied.json", error)) {
    out.push_back({Severity::kNote, "lock",
                   "no daemon runs, and the last one was killed or crashed (icepied.json is left)",
                   ""});
  } else {
    out.push_back({Severity::kOk, "lock", "no daemon runs on it", ""});
  }
}

void CheckSnapshots(const std::string& data_directory, DoctorFindings& out) {
  std::map<std::string, SnapshotCounts> generations;
  std::error_code error;
  const std::string domains = data_directory + "/domains";
  const auto entries = DirectoryEntries(domains, error);
  AddUnlisted("snapshots", domains, error, out);
  for (const auto& domain : entries) {
    if (domain.is_directory(error)) AddSnapshots(domain.path().string(), generations, out);
  }
  int good = 0;
  for (const auto& [generation, counts] : generations) {
    good += counts.good;
    for (const std::string& what : counts.damaged) {
      out.push_back({counts.good > 0 ? Severity::kWarning : Severity::kProblem, "snapshots",
                     absl::StrCat(generation, ": ", what),
                     counts.good > 0
                         ? "nothing to do: another one is used; look at the disk's health"
                         : "the slice has no other and is built again from raw; look at the disk"});
    }
  }
  out.push_back({Severity::kOk, "snapshots", FormatCounted(good, "good snapshot"), ""});
}

}  // namespace icepie::cli
