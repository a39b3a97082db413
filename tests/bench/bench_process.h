// Programs that a benchmark starts, and that end with it.
#ifndef ICEPIE_TESTS_BENCH_BENCH_PROCESS_H_
#define ICEPIE_TESTS_BENCH_BENCH_PROCESS_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace icepie::bench {

// The program's path, or nullopt. `places` are looked at after PATH.
std::optional<std::string> FindProgram(const std::string& name,
                                       const std::vector<std::string>& places = {});

// A program in the background; killed by the destructor, or when this process ends otherwise. Its
// errors go to `log_file`.
class Background {
 public:
  Background(std::vector<std::string> arguments, const std::string& log_file);
  ~Background();
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  // The first line of its output, without the end.
  std::string ReadLine();
  // Does not wait for what it does about it.
  void Signal(int signal) const;
  // SIGINT (what PostgreSQL calls a fast shutdown), and waits.
  void Interrupt();

 private:
  void WaitForEnd();
  pid_t pid_ = 0;
  int output_ = -1;
};

struct Ran {
  int exit_code = -1;
  std::string output;  // both streams
};
Ran RunToEnd(std::vector<std::string> arguments);

// Of this process so far, all its threads.
double CpuSeconds();
// Waits until this process has hardly used a processor for as long as `rest`; a minute at most.
void WaitUntilIdle(absl::Duration rest);

// Writes what the file system of `path` has in memory: whoever is measured next shall not wait for
// what others wrote.
void WriteDirtyPages(const std::string& path);

// A TCP port of loopback that is free now.
int FreePort();

// A directory of its own, removed by the destructor.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace icepie::bench

#endif  // ICEPIE_TESTS_BENCH_BENCH_PROCESS_H_
