#include "server/front/connection_gate.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"

namespace icepie::server {
namespace {

constexpr int kBacklog = 4096;
constexpr int kAcceptedAtOnce = 64;  // then timers have their turn
constexpr absl::Duration kLookInterval = absl::Milliseconds(50);
constexpr absl::Duration kFloodInterval = absl::Milliseconds(10);
constexpr absl::Duration kAdmitInterval = absl::Milliseconds(50);  // of those that wait
constexpr int64_t kWaitingOfHostMax = 64;                          // one more is turned away
constexpr size_t kHostsWaitingMax = 4096;
constexpr size_t kLookedAtTogether = 256;
constexpr int kUnreadMin = 16 << 10;  // with less, gRPC keeps up with it
constexpr absl::Duration kRetryDelay = absl::Milliseconds(100);
constexpr absl::string_view kGivesCallsUp = "opens calls only to give them up";
constexpr absl::string_view kPings = "floods with pings";
constexpr absl::string_view kControl = "floods with frames that carry nothing";

// SETTINGS, which a client waits for, and GOAWAY (RFC 9113, sections 6.5 and 6.8).
std::string GoAway() {
  constexpr absl::string_view kText = "CONNECTION_LIMIT: too many connections are open or wait";
  constexpr char kEnhanceYourCalm = 0x0b;
  std::string bytes(9, '\0');
  bytes[3] = 4;
  const std::string header = {0, 0, static_cast<char>(8 + kText.size()), 7, 0, 0, 0, 0, 0};
  const std::string body = {0, 0, 0, 0, 0, 0, 0, kEnhanceYourCalm};
  return absl::StrCat(bytes, header, body, kText);
}

void TurnAway(int fd) {
  static const std::string* const kBytes = new std::string(GoAway());
  (void)::send(fd, kBytes->data(), kBytes->size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  ::shutdown(fd, SHUT_WR);
  ::close(fd);
}

std::optional<uint64_t> InodeOf(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISSOCK(info.st_mode)) return std::nullopt;
  return info.st_ino;
}

struct Endpoint {
  sockaddr_storage address{};
  socklen_t size = 0;
};

std::optional<Endpoint> Resolve(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return std::nullopt;
  std::string host = address.substr(0, colon);
  if (host == "localhost") host = "127.0.0.1";
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), address.c_str() + colon + 1, &hints, &found) != 0) {
    return std::nullopt;
  }
  Endpoint endpoint;
  endpoint.size = found->ai_addrlen;
  std::memcpy(&endpoint.address, found->ai_addr, found->ai_addrlen);
  ::freeaddrinfo(found);
  return endpoint;
}

// gRPC's own pings go only to clients with open calls: a client of the blocking interface answers
// no others. The system's probe is answered by the other end's system, whatever its client does, so
// that a connection whose other end is gone gives its place back. Accepted sockets take this over.
// It is one probe: with TCP_USER_TIMEOUT, which gRPC sets to its timeout, the system does not wait
// for the answer to a second.
void KeepAlive(int fd, const ConnectionGate::Limits& limits) {
  const auto set = [fd](int level, int name, int64_t value) {
    const auto number = static_cast<int>(std::max<int64_t>(1, value));
    if (::setsockopt(fd, level, name, &number, sizeof(number)) == 0) return;
    spdlog::warn("gRPC: connections whose other end is gone may stay: {}", strerror(errno));
  };
  set(IPPROTO_TCP, TCP_KEEPIDLE, absl::ToInt64Seconds(limits.keepalive));
  set(IPPROTO_TCP, TCP_KEEPINTVL, absl::ToInt64Seconds(limits.keepalive_timeout));
  set(IPPROTO_TCP, TCP_KEEPCNT, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
}

// 0, or errno.
int Bind(int fd, const Endpoint& endpoint) {
  const int on = 1;
  // A port left in TIME_WAIT is free, one that somebody listens on is not. Accepted sockets take
  // over that nothing waits for more to send.
  (void)::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  (void)::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  const auto* address = reinterpret_cast<const sockaddr*>(&endpoint.address);
  if (::bind(fd, address, endpoint.size) != 0 || ::listen(fd, kBacklog) != 0) return errno;
  return 0;
}

int PortOf(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  return address.ss_family == AF_INET6
             ? ntohs(reinterpret_cast<const sockaddr_in6*>(&address)->sin6_port)
             : ntohs(reinterpret_cast<const sockaddr_in*>(&address)->sin_port);
}

bool HasGone(int fd) {
  pollfd descriptor{fd, POLLRDHUP, 0};
  return ::poll(&descriptor, 1, 0) == 1;
}

// A second name of the connection's descriptor, or -1 when gRPC has closed it. The number may be
// somebody else's the next moment, the second name is not.
class SameConnection {
 public:
  SameConnection(int fd, uint64_t inode) : fd_(::fcntl(fd, F_DUPFD_CLOEXEC, 0)) {
    if (fd_ >= 0 && InodeOf(fd_) == inode) return;
    Close();
  }
  ~SameConnection() { Close(); }
  SameConnection(const SameConnection&) = delete;
  SameConnection& operator=(const SameConnection&) = delete;

  int fd() const { return fd_; }

 private:
  void Close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

  int fd_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ConnectionGate>> ConnectionGate::Listen(const std::string& address,
                                                                       const Limits& limits) {
  const std::optional<Endpoint> endpoint = Resolve(address);
  if (!endpoint) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", address, "\" is no address to listen on; give one as 127.0.0.1:7420"));
  }
  const int fd =
      ::socket(endpoint->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return ErrnoError(errno, "make a socket");
  if (const int error = Bind(fd, *endpoint); error != 0) {
    ::close(fd);
    return MakeError(absl::StatusCode::kUnavailable,
                     absl::StrCat("cannot listen on ", address, " for gRPC (", strerror(error),
                                  "); free the port or set listen.grpc"),
                     "PORT_TAKEN", {{"address", address}});
  }
  KeepAlive(fd, limits);
  return std::unique_ptr<ConnectionGate>(
      new ConnectionGate(fd, PortOf(fd), limits.connections_max));
}

