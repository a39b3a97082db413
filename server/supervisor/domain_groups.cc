#include "server/supervisor/domain_groups.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "core/base/directory.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "spdlog/spdlog.h"

namespace icepie::server {
namespace {

constexpr char kDaemonGroup[] = "daemon";
constexpr char kPlannersGroup[] = "planners";
constexpr char kDomainGroup[] = "domain-";  // and the domain's name
// Ten busy domains' worth: it does all domains' work, and is idle otherwise.
constexpr int kDaemonWeight = 1000;
constexpr int kGroupWeight = 100;
constexpr int kBuildsWeight = 10;

absl::Status NotDelegated(const std::string& why) {
  return MakeError(absl::StatusCode::kFailedPrecondition, why, "CGROUP_NOT_DELEGATED");
}

// One write: the kernel takes each as a command.
absl::Status WriteGroupFile(const std::string& path, const std::string& text) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return ErrnoError(errno, absl::StrCat("opening ", path));
  const ssize_t written = ::write(fd, text.data(), text.size());
  const int error = written < 0 ? errno : EIO;
  ::close(fd);
  return written == static_cast<ssize_t>(text.size())
             ? absl::OkStatus()
             : ErrnoError(error, absl::StrCat("writing \"", text, "\" to ", path));
}

absl::Status MakeGroup(const std::string& path) {
  if (::mkdir(path.c_str(), 0755) == 0 || errno == EEXIST) return absl::OkStatus();
  return ErrnoError(errno, absl::StrCat("making the control group ", path));
}

// With the groups of its roles. False: something is still in it.
bool RemoveDomainGroup(const std::string& path) {
  std::error_code error;
  for (const auto& role : DirectoryEntries(path, error)) {
    std::error_code ignored;
    if (role.is_directory(ignored)) ::rmdir(role.path().c_str());
  }
  return ::rmdir(path.c_str()) == 0 || errno == ENOENT;
}

// The version 2 hierarchy, which has a mount of its own beside those of version 1.
std::string GroupMount(const std::string& root) {
  const std::string mount = root + "/sys/fs/cgroup";
  const bool is_hybrid = ::access((mount + "/cgroup.controllers").c_str(), F_OK) != 0;
  return is_hybrid ? mount + "/unified" : mount;
}

// "/system.slice/icepied.service"; empty: there is none that can be seen from here.
std::string OwnGroup(const std::string& root) {
  const auto lines = ReadFile(root + "/proc/self/cgroup");
  if (!lines.ok()) return "";
  for (absl::string_view line : absl::StrSplit(*lines, '\n')) {
    if (!absl::ConsumePrefix(&line, "0::")) continue;
    return absl::StrContains(line, "..") ? "" : std::string(line);
  }
  return "";
}

// Nobody but this process.
bool IsAloneIn(const std::string& group) {
  const auto held = ReadFile(group + "/cgroup.procs");
  if (!held.ok()) return false;
  const absl::string_view processes = absl::StripAsciiWhitespace(*held);
  return processes.empty() || processes == absl::StrCat(::getpid());
}

// Another user's group that may be written was given to this one. To root everything is open: then
// systemd has marked it, or it is a container's own, which is not the machine's root group.
bool IsGiven(const std::string& group, bool is_top) {
  for (const char* file : {"", "/cgroup.procs", "/cgroup.subtree_control"}) {
    if (::access((group + file).c_str(), W_OK) != 0) return false;
  }
  if (::geteuid() != 0) return true;
  if (is_top) return ::access((group + "/cgroup.events").c_str(), F_OK) == 0;
  char mark = 0;
  return ::getxattr(group.c_str(), "trusted.delegate", &mark, 1) == 1 ||
         ::getxattr(group.c_str(), "user.delegate", &mark, 1) == 1;
}

std::set<std::string> OfferedControllers(const std::string& group) {
  std::set<std::string> offered;
  const auto all = ReadFile(group + "/cgroup.controllers");
  if (!all.ok()) return offered;
  for (const absl::string_view controller : absl::StrSplit(*all, absl::ByAnyChar(" \n"))) {
    if (controller == "cpu" || controller == "memory") offered.emplace(controller);
  }
  return offered;
}

int64_t MemoryMax(int64_t memory_bytes) { return memory_bytes * 6 + (int64_t{1} << 30); }

// Moves this process below `base` and enables each of `offered` for those below it; returns those
// that the kernel does enable. An error: none, and nothing is enabled.
absl::StatusOr<std::set<std::string>> MoveAndEnable(const std::string& base,
                                                    const std::set<std::string>& offered) {
  // A group with processes cannot have controllers for those below it.
  const std::string daemon = absl::StrCat(base, "/", kDaemonGroup);
  ICEPIE_RETURN_IF_ERROR(MakeGroup(daemon));
  ICEPIE_RETURN_IF_ERROR(WriteGroupFile(daemon + "/cgroup.procs", absl::StrCat(::getpid())));
  std::set<std::string> enabled;
  absl::Status refused;
  for (const std::string& controller : offered) {
    const absl::Status taken =
        WriteGroupFile(base + "/cgroup.subtree_control", absl::StrCat("+", controller));
    if (taken.ok()) {
      enabled.insert(controller);
    } else {
      spdlog::warn("control groups without {}: {}", controller, taken.ToString());
      refused.Update(taken);
    }
  }
  if (enabled.empty()) return refused;
  return enabled;
}

// To where it was. What is enabled, also by an earlier daemon, keeps processes out of `base`.
void MoveBack(const std::string& base, const std::set<std::string>& offered) {
  for (const std::string& controller : offered) {
    static_cast<void>(
        WriteGroupFile(base + "/cgroup.subtree_control", absl::StrCat("-", controller)));
  }
  const absl::Status moved = WriteGroupFile(base + "/cgroup.procs", absl::StrCat(::getpid()));
  if (!moved.ok())
    spdlog::warn("the daemon stays in {}/{}: {}", base, kDaemonGroup, moved.ToString());
  ::rmdir(absl::StrCat(base, "/", kDaemonGroup).c_str());
}

}  // namespace

