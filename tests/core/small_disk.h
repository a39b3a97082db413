// A file system of a few megabytes, for tests that fill it.
#ifndef ICEPIE_TESTS_CORE_SMALL_DISK_H_
#define ICEPIE_TESTS_CORE_SMALL_DISK_H_

#include <sched.h>
#include <sys/mount.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "tests/core/temp_directory.h"

namespace icepie {

// Made before main, since threads keep the namespace that they began in.
inline const bool kHasOwnMounts = ::unshare(CLONE_NEWNS) == 0 &&
                                  ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;

// A tmpfs in a mount namespace of this process's own, so that nothing is left behind however the
// test ends; child processes see it too. mounted() is false without the privilege to mount: the
// decisions are then tested with injected figures only.
class SmallDisk {
 public:
  explicit SmallDisk(int64_t bytes) {
    mounted_ = kHasOwnMounts && ::mount("tmpfs", directory_.path().c_str(), "tmpfs", 0,
                                        absl::StrCat("size=", bytes).c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(directory_.path().c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  bool mounted() const { return mounted_; }
  bool Resize(int64_t bytes) const {
    return ::mount(nullptr, directory_.path().c_str(), nullptr, MS_REMOUNT,
                   absl::StrCat("size=", bytes).c_str()) == 0;
  }
  const std::string& path() const { return directory_.path(); }

 private:
  TempDirectory directory_;
  bool mounted_ = false;
};

}  // namespace icepie

#endif  // ICEPIE_TESTS_CORE_SMALL_DISK_H_