ConnectionGate::~ConnectionGate() {
  Stop();
  ::close(listener_);
}

void ConnectionGate::Start(
    std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor) {
  acceptor_ = std::move(acceptor);
  loop_.Post([this] { Watch(); });
}

void ConnectionGate::CutOffResetFloods() {
  loop_.Post([this] {
    for (const Connection& connection : connections_) CutOffFlood(connection, /*flooded=*/true);
  });
}

// The calls of a flood are counted late: gRPC reads all of them first when processors are scarce,
// 20 KiB for each. What the socket holds shows it at once.
void ConnectionGate::LookForFloods() {
  for (size_t i = std::min(connections_.size(), kLookedAtTogether); i > 0; --i) {
    if (next_look_ >= connections_.size()) next_look_ = 0;
    Connection& connection = connections_[next_look_];
    if (InodeOf(connection.fd) != connection.inode) {
      OnGone(connection);
      connection = std::move(connections_.back());
      connections_.pop_back();
      continue;
    }
    CutOffFlood(connection, /*flooded=*/false);
    ++next_look_;
  }
  visits_.ForgetOld(SteadyNow());
  looking_ = !connections_.empty();
  if (looking_) loop_.RunAfter(kFloodInterval, [this] { LookForFloods(); });
}

// What gRPC had to close, it read only a little of; but the next one costs as much.
void ConnectionGate::OnGone(const Connection& connection) {
  if (!visits_.OnGone(connection.peer, SteadyNow())) return;
  BeginWait(connection.peer.host, kWait, "connects again and again without a call");
}

// At once, and what it has sent is gone with it: gRPC would read that before it saw an end.
void ConnectionGate::CutOffFlood(const Connection& connection, bool flooded) {
  int unread_size = 0;
  if (::ioctl(connection.fd, FIONREAD, &unread_size) != 0 || unread_size < kUnreadMin) return;
  const SameConnection same(connection.fd, connection.inode);
  const absl::string_view why = same.fd() < 0 ? "" : UnreadFlood(same.fd(), flooded);
  if (why.empty()) return;
  spdlog::warn("gRPC: a client that {} is cut off", std::string(why));
  const sockaddr nobody{AF_UNSPEC, {}};  // connect(2): dissolves the connection
  BeginWait(connection.peer.host, kWait, why);
  if (::connect(same.fd(), &nobody, sizeof(nobody)) != 0) ::shutdown(same.fd(), SHUT_RD);
}

// What the client does; empty: nothing bad. gRPC closes a connection with its fourth ping, but only
// when it has read and answered all that is there, at 10 us and 10 KiB for each. A proper client
// waits for the answer to a ping before it sends the next. Of frames that carry nothing it sends
// windows' updates most: one that sends them for each frame of a large answer, and for the stream
// and the connection, has two unread for each frame that it was sent and the server has not heard
// of.
absl::string_view ConnectionGate::UnreadFlood(int fd, bool flooded) {
  constexpr ssize_t kBytesPerReset = 1024;  // a call with its headers has seldom more
  constexpr ssize_t kResetsMax = 256;  // twice the calls that may be open: none waited for those
  constexpr int kPingsMax = 64;
  constexpr int kControlMax = 3072;  // more than half of what the bytes have room for
  const ssize_t size = ::recv(fd, unread_.data(), unread_.size(), MSG_PEEK | MSG_DONTWAIT);
  if (size < kUnreadMin) return "";
  const FrameFlood found = FindFlood({unread_.data(), static_cast<size_t>(size)});
  if (found.pings > kPingsMax) return kPings;
  if (found.control > kControlMax) return kControl;
  return found.opened_and_reset > (flooded ? size / kBytesPerReset : kResetsMax) ? kGivesCallsUp
                                                                                 : "";
}

void ConnectionGate::LetWait(const std::string& host, absl::Duration for_time) {
  loop_.Post([this, host, for_time] { BeginWait(host, for_time, kGivesCallsUp); });
}

void ConnectionGate::OnCall(absl::string_view grpc_peer) {
  visits_.OnCall(PeerOf(grpc_peer).endpoint);
}

