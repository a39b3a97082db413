// What stands in a directory, also in one that a damaged disk does not give back whole.
#ifndef ICEPIE_CORE_BASE_DIRECTORY_H_
#define ICEPIE_CORE_BASE_DIRECTORY_H_

#include <filesystem>
#include <system_error>
#include <vector>

namespace icepie {

// In no order; those that came before `error`, if there is one. Where a loop over a
// std::filesystem::directory_iterator would throw after its first entry, this does not.
std::vector<std::filesystem::directory_entry> DirectoryEntries(const std::filesystem::path& path,
                                                               std::error_code& error);

}  // namespace icepie

#endif  // ICEPIE_CORE_BASE_DIRECTORY_H_
