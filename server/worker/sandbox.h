// What a worker's process may still do once it runs users' SQL, should that ever get out of DuckDB:
// read and write its own domain's directory, read sealed segments, ask the daemon over the
// connection that it has, and answer on its socket.
//
// Two layers of the Linux kernel, each tried alone and both kept until the process ends:
//   Landlock (files, from 5.13 on; their length from 6.2; TCP from 6.7; signals and abstract
//     sockets from 6.12): everything outside the paths of SandboxPaths fails with EACCES
//   seccomp: a list of system calls that a worker never needs fails with EPERM: starting programs
//     and processes, connecting, sockets other than Unix ones, looking into or signalling other
//     processes or changing their priority, changing a file's mode, owner, times or attributes,
//     emptying one that is not opened to be written, shared memory and queues, mounting,
//     namespaces, kernel modules, clocks, io_uring, bpf
// What Landlock governs from a later version on, seccomp refuses too, so that any version with it
// is all of the sandbox.
// Sources: the kernel's Documentation/userspace-api/landlock.rst and seccomp_filter.rst.
#ifndef ICEPIE_SERVER_WORKER_SANDBOX_H_
#define ICEPIE_SERVER_WORKER_SANDBOX_H_

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace icepie::server {

// Existing directories; what does not exist stays forbidden.
struct SandboxPaths {
  std::vector<std::string> written;  // read, written, created and removed below these
  std::vector<std::string> read;     // files or directories
};

// The lists that do not depend on the worker: time zones, /proc of itself and the like.
std::vector<std::string> SandboxSystemPaths();

// Landlock alone. Returns the interface version in force. UNIMPLEMENTED: the kernel has none.
// Threads: the calling one and those it starts later, so call it before any other exists.
absl::Status RestrictFiles(const SandboxPaths& paths, int* version);

// seccomp alone; the process must have no_new_privs. UNIMPLEMENTED: the kernel has none.
absl::Status RestrictSystemCalls();

// Both. Returns the level reached: "full (seccomp, Landlock 2)", "seccomp only (…)",
// "landlock only (…)" or "none (…)", the last three with what was missing. FAILED_PRECONDITION when
// it is less than full and `required`.
absl::Status EnterSandbox(const SandboxPaths& paths, bool required, std::string* level);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_WORKER_SANDBOX_H_
