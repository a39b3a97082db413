// Checks of the machine: kernel, limits, programs, disk, ports.
#include <linux/landlock.h>
#include <netdb.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "cli/doctor_checks.h"
#include "cli/format.h"
#include "core/base/file.h"

namespace icepie::cli {
namespace {

using icepie::config::v1::Settings;
using Severity = DoctorFinding::Severity;

constexpr rlim_t kOwnFiles = 2048;  // of the daemon, beside its connections

std::string Mebibytes(int64_t bytes) { return absl::StrCat(FormatCount(bytes >> 20), " MiB"); }

void CheckLimit(const char* name, int resource, rlim_t wanted, Severity severity,
                const std::string& remedy, DoctorFindings& out) {
  rlimit limit{};
  if (getrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0) return;
  if (limit.rlim_max == RLIM_INFINITY || limit.rlim_max >= wanted) {
    out.push_back({Severity::kOk, "limits", absl::StrCat(name, " is enough"), ""});
    return;
  }
  out.push_back({severity, "limits", absl::StrCat(name, " is at most ", limit.rlim_max), remedy});
}

// "127.0.0.1:7420" → host and port; false for anything else.
bool SplitAddress(const std::string& address, std::string* host, std::string* port) {
  const size_t colon = address.rfind(':');
  int number = 0;
  if (colon == std::string::npos || !absl::SimpleAtoi(address.substr(colon + 1), &number)) {
    return false;
  }
  *host = address.substr(0, colon);
  if (host->size() > 2 && host->front() == '[') *host = host->substr(1, host->size() - 2);
  *port = address.substr(colon + 1);
  return number > 0;
}

// Binds or connects a socket, and closes it again: 0, or the error.
int TryAddress(const std::string& host, const std::string& port, bool connects) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), port.c_str(), &hints, &found) != 0) return EADDRNOTAVAIL;
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(found, freeaddrinfo);
  const int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno;
  const int yes = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  const auto call = connects ? connect : bind;
  const int error = call(fd, found->ai_addr, found->ai_addrlen) == 0 ? 0 : errno;
  close(fd);
  return error;
}

void CheckAddress(const std::string& name, const std::string& address, bool has_daemon,
                  DoctorFindings& out) {
  std::string host;
  std::string port;
  if (!SplitAddress(address, &host, &port)) return;
  const int error = TryAddress(host, port, has_daemon);
  const std::string what = absl::StrCat(name, " ", address);
  if (error == 0) {
    out.push_back({Severity::kOk, "ports",
                   absl::StrCat(what, has_daemon ? " accepts connections" : " is free"), ""});
    return;
  }
  out.push_back(
      {Severity::kProblem, "ports",
       absl::StrCat(what, has_daemon ? " does not accept connections: " : " cannot be taken: ",
                    std::strerror(error)),
       has_daemon ? "look at the daemon's log; restart it if it hangs"
                  : absl::StrCat("stop the program that has it (ss -ltnp), or set ", name,
                                 " to another port")});
}

// The first line that a program of ours prints with --version; empty when it does not run.
std::string VersionOf(const std::string& program) {
  const std::string command = absl::StrCat("'", program, "' --version 2>/dev/null");
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return "";
  char line[256] = {};
  const bool got = std::fgets(line, sizeof(line), pipe) != nullptr;
  pclose(pipe);
  return got ? std::string(absl::StripAsciiWhitespace(line)) : "";
}

}  // namespace

const char* SeverityName(Severity severity) {
  switch (severity) {
    case Severity::kOk:
      return "OK";
    case Severity::kNote:
      return "NOTE";
    case Severity::kWarning:
      return "WARNING";
    case Severity::kProblem:
      return "PROBLEM";
  }
  return "";
}

void CheckKernel(bool require_sandbox, DoctorFindings& out) {
  utsname kernel{};
  uname(&kernel);
  const int64_t landlock =
      syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  const bool seccomp = access("/proc/sys/kernel/seccomp/actions_avail", F_OK) == 0;
  const std::string release = absl::StrCat("kernel ", kernel.release);
  if (landlock > 0 && seccomp) {
    out.push_back(
        {Severity::kOk, "sandbox", absl::StrCat(release, ": seccomp and Landlock ", landlock), ""});
    return;
  }
  const std::string missing = landlock > 0 ? "seccomp" : seccomp ? "Landlock" : "both layers";
  out.push_back({require_sandbox ? Severity::kProblem : Severity::kWarning, "sandbox",
                 absl::StrCat(release, " lacks ", missing, " of the workers' sandbox",
                              require_sandbox ? ", and workers.require_sandbox is set" : ""),
                 "boot with lsm=landlock,… or a kernel from 5.13 on; in a container allow both"});
}

