// A directory that the disk does not give back whole, in a program that links this: its readdir()
// stands before the C library's, also for the standard library.
#ifndef ICEPIE_TESTS_CORE_BROKEN_DIRECTORY_H_
#define ICEPIE_TESTS_CORE_BROKEN_DIRECTORY_H_

#include <string>

namespace icepie {

// While it lives, every reading of `directory` itself, not of those below it, ends with EIO after
// `entries` entries, of which two may be "." and "..".
// Threads: any; one object at a time.
class BrokenDirectory {
 public:
  explicit BrokenDirectory(const std::string& directory, int entries = 0);
  ~BrokenDirectory();
  BrokenDirectory(const BrokenDirectory&) = delete;
  BrokenDirectory& operator=(const BrokenDirectory&) = delete;
};

}  // namespace icepie

#endif  // ICEPIE_TESTS_CORE_BROKEN_DIRECTORY_H_
