#include "server/worker/ahead.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "slices/role/warm_up.h"

namespace icepie::server {
namespace {

absl::Status CheckAlone() {
  std::error_code error;
  const auto threads = std::distance(std::filesystem::directory_iterator("/proc/self/task", error),
                                     std::filesystem::directory_iterator());
  if (!error && threads == 1) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("it has ", threads, " threads before its sandbox"));
}

struct StartMessage {
  std::string arguments;
  std::vector<int> fds;
};

absl::StatusOr<StartMessage> Receive(int fd) {
  StartMessage message;
  message.arguments.resize(kStartBytesMax);
  iovec part = {message.arguments.data(), message.arguments.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kStartFdsMax * sizeof(int))> control = {};
  msghdr header = {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  ssize_t got = -1;
  while ((got = ::recvmsg(fd, &header, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR) {
  }
  if (got < 0) return ErrnoError(errno, "waiting to be told what to be");
  if (got == 0) return absl::FailedPreconditionError("the daemon has gone");
  message.arguments.resize(static_cast<size_t>(got));
  const cmsghdr* const given = CMSG_FIRSTHDR(&header);
  if (given != nullptr && given->cmsg_type == SCM_RIGHTS) {
    message.fds.resize((given->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    std::memcpy(message.fds.data(), CMSG_DATA(given), message.fds.size() * sizeof(int));
  }
  if (message.fds.empty() || (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    return absl::InvalidArgumentError("what it was told is not whole");
  }
  return message;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> AwaitStart(int fd) {
  ICEPIE_RETURN_IF_ERROR(slices::WarmUp());
  ICEPIE_RETURN_IF_ERROR(CheckAlone());
  if (::send(fd, "", 1, MSG_NOSIGNAL) != 1) return ErrnoError(errno, "saying that it is ready");
  ICEPIE_ASSIGN_OR_RETURN(const StartMessage message, Receive(fd));
  ::close(fd);
  ::dup2(message.fds.front(), STDOUT_FILENO);
  ::dup2(message.fds.front(), STDERR_FILENO);
  if (message.fds.size() > 1) ::dup2(message.fds.back(), kGivenFd);
  for (const int given : message.fds) {
    if (given != kGivenFd) ::close(given);
  }
  std::vector<std::string> arguments = absl::StrSplit(message.arguments, '\0');
  arguments.pop_back();  // behind the last one's end
  return arguments;
}

}  // namespace icepie::server
