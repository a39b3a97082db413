#include "tests/core/broken_directory.h"

#include <dirent.h>
#include <dlfcn.h>
#include <sys/stat.h>

#include <cerrno>
#include <map>

#include "core/base/mutex.h"

namespace icepie {
namespace {

struct Broken {
  Mutex mutex;
  bool is_broken ABSL_GUARDED_BY(mutex) = false;
  dev_t device ABSL_GUARDED_BY(mutex) = 0;
  ino_t inode ABSL_GUARDED_BY(mutex) = 0;
  int entries ABSL_GUARDED_BY(mutex) = 0;
  std::map<DIR*, int> read ABSL_GUARDED_BY(mutex);  // of those that have not met the error
};

Broken& TheBroken() {
  static Broken& broken = *new Broken;
  return broken;
}

bool Fails(DIR* directory) {
  Broken& broken = TheBroken();
  const MutexLock lock(broken.mutex);
  struct stat info {};
  if (!broken.is_broken || ::fstat(::dirfd(directory), &info) != 0) return false;
  if (info.st_dev != broken.device || info.st_ino != broken.inode) return false;
  if (broken.read[directory]++ < broken.entries) return false;
  broken.read.erase(directory);
  return true;
}

}  // namespace

BrokenDirectory::BrokenDirectory(const std::string& directory, int entries) {
  Broken& broken = TheBroken();
  const MutexLock lock(broken.mutex);
  struct stat info {};
  broken.is_broken = ::stat(directory.c_str(), &info) == 0;
  broken.device = info.st_dev;
  broken.inode = info.st_ino;
  broken.entries = entries;
  broken.read.clear();
}

BrokenDirectory::~BrokenDirectory() {
  Broken& broken = TheBroken();
  const MutexLock lock(broken.mutex);
  broken.is_broken = false;
}

}  // namespace icepie

extern "C" dirent* readdir(DIR* directory) {
  static const auto real = reinterpret_cast<dirent* (*)(DIR*)>(dlsym(RTLD_NEXT, "readdir"));
  if (!icepie::Fails(directory)) return real(directory);
  errno = EIO;
  return nullptr;
}
