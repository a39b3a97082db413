// What the system keeps of files in memory, for those who must know what the disk has.
#ifndef ICEPIE_CORE_BASE_PAGE_CACHE_H_
#define ICEPIE_CORE_BASE_PAGE_CACHE_H_

#include <string>

namespace icepie {

// Makes the system forget what it has of the file in memory and has written: the next reading is
// from the disk. As far as it can: what somebody maps, or is not written yet, stays.
void DropFromPageCache(const std::string& path);

}  // namespace icepie

#endif  // ICEPIE_CORE_BASE_PAGE_CACHE_H_