void ConnectionGate::BeginWait(const std::string& host, absl::Duration for_time,
                               absl::string_view why) {
  const absl::Time now = SteadyNow();
  absl::erase_if(waits_until_, [&](const auto& host_until) { return host_until.second <= now; });
  if (host.empty() || waits_until_.size() >= kHostsWaitingMax) return;
  absl::Time& until = waits_until_[host];
  if (until <= now) {
    spdlog::warn("gRPC: a host {}: its next connections wait for {}", std::string(why),
                 absl::FormatDuration(for_time));
  }
  until = std::max(until, now + for_time);
}

bool ConnectionGate::MustWait(const std::string& host) const {
  const auto until = waits_until_.find(host);
  if (until != waits_until_.end() && SteadyNow() < until->second) return true;
  return std::any_of(waiting_.begin(), waiting_.end(),
                     [&](const Waiting& other) { return other.peer.host == host; });
}

void ConnectionGate::Wait(int fd, Peer peer) {
  const auto of_host = std::count_if(waiting_.begin(), waiting_.end(), [&](const Waiting& other) {
    return other.peer.host == peer.host;
  });
  const auto places = static_cast<int64_t>(connections_max_ / 2);
  if (of_host >= std::min(kWaitingOfHostMax, places) || IsFull()) {
    ++refused_count_;
    return TurnAway(fd);
  }
  waiting_.push_back({fd, std::move(peer)});
  if (waiting_.size() == 1) loop_.RunAfter(kAdmitInterval, [this] { AdmitWaiting(); });
}

// One of each host at a time: what costs much is noticed before the next comes.
void ConnectionGate::AdmitWaiting() {
  const absl::Time now = SteadyNow();
  std::set<std::string> had_turn;
  for (Waiting& one : std::exchange(waiting_, {})) {
    if (HasGone(one.fd)) {
      ::close(one.fd);
      continue;
    }
    const auto until = waits_until_.find(one.peer.host);
    const bool waits = until != waits_until_.end() && now < until->second;
    if (waits || !had_turn.insert(one.peer.host).second) {
      waiting_.push_back(std::move(one));
    } else {
      Admit(one.fd, std::move(one.peer));
    }
  }
  if (!waiting_.empty()) loop_.RunAfter(kAdmitInterval, [this] { AdmitWaiting(); });
}

void ConnectionGate::Stop() {
  loop_.Stop();
  for (const Waiting& one : std::exchange(waiting_, {})) ::close(one.fd);
}

void ConnectionGate::Watch() {
  paused_ = false;
  if (loop_.Watch(listener_, [this] { AcceptAll(); }).ok()) return;
  paused_ = true;
  loop_.RunAfter(kRetryDelay, [this] { Watch(); });
}

void ConnectionGate::Pause(absl::Duration duration) {
  if (paused_) return;
  paused_ = true;
  loop_.Unwatch(listener_);
  loop_.RunAfter(duration, [this] { Watch(); });
}

void ConnectionGate::AcceptAll() {
  for (int i = 0; i < kAcceptedAtOnce; ++i) {
    sockaddr_storage address{};
    socklen_t size = sizeof(address);
    const int fd = ::accept4(listener_, reinterpret_cast<sockaddr*>(&address), &size,
                             SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      Peer peer = PeerOf(address);
      MustWait(peer.host) ? Wait(fd, std::move(peer)) : Admit(fd, std::move(peer));
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
      // Waits instead of spinning until somebody closes a connection.
      spdlog::warn("gRPC: accepting a connection failed: {}", strerror(errno));
      Pause(kRetryDelay);
      return;
    } else if (errno != EINTR && errno != ECONNABORTED) {
      return;
    }
  }
}

void ConnectionGate::Admit(int fd, Peer peer) {
  const std::optional<uint64_t> inode = InodeOf(fd);
  if (IsFull() || !inode) {
    if (refused_count_++ % 1000 == 0) {
      spdlog::warn(
          "gRPC: {} connections are open, the most that listen.grpc_connections_max "
          "allows; others are turned away",
          connections_.size());
    }
    TurnAway(fd);
    return;
  }
  visits_.OnCome(peer, SteadyNow());
  connections_.push_back({fd, *inode, std::move(peer)});
  if (!looking_) {
    looking_ = true;
    loop_.RunAfter(kFloodInterval, [this] { LookForFloods(); });
  }
  grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
  connection.listener_fd = listener_;
  connection.fd = fd;
  acceptor_->HandleNewConnection(&connection);
}

bool ConnectionGate::IsFull() {
  if (connections_.size() + waiting_.size() < connections_max_) return false;
  const absl::Time now = SteadyNow();
  if (now < looked_time_ + kLookInterval) return true;
  looked_time_ = now;
  connections_.erase(std::remove_if(connections_.begin(), connections_.end(),
                                    [this](const Connection& connection) {
                                      if (InodeOf(connection.fd) == connection.inode) return false;
                                      OnGone(connection);
                                      return true;
                                    }),
                     connections_.end());
  return connections_.size() + waiting_.size() >= connections_max_;
}

}  // namespace icepie::server