absl::StatusOr<std::shared_ptr<DomainGroups>> DomainGroups::Enter(const std::string& root) {
  const std::string own = OwnGroup(root);
  if (own.empty()) return NotDelegated("this process has no control group of version 2");
  const std::string own_path = GroupMount(root) + (own == "/" ? "" : own);
  const std::filesystem::path path(own);
  const bool is_below = path.filename() == kDaemonGroup;
  const std::string base = is_below ? own_path.substr(0, own_path.rfind('/')) : own_path;
  const bool is_top = is_below ? path.parent_path() == "/" : own == "/";
  const std::set<std::string> offered = OfferedControllers(base);
  if (offered.empty()) return NotDelegated(absl::StrCat(base, " offers neither cpu nor memory"));
  if (!IsGiven(base, is_top))
    return NotDelegated(absl::StrCat(base, " is not delegated (systemd: Delegate=cpu memory)"));
  if (!IsAloneIn(own_path) || !IsAloneIn(base)) {
    return NotDelegated(absl::StrCat(base, " also holds other processes"));
  }
  const absl::StatusOr<std::set<std::string>> enabled = MoveAndEnable(base, offered);
  if (!enabled.ok()) {
    if (!is_below) MoveBack(base, offered);
    return NotDelegated(std::string(enabled.status().message()));
  }
  auto groups = std::make_shared<DomainGroups>(base, *enabled);
  groups->SetWeight(absl::StrCat(base, "/", kDaemonGroup), kDaemonWeight);
  return groups;
}

DomainGroups::DomainGroups(std::string base, std::set<std::string> controllers)
    : base_(std::move(base)), controllers_(std::move(controllers)) {
  std::error_code error;
  for (const auto& group : DirectoryEntries(base_, error)) {
    const std::string name = group.path().filename();
    if (absl::StartsWith(name, kDomainGroup)) left_.insert(group.path());
  }
  RemoveLeft();
}

DomainGroups::~DomainGroups() {
  for (const auto& [domain, group] : groups_) left_.insert(PathOf(domain));
  left_.insert(absl::StrCat(base_, "/", kPlannersGroup));
  RemoveLeft();
}

std::string DomainGroups::PathOf(const std::string& domain) const {
  return absl::StrCat(base_, "/", kDomainGroup, domain);
}

// Best effort: without it the group has the weight of any other.
void DomainGroups::SetWeight(const std::string& group, int weight) const {
  if (!Has("cpu")) return;
  const absl::Status set = WriteGroupFile(group + "/cpu.weight", absl::StrCat(weight));
  if (!set.ok()) spdlog::warn("control groups: {}", set.ToString());
}

