#include "tests/bench/redis_load.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"

namespace icepie::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRequests = 16;      // different ones, sent in turn
constexpr int kLinesOfAnswer = 2;  // "$15", "1732700000000-0"

void AddWord(std::string& text, const std::string& word) {
  absl::StrAppend(&text, "$", word.size(), "\r\n", word, "\r\n");
}

std::vector<std::string> MakeRequests(const PeerLoad& load) {
  const std::vector<BenchRecord>& records = Records(load.kind);
  std::vector<std::string> requests(kRequests);
  size_t next = 0;
  for (std::string& request : requests) {
    for (int i = 0; i < load.batch; ++i) {
      const BenchRecord& record = records[next++ % records.size()];
      request += "*5\r\n";
      for (const std::string& word : {std::string("XADD"), record.stream, std::string("*"),
                                      std::string("p"), record.payload}) {
        AddWord(request, word);
      }
    }
  }
  return requests;
}

class Connection {
 public:
  // `first`: with which request it begins.
  Connection(int port, const std::vector<std::string>& requests, int batch, size_t first)
      : requests_(requests),
        batch_(batch),
        next_(first),
        fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    ok_ = connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    const int on = 1;
    (void)setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  ~Connection() { close(fd_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  int fd() const { return fd_; }
  bool ok() const { return ok_; }
  bool idle() const { return lines_due_ == 0; }

  void Begin() {
    unsent_ = requests_[next_++ % requests_.size()];
    lines_due_ = kLinesOfAnswer * batch_;
  }
  // Sends and receives what can be without waiting.
  void Move() {
    while (ok_ && !unsent_.empty()) {
      const ssize_t n = send(fd_, unsent_.data(), unsent_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (n < 0) ok_ = errno == EAGAIN;
      if (n < 0) break;
      unsent_.remove_prefix(static_cast<size_t>(n));
    }
    char buffer[65536];
    while (ok_ && lines_due_ > 0) {
      const ssize_t n = recv(fd_, buffer, sizeof buffer, MSG_DONTWAIT);
      if (n < 0 && errno == EAGAIN) return;
      ok_ = n > 0;
      if (ok_) Count({buffer, static_cast<size_t>(n)});
    }
  }

 private:
  void Count(absl::string_view answers) {
    for (const char c : answers) {
      if (line_begins_ && c == '-') ok_ = false;  // an error
      line_begins_ = c == '\n';
      if (line_begins_) --lines_due_;
    }
  }

  const std::vector<std::string>& requests_;
  const int batch_;
  size_t next_;
  const int fd_;
  bool ok_ = false;
  absl::string_view unsent_;
  int64_t lines_due_ = 0;
  bool line_begins_ = true;
};

class RedisLoad {
 public:
  RedisLoad(int port, const PeerLoad& load)
      : requests_(MakeRequests(load)), batch_(load.batch), epoll_(epoll_create1(EPOLL_CLOEXEC)) {
    for (int i = 0; i < load.clients; ++i) {
      connections_.push_back(
          std::make_unique<Connection>(port, requests_, load.batch, static_cast<size_t>(i)));
      epoll_event event{};
      event.events = EPOLLIN | EPOLLOUT | EPOLLET;
      event.data.ptr = connections_.back().get();
      ICEPIE_CHECK(epoll_ctl(epoll_, EPOLL_CTL_ADD, connections_.back()->fd(), &event) == 0);
    }
  }
  ~RedisLoad() { close(epoll_); }
  RedisLoad(const RedisLoad&) = delete;
  RedisLoad& operator=(const RedisLoad&) = delete;

  // Until `seconds` have passed and all are answered.
  std::optional<double> Run(double seconds) {
    const auto begin = Clock::now();
    end_ =
        begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    batches_ = 0;
    busy_ = connections_.size();
    for (const auto& connection : connections_) {
      connection->Begin();
      if (!Drive(*connection)) return std::nullopt;
    }
    while (busy_ > 0) {
      epoll_event events[64];
      const int count = epoll_wait(epoll_, events, 64, kPatienceMs);
      if (count == 0 || (count < 0 && errno != EINTR)) return std::nullopt;
      for (int i = 0; i < count; ++i) {
        auto& connection = *static_cast<Connection*>(events[i].data.ptr);
        if (!connection.idle() && !Drive(connection)) return std::nullopt;
      }
    }
    const std::chrono::duration<double> took = Clock::now() - begin;
    return static_cast<double>(batches_ * batch_) / took.count();
  }

 private:
  static constexpr int kPatienceMs = 60000;

  // Until it has to wait, or its time is over; false when it is broken.
  bool Drive(Connection& connection) {
    for (connection.Move(); connection.ok() && connection.idle(); connection.Move()) {
      ++batches_;
      if (Clock::now() >= end_) {
        --busy_;
        return true;
      }
      connection.Begin();
    }
    return connection.ok();
  }

  const std::vector<std::string> requests_;
  const int batch_;
  const int epoll_;
  std::vector<std::unique_ptr<Connection>> connections_;
  Clock::time_point end_;
  int64_t batches_ = 0;
  size_t busy_ = 0;
};

}  // namespace

std::optional<double> RunRedisLoad(int port, const PeerLoad& load) {
  RedisLoad redis(port, load);
  if (!redis.Run(kWarmUpSeconds)) return std::nullopt;
  return redis.Run(load.seconds);
}

}  // namespace icepie::bench
