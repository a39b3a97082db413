#include "server/base/machine_memory.h"

#include <unistd.h>

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/file.h"

namespace icepie::server {
namespace {

// Of `file` in the cgroup `path` below `mount` and in those above it: a limit holds for all below.
void TakeLimits(const std::string& mount, const std::string& path, const std::string& file,
                std::optional<int64_t>& least) {
  std::string directory = mount;
  std::vector<std::string> names = absl::StrSplit(path, '/', absl::SkipEmpty());
  names.insert(names.begin(), "");
  for (const std::string& name : names) {
    if (name == "..") return;  // outside of what this process may see
    if (!name.empty()) absl::StrAppend(&directory, "/", name);
    const auto text = ReadFile(absl::StrCat(directory, "/", file));
    int64_t limit = 0;  // "max" is none
    if (!text.ok() || !absl::SimpleAtoi(absl::StripAsciiWhitespace(*text), &limit)) continue;
    least = std::min(least.value_or(limit), limit);
  }
}

}  // namespace

std::optional<int64_t> CgroupMemoryLimit(const std::string& root) {
  std::optional<int64_t> least;
  const auto own = ReadFile(root + "/proc/self/cgroup");
  if (!own.ok()) return least;
  const std::string mount = root + "/sys/fs/cgroup";
  for (const absl::string_view line : absl::StrSplit(*own, '\n', absl::SkipEmpty())) {
    // "0::/user.slice" of version 2, "4:memory:/user.slice" of version 1.
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    const std::vector<std::string> controllers = absl::StrSplit(parts[1], ',');
    if (parts[1].empty()) {
      TakeLimits(mount, parts[2], "memory.max", least);
    } else if (std::find(controllers.begin(), controllers.end(), "memory") != controllers.end()) {
      TakeLimits(mount + "/memory", parts[2], "memory.limit_in_bytes", least);
    }
  }
  return least;
}

int64_t MemoryBytes() {
  const int64_t machine = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  return std::min(machine, CgroupMemoryLimit().value_or(machine));
}

}  // namespace icepie::server
