// What a daemon has in memory, for tests of what it may take.
#ifndef ICEPIE_TESTS_E2E_DAEMON_MEMORY_H_
#define ICEPIE_TESTS_E2E_DAEMON_MEMORY_H_

#include <sys/types.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"

namespace icepie::testing {

// The address sanitizer holds what is freed for a while, to see who uses it.
#if defined(__SANITIZE_ADDRESS__) || (defined(__has_feature) && __has_feature(address_sanitizer))
inline constexpr bool kKeepsWhatIsFreed = true;
#else
inline constexpr bool kKeepsWhatIsFreed = false;
#endif

// Without the files that it maps.
inline int64_t MemoryBytes(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/status"));
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("RssAnon:", 0) == 0) return std::atoll(line.c_str() + 8) * 1024;
  }
  return 0;
}

}  // namespace icepie::testing

#endif  // ICEPIE_TESTS_E2E_DAEMON_MEMORY_H_
