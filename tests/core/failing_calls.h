// System calls that change, read or look at files and fail, in a program that links this: it stands
// before the C library, so it meets what does not go through RocksDB's file system. Calls are of
// kinds: the call and the file's name up to a number or a dot, or its directory's when it begins
// with one, e.g. "pwrite high_water_mark", "rename segments".
#ifndef ICEPIE_TESTS_CORE_FAILING_CALLS_H_
#define ICEPIE_TESTS_CORE_FAILING_CALLS_H_

#include <cstdint>
#include <map>
#include <string>

namespace icepie {

// Threads: any; one test at a time.
class FailingCalls {
 public:
  // From now on the calls are counted that are of `directory` and files below it, except those
  // whose path contains `except`; the `n`-th of `kind` (from 1) is refused once with errno `error`
  // before it does anything. A write `in_part` takes half, and the next one of its kind is refused.
  // A directory is listed up to an entry or so, also where its path contains `except`.
  static void Fail(const std::string& kind, int64_t n, int error, const std::string& directory,
                   const std::string& except, bool in_part = false);
  static void Stop();

  static bool failed();
  // How many calls of each kind there were.
  static std::map<std::string, int64_t> made();
};

}  // namespace icepie

#endif  // ICEPIE_TESTS_CORE_FAILING_CALLS_H_
