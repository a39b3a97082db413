// Broken invariants end the process: state that is known to be wrong must not be served, and
// restarting is the normal path of recovery. Bad input and failing disks are absl::Status instead.
#ifndef ICEPIE_CORE_BASE_CHECK_H_
#define ICEPIE_CORE_BASE_CHECK_H_

namespace icepie::internal {

// Prints `file:line: broken invariant: text` to standard error and aborts.
[[noreturn]] void CheckFailed(const char* file, int line, const char* text);

}  // namespace icepie::internal

#define ICEPIE_CHECK(condition)                                        \
  do {                                                                 \
    if (!(condition)) [[unlikely]]                                     \
      ::icepie::internal::CheckFailed(__FILE__, __LINE__, #condition); \
  } while (false)

#endif  // ICEPIE_CORE_BASE_CHECK_H_
