#include "server/worker/sandbox.h"

#include <asm/ioctls.h>
#include <asm/sockios.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status.h"

namespace icepie::server {
namespace {

// ------------------------------------------------------------------------------------ Landlock

// The attribute of a ruleset with its fields up to version 6, which Debian's headers lack.
struct RulesetAttribute {
  uint64_t files = 0;
  uint64_t network = 0;  // from version 4
  uint64_t scopes = 0;   // from version 6
};
constexpr uint64_t kTruncate = uint64_t{1} << 14;       // from version 3
constexpr uint64_t kDeviceControl = uint64_t{1} << 15;  // from version 5
constexpr uint64_t kBindAndConnectTcp = 3;
constexpr uint64_t kAbstractSocketsAndSignals = 3;

constexpr uint64_t kReadRights = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
constexpr uint64_t kWriteRights =
    kReadRights | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
    LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
    LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REFER | kTruncate;
// Those that mean something for a file that is no directory.
constexpr uint64_t kFileRights =
    LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | kTruncate;

uint64_t HandledFileRights(int version) {
  uint64_t rights = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;  // all of version 1
  if (version >= 2) rights |= LANDLOCK_ACCESS_FS_REFER;
  if (version >= 3) rights |= kTruncate;
  if (version >= 5) rights |= kDeviceControl;
  return rights;
}

size_t AttributeBytes(int version) {
  if (version >= 6) return sizeof(RulesetAttribute);
  return version >= 4 ? offsetof(RulesetAttribute, scopes) : offsetof(RulesetAttribute, network);
}

absl::Status Allow(int ruleset, const std::string& path, uint64_t rights) {
  const int fd = ::open(path.c_str(), O_PATH | O_CLOEXEC);
  if (fd < 0) {
    if (errno == ENOENT) return absl::OkStatus();
    return ErrnoError(errno, absl::StrCat("opening ", path, " for the sandbox"));
  }
  struct stat info {};
  const bool directory = ::fstat(fd, &info) == 0 && S_ISDIR(info.st_mode);
  landlock_path_beneath_attr rule = {};
  rule.allowed_access = directory ? rights : rights & kFileRights;
  rule.parent_fd = fd;
  const long added =  // NOLINT(google-runtime-int): as syscall() says
      ::syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
  const int error = errno;
  ::close(fd);
  if (added != 0) return ErrnoError(error, absl::StrCat("allowing ", path, " in the sandbox"));
  return absl::OkStatus();
}

absl::Status AllowAll(int ruleset, const SandboxPaths& paths, uint64_t handled) {
  for (const std::string& path : paths.written) {
    ICEPIE_RETURN_IF_ERROR(Allow(ruleset, path, kWriteRights & handled));
  }
  for (const std::string& path : paths.read) {
    ICEPIE_RETURN_IF_ERROR(Allow(ruleset, path, kReadRights));
  }
  return absl::OkStatus();
}

// ------------------------------------------------------------------------------------- seccomp

#if defined(__x86_64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#else
#error "the sandbox knows x86-64 and arm64"
#endif

constexpr uint32_t kAllow = SECCOMP_RET_ALLOW;
constexpr uint32_t kDeny = SECCOMP_RET_ERRNO | EPERM;
constexpr uint32_t kUnknown = SECCOMP_RET_ERRNO | ENOSYS;
constexpr uint32_t kX32Bit = 0x40000000;  // another way to call x86-64's kernel

// What the C library's headers do not have, or not all of them.
constexpr int64_t kMountSetattr = 442;
constexpr int64_t kQuotactlFd = 443;
constexpr int64_t kMemfdSecret = 447;
constexpr int64_t kProcessMrelease = 448;
constexpr int64_t kFchmodat2 = 452;
constexpr int64_t kSetxattrat = 463;
constexpr int64_t kRemovexattrat = 466;
constexpr int64_t kFileSetattr = 469;
constexpr uint32_t kOneProcess = 1;  // IOPRIO_WHO_PROCESS

// Never needed, whatever the arguments.
constexpr int64_t kDenied[] = {
    // Other programs and processes.
    SYS_execve,
    SYS_execveat,
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_pidfd_open,
    SYS_pidfd_getfd,
    SYS_pidfd_send_signal,
    SYS_rt_sigqueueinfo,
    SYS_rt_tgsigqueueinfo,
    SYS_tkill,
    SYS_kcmp,
    SYS_process_madvise,
    kProcessMrelease,
    SYS_move_pages,
    SYS_migrate_pages,
    // Others' sockets: it has its connection with the daemon already (tail_client.h), and who asks
    // it comes to it.
    SYS_connect,
    // Memory that no limit of the process counts, and that may outlive it.
    SYS_shmget,
    SYS_shmat,
    SYS_shmctl,
    SYS_msgget,
    SYS_msgsnd,
    SYS_msgrcv,
    SYS_msgctl,
    SYS_semget,
    SYS_semop,
    SYS_semtimedop,
    SYS_semctl,
    SYS_mq_open,
    SYS_mq_unlink,
    SYS_memfd_create,
    kMemfdSecret,
    // Files and namespaces beside Landlock.
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_setns,
    SYS_unshare,
    SYS_move_mount,
    SYS_open_tree,
    SYS_fsopen,
    SYS_fsmount,
    SYS_fsconfig,
    SYS_fspick,
    kMountSetattr,
    SYS_name_to_handle_at,
    SYS_open_by_handle_at,
    SYS_mknodat,
    SYS_fanotify_init,
    SYS_quotactl,
    kQuotactlFd,
    // What a file is to its owner, who is this user for all of the daemon's: no Landlock governs
    // it. The length by name is from version 3 on; of an open file it goes by how it was opened.
    SYS_fchmod,
    SYS_fchmodat,
    kFchmodat2,
    SYS_fchown,
    SYS_fchownat,
    SYS_utimensat,
    SYS_setxattr,
    SYS_lsetxattr,
    SYS_fsetxattr,
    kSetxattrat,
    SYS_removexattr,
    SYS_lremovexattr,
    SYS_fremovexattr,
    kRemovexattrat,
    kFileSetattr,
    SYS_truncate,
    // The kernel and the machine.
    SYS_bpf,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
    SYS_kexec_file_load,
    SYS_reboot,
    SYS_vhangup,
    SYS_swapon,
    SYS_swapoff,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_clock_adjtime,
    SYS_adjtimex,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_syslog,
    SYS_acct,
    SYS_personality,
    // Keys and identities.
    SYS_keyctl,
    SYS_add_key,
    SYS_request_key,
    SYS_setuid,
    SYS_setgid,
    SYS_setresuid,
    SYS_setresgid,
    SYS_setreuid,
    SYS_setregid,
    SYS_setgroups,
    SYS_setfsuid,
    SYS_setfsgid,
    SYS_capset,
#if defined(__x86_64__)
    SYS_fork,
    SYS_vfork,
    SYS_mknod,
    SYS_chmod,
    SYS_chown,
    SYS_lchown,
    SYS_utime,
    SYS_utimes,
    SYS_futimesat,
    SYS_iopl,
    SYS_ioperm,
    SYS_modify_ldt,
#endif
};

// With where their flags are.
constexpr std::pair<int64_t, int> kOpens[] = {
#if defined(__x86_64__)
    {SYS_open, 1},
#endif
    {SYS_openat, 2},
};

constexpr uint32_t kSocketType = 0xf;  // the other bits are flags

constexpr uint32_t kNumberAt = offsetof(seccomp_data, nr);
constexpr uint32_t kArchitectureAt = offsetof(seccomp_data, arch);
// The low half of an argument; both machines are little-endian.
constexpr uint32_t ArgumentAt(int index) {
  return static_cast<uint32_t>(offsetof(seccomp_data, args) + sizeof(uint64_t) * index);
}

class FilterBuilder {
 public:
  void Load(uint32_t offset) { Add(BPF_LD | BPF_W | BPF_ABS, offset); }
  void KeepBits(uint32_t bits) { Add(BPF_ALU | BPF_AND | BPF_K, bits); }
  void Return(uint32_t action) { Add(BPF_RET | BPF_K, action); }

