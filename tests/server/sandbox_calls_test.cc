// The list of system calls that the sandbox refuses, whole and exact: no call is made in earnest,
// so that a call that is not refused does no harm, and is not mistaken for one that is because the
// kernel refused it for other reasons.
#include <asm/ioctls.h>
#include <asm/sockios.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "server/worker/sandbox.h"

namespace icepie::server {
namespace {

constexpr int kReached = ENOANO;   // what the kernel would have been asked to do
constexpr int64_t kSelf = -12345;  // as an argument: the process's own id
constexpr size_t kCallsMax = 1024;

// What entering the sandbox and the end of the process need.
constexpr int64_t kNeeded[] = {SYS_seccomp, SYS_getpid, SYS_exit_group, SYS_brk,
                               SYS_mmap,    SYS_munmap, SYS_mprotect,   SYS_madvise};

bool IsNeeded(int64_t number) {
  return std::find(std::begin(kNeeded), std::end(kNeeded), number) != std::end(kNeeded);
}

// From here on all other calls fail with kReached, except those for which a later filter has
// another error: of two errors the kernel takes the later filter's.
bool StopCallsAtTheKernel() {
  std::vector<sock_filter> filter = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (const int64_t number : kNeeded) {
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(number), 0, 1));
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  }
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | kReached));
  sock_fprog program = {static_cast<uint16_t>(filter.size()), filter.data()};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0;
}

struct Call {
  int64_t number = 0;
  std::array<int64_t, 3> arguments = {-1, -1, -1};
};

