// The calls by which a process changes the disk, of which one can be chosen to fail or to be the
// process's last. They are this program's own, which go on to libc's.
#ifndef ICEPIE_TESTS_SLICES_FAILING_CALLS_H_
#define ICEPIE_TESTS_SLICES_FAILING_CALLS_H_

#include <atomic>
#include <cstdint>
#include <string>

namespace icepie::slices {

// At the last of so many calls something happens; 0: never.
extern std::atomic<int64_t> calls_left;
// What: with this error the call fails; 0: the process is killed.
extern std::atomic<int> fails_with;

// Runs `test`, a disabled one of this program, in a process of its own that finds `directory` in
// ICEPIE_KILL_DIRECTORY and `kill_at` in ICEPIE_KILL_AT. Its status as of waitpid().
int RunChild(const std::string& directory, int64_t kill_at, const std::string& test);

}  // namespace icepie::slices

#endif  // ICEPIE_TESTS_SLICES_FAILING_CALLS_H_