  // When the loaded value equals (does not equal) `value`, returns.
  void ReturnIf(uint32_t value, uint32_t action) { Jump(BPF_JEQ, value, 0, 1, action); }
  void ReturnUnless(uint32_t value, uint32_t action) { Jump(BPF_JEQ, value, 1, 0, action); }
  void ReturnIfAtLeast(uint32_t value, uint32_t action) { Jump(BPF_JGE, value, 0, 1, action); }
  void ReturnUnlessBits(uint32_t bits, uint32_t action) { Jump(BPF_JSET, bits, 1, 0, action); }

  // Of system call `number`, `check` sees the argument `index`; if it does not return, the call is
  // allowed.
  template <typename Check>
  void OnCall(int64_t number, int index, Check check) {
    const size_t jump = instructions_.size();
    instructions_.push_back({BPF_JMP | BPF_JEQ | BPF_K, 0, 0, static_cast<uint32_t>(number)});
    Load(ArgumentAt(index));
    check();
    Return(kAllow);
    instructions_[jump].jf = static_cast<uint8_t>(instructions_.size() - jump - 1);
  }

  std::vector<sock_filter>& instructions() { return instructions_; }

 private:
  void Add(int code, uint32_t value) {
    instructions_.push_back({static_cast<uint16_t>(code), 0, 0, value});
  }
  void Jump(int comparison, uint32_t value, uint8_t if_true, uint8_t if_false, uint32_t action) {
    instructions_.push_back(
        {static_cast<uint16_t>(BPF_JMP | comparison | BPF_K), if_true, if_false, value});
    Return(action);
  }

