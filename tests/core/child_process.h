// Starts a program of the build and reads what it prints.
#ifndef ICEPIE_TESTS_CORE_CHILD_PROCESS_H_
#define ICEPIE_TESTS_CORE_CHILD_PROCESS_H_

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/base/check.h"

extern char** environ;

namespace icepie {

class ChildProcess {
 public:
  // `program` is a name in ICEPIE_BIN. Standard output and error both go to the pipe.
  ChildProcess(const std::string& program, const std::vector<std::string>& arguments) {
    int ends[2];
    ICEPIE_CHECK(::pipe2(ends, O_CLOEXEC) == 0);
    output_ = ends[0];
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
    const char* directory = std::getenv("ICEPIE_BIN");
    const std::string path = std::string(directory != nullptr ? directory : ".") + "/" + program;
    std::vector<std::string> words = {path};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    const int error = ::posix_spawn(&pid_, path.c_str(), &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    ::close(ends[1]);
    ICEPIE_CHECK(error == 0);
  }

  ~ChildProcess() {
    if (!reaped_) {
      Kill();
      Wait();
    }
    ::close(output_);
  }
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  void Kill() { ::kill(pid_, SIGKILL); }

  // The next bytes that it prints; empty at the end of its output.
  std::string ReadSome() {
    char buffer[4096];
    const ssize_t got = ::read(output_, buffer, sizeof(buffer));
    return got > 0 ? std::string(buffer, static_cast<size_t>(got)) : std::string();
  }

  std::string ReadToEnd() {
    std::string all;
    for (std::string some = ReadSome(); !some.empty(); some = ReadSome()) all += some;
    return all;
  }

  // The exit code; -1 when a signal ended it.
  int Wait() {
    int status = 0;
    ICEPIE_CHECK(::waitpid(pid_, &status, 0) == pid_);
    reaped_ = true;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  pid_t pid_ = 0;
  int output_ = -1;
  bool reaped_ = false;
};

}  // namespace icepie

#endif  // ICEPIE_TESTS_CORE_CHILD_PROCESS_H_
