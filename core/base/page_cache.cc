#include "core/base/page_cache.h"

#include <fcntl.h>
#include <unistd.h>

namespace icepie {

void DropFromPageCache(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;  // whoever reads it will say so
  (void)::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  ::close(fd);
}

}  // namespace icepie