  std::vector<sock_filter> instructions_;
};

#if defined(__SANITIZE_ADDRESS__) || (defined(__has_feature) && __has_feature(address_sanitizer))
constexpr bool kAddressSanitizer = true;
#else
constexpr bool kAddressSanitizer = false;
#endif

std::vector<sock_filter> SystemCallFilter() {
  const auto self = static_cast<uint32_t>(::getpid());
  FilterBuilder filter;
  filter.Load(kArchitectureAt);
  filter.ReturnUnless(kArchitecture, SECCOMP_RET_KILL_PROCESS);
  filter.Load(kNumberAt);
#if defined(__x86_64__)
  filter.ReturnIfAtLeast(kX32Bit, kDeny);
#endif
  for (const int64_t number : kDenied) filter.ReturnIf(static_cast<uint32_t>(number), kDeny);
  // Their flags are in memory, where a filter cannot look: the C library then uses clone, openat.
  filter.ReturnIf(SYS_clone3, kUnknown);
  filter.ReturnIf(SYS_openat2, kUnknown);
  filter.OnCall(SYS_clone, 0, [&] { filter.ReturnUnlessBits(CLONE_THREAD, kDeny); });
  // To empty a file is to write to it, however it is opened; and the fourth way of opening, for
  // device control alone, is neither reading nor writing to Landlock.
  for (const auto& [number, flags_index] : kOpens) {
    filter.OnCall(number, flags_index, [&] {
      filter.KeepBits(O_ACCMODE | O_TRUNC);
      for (const int flags : {O_RDONLY | O_TRUNC, O_ACCMODE, O_ACCMODE | O_TRUNC}) {
        filter.ReturnIf(static_cast<uint32_t>(flags), kDeny);
      }
    });
  }
  // Of the kinds that send nothing unless they are connected.
  for (const int64_t number : {SYS_socket, SYS_socketpair}) {
    filter.OnCall(number, 0, [&] {
      filter.ReturnUnless(AF_UNIX, kDeny);
      filter.Load(ArgumentAt(1));
      filter.KeepBits(kSocketType);
      filter.ReturnUnless(SOCK_STREAM, kDeny);
    });
  }
  for (const int64_t number : {SYS_kill, SYS_tgkill}) {
    filter.OnCall(number, 0, [&] { filter.ReturnUnless(self, kDeny); });
  }
  // A file can be made to signal anybody, and a lease on one holds up all others who open it.
  filter.OnCall(SYS_fcntl, 1, [&] {
    for (const int command : {F_SETOWN, F_SETOWN_EX, F_SETSIG, F_SETLEASE, F_NOTIFY}) {
      filter.ReturnIf(static_cast<uint32_t>(command), kDeny);
    }
  });
  filter.OnCall(SYS_ioctl, 1, [&] {
    filter.ReturnIf(FIOSETOWN, kDeny);
    filter.ReturnIf(SIOCSPGRP, kDeny);
    filter.ReturnIf(static_cast<uint32_t>(FS_IOC_SETFLAGS), kDeny);
    filter.ReturnIf(static_cast<uint32_t>(FS_IOC_FSSETXATTR), kDeny);
  });
  // Each thread for itself alone: a filter cannot tell the process's other threads from others'.
  for (const int64_t number :
       {SYS_sched_setscheduler, SYS_sched_setparam, SYS_sched_setattr, SYS_sched_setaffinity}) {
    filter.OnCall(number, 0, [&] { filter.ReturnUnless(0, kDeny); });
  }
  const std::pair<int64_t, uint32_t> priorities[] = {{SYS_setpriority, PRIO_PROCESS},
                                                     {SYS_ioprio_set, kOneProcess}};
  for (const auto& [number, one] : priorities) {
    filter.OnCall(number, 0, [&, one = one] {
      filter.ReturnUnless(one, kDeny);
      filter.Load(ArgumentAt(1));
      filter.ReturnUnless(0, kDeny);
    });
  }
  filter.OnCall(SYS_prlimit64, 0, [&] {
    filter.ReturnIf(0, kAllow);
    filter.ReturnUnless(self, kDeny);
  });
  filter.Return(kAllow);
  return filter.instructions();
}

bool IsMissing(int error) { return error == ENOSYS || error == EOPNOTSUPP || error == EINVAL; }

}  // namespace

std::vector<std::string> SandboxSystemPaths() {
  // /proc/self is a link to the process that opens it, so this one's own.
  return {"/proc/self",          "/proc/meminfo",  "/proc/cpuinfo",       "/proc/stat",
          "/sys/devices/system", "/sys/fs/cgroup", "/usr/share/zoneinfo", "/etc/localtime",
          "/dev/null",           "/dev/urandom"};
}

absl::Status RestrictFiles(const SandboxPaths& paths, int* version) {
  *version = static_cast<int>(
      ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION));
  if (*version < 1) return absl::UnimplementedError("the kernel has no Landlock");
  RulesetAttribute attribute;
  attribute.files = HandledFileRights(*version);
  attribute.network = kBindAndConnectTcp;
  attribute.scopes = kAbstractSocketsAndSignals;
  const auto ruleset = static_cast<int>(
      ::syscall(SYS_landlock_create_ruleset, &attribute, AttributeBytes(*version), 0));
  if (ruleset < 0) return ErrnoError(errno, "making a Landlock ruleset");
  absl::Status status = AllowAll(ruleset, paths, attribute.files);
  if (status.ok() && ::syscall(SYS_landlock_restrict_self, ruleset, 0) != 0) {
    status = ErrnoError(errno, "entering the Landlock sandbox");
  }
  ::close(ruleset);
  return status;
}

