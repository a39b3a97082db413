#include "core/base/directory.h"

namespace icepie {

std::vector<std::filesystem::directory_entry> DirectoryEntries(const std::filesystem::path& path,
                                                               std::error_code& error) {
  std::vector<std::filesystem::directory_entry> entries;
  std::filesystem::directory_iterator entry(path, error);
  for (; entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    entries.push_back(*entry);
  }
  return entries;
}

}  // namespace icepie