// What each of the calls ends with inside; empty where the kernel or the build has no such sandbox.
std::vector<int> ErrorsInside(const std::vector<Call>& calls) {
  void* shared = ::mmap(nullptr, kCallsMax * sizeof(int), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED || calls.size() > kCallsMax) {
    ADD_FAILURE() << "no room for what the calls end with";
    return {};
  }
  int* const errors = static_cast<int*>(shared);
  const pid_t child = ::fork();
  if (child == 0) {
    if (!StopCallsAtTheKernel()) ::_exit(254);
    if (!RestrictSystemCalls().ok()) ::_exit(255);
    for (size_t i = 0; i < calls.size(); ++i) {
      auto [a, b, c] = calls[i].arguments;
      for (int64_t* argument : {&a, &b, &c}) {
        if (*argument == kSelf) *argument = ::getpid();
      }
      errors[i] = ::syscall(calls[i].number, a, b, c, -1, -1, -1) < 0 ? errno : 0;
    }
    ::_exit(0);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  std::vector<int> result(errors, errors + calls.size());
  ::munmap(shared, kCallsMax * sizeof(int));
  if (WIFEXITED(status) && WEXITSTATUS(status) >= 254) return {};
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  return result;
}

#define ICEPIE_CALL(name) \
  { SYS_##name, #name }
// Those that are refused whatever they are asked for, and those that are with arguments of -1.
const std::pair<int64_t, const char*> kRefused[] = {
    ICEPIE_CALL(execve),
    ICEPIE_CALL(execveat),
    ICEPIE_CALL(ptrace),
    ICEPIE_CALL(process_vm_readv),
    ICEPIE_CALL(process_vm_writev),
    ICEPIE_CALL(pidfd_open),
    ICEPIE_CALL(pidfd_getfd),
    ICEPIE_CALL(pidfd_send_signal),
    ICEPIE_CALL(rt_sigqueueinfo),
    ICEPIE_CALL(rt_tgsigqueueinfo),
    ICEPIE_CALL(tkill),
    ICEPIE_CALL(kcmp),
    ICEPIE_CALL(process_madvise),
    {448, "process_mrelease"},
    ICEPIE_CALL(move_pages),
    ICEPIE_CALL(migrate_pages),
    ICEPIE_CALL(connect),
    ICEPIE_CALL(shmget),
    ICEPIE_CALL(shmat),
    ICEPIE_CALL(shmctl),
    ICEPIE_CALL(msgget),
    ICEPIE_CALL(msgsnd),
    ICEPIE_CALL(msgrcv),
    ICEPIE_CALL(msgctl),
    ICEPIE_CALL(semget),
    ICEPIE_CALL(semop),
    ICEPIE_CALL(semtimedop),
    ICEPIE_CALL(semctl),
    ICEPIE_CALL(mq_open),
    ICEPIE_CALL(mq_unlink),
    ICEPIE_CALL(memfd_create),
    {447, "memfd_secret"},
    ICEPIE_CALL(mount),
    ICEPIE_CALL(umount2),
    ICEPIE_CALL(pivot_root),
    ICEPIE_CALL(chroot),
    ICEPIE_CALL(setns),
    ICEPIE_CALL(unshare),
    ICEPIE_CALL(move_mount),
    ICEPIE_CALL(open_tree),
    ICEPIE_CALL(fsopen),
    ICEPIE_CALL(fsmount),
    ICEPIE_CALL(fsconfig),
    ICEPIE_CALL(fspick),
    {442, "mount_setattr"},
    ICEPIE_CALL(name_to_handle_at),
    ICEPIE_CALL(open_by_handle_at),
    ICEPIE_CALL(mknodat),
    ICEPIE_CALL(fanotify_init),
    ICEPIE_CALL(quotactl),
    {443, "quotactl_fd"},
    ICEPIE_CALL(fchmod),
    ICEPIE_CALL(fchmodat),
    {452, "fchmodat2"},
    ICEPIE_CALL(fchown),
    ICEPIE_CALL(fchownat),
    ICEPIE_CALL(utimensat),
    ICEPIE_CALL(setxattr),
    ICEPIE_CALL(lsetxattr),
    ICEPIE_CALL(fsetxattr),
    {463, "setxattrat"},
    ICEPIE_CALL(removexattr),
    ICEPIE_CALL(lremovexattr),
    ICEPIE_CALL(fremovexattr),
    {466, "removexattrat"},
    {469, "file_setattr"},
    ICEPIE_CALL(truncate),
    ICEPIE_CALL(bpf),
    ICEPIE_CALL(perf_event_open),
    ICEPIE_CALL(userfaultfd),
    ICEPIE_CALL(io_uring_setup),
    ICEPIE_CALL(io_uring_enter),
    ICEPIE_CALL(io_uring_register),
    ICEPIE_CALL(init_module),
    ICEPIE_CALL(finit_module),
    ICEPIE_CALL(delete_module),
    ICEPIE_CALL(kexec_load),
    ICEPIE_CALL(kexec_file_load),
    ICEPIE_CALL(reboot),
    ICEPIE_CALL(vhangup),
    ICEPIE_CALL(swapon),
    ICEPIE_CALL(swapoff),
    ICEPIE_CALL(settimeofday),
    ICEPIE_CALL(clock_settime),
    ICEPIE_CALL(clock_adjtime),
    ICEPIE_CALL(adjtimex),
    ICEPIE_CALL(sethostname),
    ICEPIE_CALL(setdomainname),
    ICEPIE_CALL(syslog),
    ICEPIE_CALL(acct),
    ICEPIE_CALL(personality),
    ICEPIE_CALL(keyctl),
    ICEPIE_CALL(add_key),
    ICEPIE_CALL(request_key),
    ICEPIE_CALL(setuid),
    ICEPIE_CALL(setgid),
    ICEPIE_CALL(setresuid),
    ICEPIE_CALL(setresgid),
    ICEPIE_CALL(setreuid),
    ICEPIE_CALL(setregid),
    ICEPIE_CALL(setgroups),
    ICEPIE_CALL(setfsuid),
    ICEPIE_CALL(setfsgid),
    ICEPIE_CALL(capset),
    // Of others than the process, of other kinds, and the like.
    ICEPIE_CALL(socket),
    ICEPIE_CALL(socketpair),
    ICEPIE_CALL(kill),
    ICEPIE_CALL(tgkill),
    ICEPIE_CALL(sched_setscheduler),
    ICEPIE_CALL(sched_setparam),
    ICEPIE_CALL(sched_setattr),
    ICEPIE_CALL(sched_setaffinity),
    ICEPIE_CALL(setpriority),
    ICEPIE_CALL(ioprio_set),
    ICEPIE_CALL(prlimit64),
    ICEPIE_CALL(openat),
#if defined(__x86_64__)
    ICEPIE_CALL(fork),
    ICEPIE_CALL(vfork),
    ICEPIE_CALL(mknod),
    ICEPIE_CALL(open),
    ICEPIE_CALL(chmod),
    ICEPIE_CALL(chown),
    ICEPIE_CALL(lchown),
    ICEPIE_CALL(utime),
    ICEPIE_CALL(utimes),
    ICEPIE_CALL(futimesat),
    ICEPIE_CALL(iopl),
    ICEPIE_CALL(ioperm),
    ICEPIE_CALL(modify_ldt),
#endif
};
#undef ICEPIE_CALL

TEST(SandboxCallsTest, ExactlyTheseCallsAreRefused) {
  std::vector<Call> calls;
  for (int64_t number = 0; number < 600; ++number) {
    // Of x86-64's kernel, which lets its probes in without a filter and signals others who call.
    const bool probe = number == 335 || number == 336;
    if (!IsNeeded(number) && !probe) calls.push_back({number});
  }
  const std::vector<int> errors = ErrorsInside(calls);
  if (errors.empty()) GTEST_SKIP() << "this kernel or build has no such layer";
  std::map<int64_t, std::string> expected(std::begin(kRefused), std::end(kRefused));
  for (size_t i = 0; i < calls.size(); ++i) {
    const int64_t number = calls[i].number;
    const auto refused = expected.find(number);
    const bool unknown = number == SYS_clone3 || number == SYS_openat2;
    const int error = refused != expected.end() ? EPERM : unknown ? ENOSYS : kReached;
    EXPECT_EQ(errors[i], error) << "system call " << number << " "
                                << (refused == expected.end() ? "" : refused->second);
  }
}

TEST(SandboxCallsTest, SomeAreRefusedByWhatTheyAreAskedFor) {
  const std::vector<Call> refused = {
    {SYS_clone, {SIGCHLD, 0, 0}},
    {SYS_clone, {CLONE_VM | CLONE_VFORK | SIGCHLD, 0, 0}},
    {SYS_socket, {AF_INET, SOCK_STREAM, 0}},
    {SYS_socket, {AF_NETLINK, SOCK_STREAM, 0}},
    {SYS_socket, {AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0}},
    {SYS_socket, {AF_UNIX, SOCK_SEQPACKET, 0}},
    {SYS_socketpair, {AF_UNIX, SOCK_DGRAM, 0}},
    {SYS_kill, {0, 0, 0}},
    {SYS_kill, {1, SIGTERM, 0}},
    {SYS_tgkill, {1, 1, SIGTERM}},
    {SYS_fcntl, {0, F_SETOWN, 1}},
    {SYS_fcntl, {0, F_SETOWN_EX, 0}},
    {SYS_fcntl, {0, F_SETSIG, SIGKILL}},
    {SYS_fcntl, {0, F_SETLEASE, F_WRLCK}},
    {SYS_fcntl, {0, F_NOTIFY, 0}},
    {SYS_ioctl, {0, FIOSETOWN, 0}},
    {SYS_ioctl, {0, SIOCSPGRP, 0}},
    {SYS_ioctl, {0, FS_IOC_SETFLAGS, 0}},
    {SYS_ioctl, {0, FS_IOC_FSSETXATTR, 0}},
    {SYS_openat, {0, 0, O_RDONLY | O_TRUNC | O_CLOEXEC}},
    {SYS_openat, {0, 0, O_RDONLY | O_TRUNC | O_CREAT}},
    {SYS_openat, {0, 0, O_ACCMODE}},
    {SYS_openat, {0, 0, O_ACCMODE | O_TRUNC}},
    {SYS_setpriority, {PRIO_USER, 0, 19}},
    {SYS_setpriority, {PRIO_PGRP, 0, 19}},
    {SYS_setpriority, {PRIO_PROCESS, 1, 19}},
    {SYS_ioprio_set, {/*group*/ 2, 0, 0}},
    {SYS_ioprio_set, {/*user*/ 3, 0, 0}},
    {SYS_ioprio_set, {/*process*/ 1, 1, 0}},
    {SYS_sched_setscheduler, {1, SCHED_BATCH, 0}},
    {SYS_sched_setparam, {1, 0, 0}},
    {SYS_sched_setattr, {1, 0, 0}},
    {SYS_sched_setaffinity, {1, 0, 0}},
    {SYS_prlimit64, {1, RLIMIT_CPU, 0}},
#if defined(__x86_64__)
    {0x40000000 | SYS_getppid},  // by the way of x32
    {SYS_open, {0, O_RDONLY | O_TRUNC, 0}},
    {SYS_open, {0, O_ACCMODE, 0}},
#endif
  };
  const std::vector<Call> allowed = {
      {SYS_clone, {CLONE_VM | CLONE_THREAD | CLONE_SIGHAND, 0, 0}},
      {SYS_socket, {AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0}},
      {SYS_socketpair, {AF_UNIX, SOCK_STREAM, 0}},
      {SYS_kill, {kSelf, SIGTERM, 0}},
      {SYS_tgkill, {kSelf, 1, SIGABRT}},
      {SYS_fcntl, {0, F_SETFL, 0}},
      {SYS_ioctl, {0, FIONREAD, 0}},
      {SYS_openat, {0, 0, O_RDONLY | O_CLOEXEC}},
      {SYS_openat, {0, 0, O_WRONLY | O_CREAT | O_TRUNC}},
      {SYS_openat, {0, 0, O_RDWR | O_CREAT | O_TRUNC}},
      {SYS_setpriority, {PRIO_PROCESS, 0, 19}},
      {SYS_ioprio_set, {/*process*/ 1, 0, 0}},
      {SYS_sched_setscheduler, {0, SCHED_BATCH, 0}},
      {SYS_sched_setattr, {0, 0, 0}},
      {SYS_prlimit64, {0, RLIMIT_CPU, 0}},
      {SYS_prlimit64, {kSelf, RLIMIT_CPU, 0}},
  };
  const std::vector<int> refusals = ErrorsInside(refused);
  const std::vector<int> others = ErrorsInside(allowed);
  if (refusals.empty()) GTEST_SKIP() << "this kernel or build has no such layer";
  for (size_t i = 0; i < refusals.size(); ++i) EXPECT_EQ(refusals[i], EPERM) << "refused " << i;
  for (size_t i = 0; i < others.size(); ++i) EXPECT_EQ(others[i], kReached) << "allowed " << i;
}

}  // namespace
}  // namespace icepie::server