absl::Status RestrictSystemCalls() {
  // Its search for leaks starts a process that traces this one.
  if (kAddressSanitizer) {
    return absl::UnimplementedError("not together with the address sanitizer");
  }
  std::vector<sock_filter> filter = SystemCallFilter();
  sock_fprog program = {static_cast<uint16_t>(filter.size()), filter.data()};
  if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0) return absl::OkStatus();
  if (IsMissing(errno)) return absl::UnimplementedError("the kernel has no seccomp filters");
  return ErrnoError(errno, "entering the seccomp sandbox");
}

absl::Status EnterSandbox(const SandboxPaths& paths, bool required, std::string* level) {
  int version = 0;
  const absl::Status files = RestrictFiles(paths, &version);
  const absl::Status calls = RestrictSystemCalls();
  if (files.ok() && calls.ok()) {
    *level = absl::StrCat("full (seccomp, Landlock ", version, ")");
    return absl::OkStatus();
  }
  std::string missing;
  if (!files.ok()) missing = std::string(files.message());
  if (!calls.ok()) absl::StrAppend(&missing, missing.empty() ? "" : "; ", calls.message());
  const std::string reached = files.ok()   ? absl::StrCat("landlock only (Landlock ", version, "; ")
                              : calls.ok() ? "seccomp only ("
                                           : "none (";
  *level = absl::StrCat(reached, missing, ")");
  if (!required) return absl::OkStatus();
  return MakeError(absl::StatusCode::kFailedPrecondition,
                   absl::StrCat("workers.require_sandbox is set, but the sandbox is \"", *level,
                                "\"; use a kernel with both, or allow less"),
                   "SANDBOX_INCOMPLETE");
}

}  // namespace icepie::server