void CheckLimits(const Settings& settings, DoctorFindings& out) {
  const auto files = kOwnFiles + static_cast<rlim_t>(settings.listen().grpc_connections_max()) +
                     static_cast<rlim_t>(settings.listen().http_connections_max());
  CheckLimit("open files (ulimit -Hn)", RLIMIT_NOFILE, files, Severity::kWarning,
             absl::StrCat("raise it to ", files, ", or allow fewer connections (listen.*)"), out);
  CheckLimit("file size (ulimit -Hf)", RLIMIT_FSIZE, RLIM_INFINITY, Severity::kProblem,
             "take the limit away: the log and snapshots are larger", out);
  CheckLimit("address space (ulimit -Hv)", RLIMIT_AS, RLIM_INFINITY, Severity::kWarning,
             "take the limit away: each worker limits itself by workers.memory_bytes", out);
  CheckLimit("processes (ulimit -Hu)", RLIMIT_NPROC, 1024, Severity::kWarning,
             "raise it: each domain has two processes with some threads", out);
}

void CheckVersions(const std::string& version, DoctorFindings& out) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::string daemon = (self.parent_path() / "icepied").string();
  const std::string worker = (self.parent_path() / "icepie-worker").string();
  if (access(daemon.c_str(), X_OK) != 0) {
    out.push_back({Severity::kNote, "versions",
                   absl::StrCat("icepie ", version, "; there is no icepied beside it"), ""});
    return;
  }
  const std::string of_daemon = VersionOf(daemon);
  if (of_daemon.empty()) {
    out.push_back({Severity::kProblem, "versions", absl::StrCat(daemon, " does not run"),
                   absl::StrCat("run it by hand: ", daemon, " --version; install what it misses")});
  } else if (of_daemon != absl::StrCat("icepied ", version)) {
    out.push_back({Severity::kWarning, "versions",
                   absl::StrCat("icepie is ", version, ", ", daemon, " says ", of_daemon),
                   "install both from one build"});
  } else {
    out.push_back({Severity::kOk, "versions", absl::StrCat("icepie and icepied ", version), ""});
  }
  if (access(worker.c_str(), X_OK) == 0) return;
  out.push_back({Severity::kWarning, "versions",
                 absl::StrCat("icepie-worker is not beside ", daemon),
                 "install it there, or name it in workers.program"});
}

void CheckDisk(const Settings& settings, DoctorFindings& out) {
  struct statvfs disk {};
  const std::string& path = settings.data_directory();
  if (statvfs(path.c_str(), &disk) != 0) return;
  const auto free = static_cast<int64_t>(disk.f_bavail) * static_cast<int64_t>(disk.f_frsize);
  const int64_t wanted = settings.core().free_bytes_min();
  if ((disk.f_flag & ST_RDONLY) != 0) {
    out.push_back({Severity::kProblem, "disk", absl::StrCat(path, " is mounted read-only"),
                   "mount it for writing; look at the kernel's log for why it is not"});
  }
  if (disk.f_files > 0 && disk.f_favail < 1000) {
    out.push_back({Severity::kProblem, "disk",
                   absl::StrCat("only ", disk.f_favail, " more files fit on the disk of ", path),
                   "remove files, or use a file system with more inodes"});
  }
  const std::string what = absl::StrCat(Mebibytes(free), " free on the disk of ", path);
  if (free < wanted) {
    out.push_back({Severity::kProblem, "disk",
                   absl::StrCat(what, ", appends are refused below ", Mebibytes(wanted)),
                   "make space; appends go on by themselves then"});
  } else if (free < 4 * wanted) {
    out.push_back({Severity::kWarning, "disk",
                   absl::StrCat(what, ", appends are refused below ", Mebibytes(wanted)),
                   "make space, or lower core.free_bytes_min"});
  } else {
    out.push_back({Severity::kOk, "disk", what, ""});
  }
}

void CheckPorts(const Settings& settings, int64_t daemon, DoctorFindings& out) {
  CheckAddress("listen.grpc", settings.listen().grpc(), daemon != 0, out);
  CheckAddress("listen.http", settings.listen().http(), daemon != 0, out);
}

}  // namespace icepie::cli