bool DomainGroups::MakeDomain(const std::string& domain) {
  const std::string path = PathOf(domain);
  left_.erase(path);
  const absl::Status made = MakeGroup(path);
  if (!made.ok()) {
    spdlog::warn("domain {} has no control group of its own: {}", domain, made.ToString());
    return false;
  }
  if (!Has("cpu")) return true;
  const absl::Status below = WriteGroupFile(path + "/cgroup.subtree_control", "+cpu");
  if (!below.ok())
    spdlog::warn("domain {}: its builds have no weight of their own: {}", domain, below.ToString());
  return true;
}

std::string DomainGroups::ForWorker(const std::string& domain, const std::string& role,
                                    int64_t memory_bytes) {
  if (!MakeDomain(domain)) return "";
  const std::string shared = PathOf(domain);
  const auto [known, is_new] = groups_.try_emplace(domain);
  Group& group = known->second;
  if (is_new) group.seen = EventsOf(shared);  // under an earlier daemon
  const int64_t memory_max = MemoryMax(memory_bytes);
  if (Has("memory") && group.memory_max < memory_max) {
    const absl::Status capped = WriteGroupFile(shared + "/memory.max", absl::StrCat(memory_max));
    if (capped.ok()) group.memory_max = memory_max;
    if (!capped.ok()) spdlog::warn("domain {} has no memory cap: {}", domain, capped.ToString());
  }
  const bool is_build = role == "build";
  std::string path = absl::StrCat(shared, is_build ? "/builds" : "/answers");
  if (const absl::Status made = MakeGroup(path); !made.ok()) {
    spdlog::warn("the {} worker of domain {} has no control group: {}", role, domain,
                 made.ToString());
    return "";
  }
  SetWeight(path, is_build ? kBuildsWeight : kGroupWeight);
  return path;
}

std::string DomainGroups::OfDaemon() const { return absl::StrCat(base_, "/", kDaemonGroup); }

std::string DomainGroups::ForPlanner() {
  std::string path = absl::StrCat(base_, "/", kPlannersGroup);
  if (const absl::Status made = MakeGroup(path); !made.ok()) {
    spdlog::warn("planners have no control group: {}", made.ToString());
    return "";
  }
  SetWeight(path, kGroupWeight);
  return path;
}

bool DomainGroups::Remove(const std::string& domain) {
  groups_.erase(domain);
  left_.insert(PathOf(domain));
  RemoveLeft();
  return left_.count(PathOf(domain)) == 0;
}

bool DomainGroups::RemoveLeft() {
  for (auto path = left_.begin(); path != left_.end();) {
    path = RemoveDomainGroup(*path) ? left_.erase(path) : std::next(path);
  }
  return left_.empty();
}

DomainGroups::MemoryEvents DomainGroups::EventsOf(const std::string& group) {
  MemoryEvents seen;
  const auto events = ReadFile(group + "/memory.events");
  if (!events.ok()) return seen;
  for (absl::string_view line : absl::StrSplit(*events, '\n')) {
    int64_t* const count = absl::ConsumePrefix(&line, "oom_kill ") ? &seen.kills
                           : absl::ConsumePrefix(&line, "oom ")    ? &seen.at_limit
                                                                   : nullptr;
    if (count != nullptr) static_cast<void>(absl::SimpleAtoi(line, count));
  }
  return seen;
}

// One time at the limit counts once for each thread that meets it, so that only kills tell how many
// were ended, and only that the limit was met again tells for whose memory.
std::string DomainGroups::TakeMemoryKill(const std::string& domain) {
  const auto found = groups_.find(domain);
  if (found == groups_.end() || !Has("memory")) return "";
  Group& group = found->second;
  const MemoryEvents now = EventsOf(PathOf(domain));
  if (now.at_limit > group.seen.at_limit) group.untold += now.kills - group.seen.kills;
  group.seen = now;
  if (group.untold <= 0) return "";
  --group.untold;  // each for a death of its own
  return absl::StrCat("its domain's workers together reached their memory cap of ",
                      group.memory_max >> 20, " MiB");
}

std::string DomainGroups::controllers() const { return absl::StrJoin(controllers_, ", "); }

}  // namespace icepie::server
