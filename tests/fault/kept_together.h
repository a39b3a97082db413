// Whatever ends the harness, what it has started ends with it.
#ifndef ICEPIE_TESTS_FAULT_KEPT_TOGETHER_H_
#define ICEPIE_TESTS_FAULT_KEPT_TOGETHER_H_

#include <functional>
#include <string>

namespace icepie::fault {

// Tells, once, which directory it works in.
using TellDirectory = std::function<void(const std::string& directory)>;

// Runs `work` in a process of its own and returns its exit code. Where that, or this process, is
// ended by a signal (SIGINT and SIGTERM; SIGKILL of this process ends `work` alone), all processes
// that it has started are killed, and the directory is removed unless it is to be kept: then it is
// 128 and the signal.
// Threads: before there are any.
int RunKeptTogether(const std::function<int(const TellDirectory&)>& work, bool keep_directory);

}  // namespace icepie::fault

#endif  // ICEPIE_TESTS_FAULT_KEPT_TOGETHER_H_
