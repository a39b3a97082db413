#include "server/process_usage.h"

#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"

namespace icepie::server {
namespace {

// proc(5): the fields behind the program's name, which is in brackets and may hold spaces.
constexpr int kFieldsBeforeUtime = 11;
constexpr int kFieldsFromUtimeToRss = 8;

}  // namespace

std::optional<ProcessUsage> UsageOf(int64_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::string text;
  if (!std::getline(file, text)) return std::nullopt;
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(text.substr(name_end + 1));
  std::string skipped;
  for (int i = 0; i < kFieldsBeforeUtime; ++i) fields >> skipped;
  int64_t user_ticks = 0;
  int64_t system_ticks = 0;
  int64_t resident_pages = 0;
  fields >> user_ticks >> system_ticks;
  for (int i = 0; i < kFieldsFromUtimeToRss; ++i) fields >> skipped;
  fields >> resident_pages;
  if (!fields) return std::nullopt;
  const auto ticks = static_cast<double>(user_ticks + system_ticks);
  return ProcessUsage{resident_pages * sysconf(_SC_PAGESIZE),
                      absl::Seconds(ticks / static_cast<double>(sysconf(_SC_CLK_TCK)))};
}

}  // namespace icepie::server
