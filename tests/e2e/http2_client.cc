#include "tests/e2e/http2_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace icepie::testing {
namespace {

constexpr absl::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
constexpr size_t kFrameHeaderBytes = 9;

// HPACK (RFC 7541, section 5): an integer after a prefix of 7 bits, a text as it is.
void PutText(const std::string& text, std::string& out) {
  if (text.size() < 127) {
    out.push_back(static_cast<char>(text.size()));
  } else {
    out.push_back(127);
    size_t rest = text.size() - 127;
    for (; rest >= 128; rest >>= 7) out.push_back(static_cast<char>(rest % 128 + 128));
    out.push_back(static_cast<char>(rest));
  }
  out += text;
}

int64_t ReadNumber(const std::string& bytes, size_t at) {
  int64_t number = 0;
  for (size_t i = at; i < at + 4; ++i) number = number << 8 | static_cast<uint8_t>(bytes[i]);
  return number;
}

}  // namespace

Http2Client::Http2Client(const std::string& address) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = htons(static_cast<uint16_t>(std::atoi(address.c_str() + address.rfind(':') + 1)));
  fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd_ < 0) return;
  if (::connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) != 0) {
    ::close(std::exchange(fd_, -1));
    return;
  }
  SendBytes(absl::StrCat(kPreface, Encode({kSettings, 0, 0, ""})));
  if (const auto settings = ReceiveType(kSettings, absl::Seconds(60))) AcceptSettings(*settings);
}

void Http2Client::AcceptSettings(const Http2Frame& settings) {
  constexpr char kInitialWindow = 4;
  for (size_t at = 0; at + 6 <= settings.payload.size(); at += 6) {
    if (settings.payload[at + 1] != kInitialWindow) continue;
    const int64_t window = ReadNumber(settings.payload, at + 2);
    stream_window_ += window - initial_window_;
    initial_window_ = window;
  }
  Send({kSettings, kAck, 0, ""});
}

Http2Client::~Http2Client() {
  if (fd_ >= 0) ::close(fd_);
}

bool Http2Client::SendBytes(absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

bool Http2Client::WaitReadable(absl::Time deadline) const {
  pollfd descriptor{fd_, POLLIN, 0};
  const int64_t left = absl::ToInt64Milliseconds(deadline - absl::Now());
  return left > 0 && ::poll(&descriptor, 1, static_cast<int>(left)) == 1;
}

std::optional<Http2Frame> Http2Client::Receive(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  while (true) {
    if (received_.size() >= kFrameHeaderBytes) {
      const auto* in = reinterpret_cast<const uint8_t*>(received_.data());
      const size_t size = size_t{in[0]} << 16 | size_t{in[1]} << 8 | in[2];
      if (received_.size() >= kFrameHeaderBytes + size) {
        Http2Frame frame{
            in[3], in[4],
            uint32_t{in[5]} << 24 | uint32_t{in[6]} << 16 | uint32_t{in[7]} << 8 | in[8],
            received_.substr(kFrameHeaderBytes, size)};
        received_.erase(0, kFrameHeaderBytes + size);
        return frame;
      }
    }
    if (!WaitReadable(deadline)) return std::nullopt;
    char buffer[65536];
    const ssize_t got = ::recv(fd_, buffer, sizeof(buffer), 0);
    if (got <= 0) return std::nullopt;
    received_.append(buffer, static_cast<size_t>(got));
  }
}

std::optional<Http2Frame> Http2Client::ReceiveType(uint8_t type, absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  while (true) {
    auto frame = Receive(deadline - absl::Now());
    if (!frame || frame->type == type) return frame;
  }
}

bool Http2Client::IsClosedWithin(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  while (WaitReadable(deadline)) {
    char buffer[65536];
    if (::recv(fd_, buffer, sizeof(buffer), 0) <= 0) return true;
  }
  return false;
}

bool Http2Client::Vanish() {
  const int on = 1;
  // What has come is acknowledged.
  if (::setsockopt(fd_, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on)) != 0) return false;
  if (::setsockopt(fd_, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)) != 0) return false;
  ::close(std::exchange(fd_, -1));
  return true;
}

size_t Http2Client::SendData(size_t bytes) {
  constexpr size_t kFrameBytes = 16384;  // the largest that every server takes
  constexpr absl::Duration kStalled = absl::Seconds(2);
  int64_t connection_window = 65535;
  size_t sent = 0;
  while (sent < bytes) {
    const int64_t room = std::min(connection_window, stream_window_);
    if (room > 0) {
      const size_t size = std::min({bytes - sent, kFrameBytes, static_cast<size_t>(room)});
      if (!Send({kData, 0, 1, std::string(size, 'x')})) break;
      sent += size;
      connection_window -= static_cast<int64_t>(size);
      stream_window_ -= static_cast<int64_t>(size);
      continue;
    }
    const auto frame = Receive(kStalled);
    if (!frame || frame->type == kHeaders || frame->type == kRstStream) break;
    if (frame->type == kWindowUpdate) {
      (frame->stream == 0 ? connection_window : stream_window_) += ReadNumber(frame->payload, 0);
    } else if (frame->type == kSettings && (frame->flags & kAck) == 0) {
      AcceptSettings(*frame);
    } else if (frame->type == kPing && (frame->flags & kAck) == 0) {
      Send({kPing, kAck, 0, frame->payload});
    }
  }
  return sent;
}

std::string Http2Client::Encode(const Http2Frame& frame) {
  const size_t size = frame.payload.size();
  const std::string header = {static_cast<char>(size >> 16),
                              static_cast<char>(size >> 8),
                              static_cast<char>(size),
                              static_cast<char>(frame.type),
                              static_cast<char>(frame.flags),
                              static_cast<char>(frame.stream >> 24),
                              static_cast<char>(frame.stream >> 16),
                              static_cast<char>(frame.stream >> 8),
                              static_cast<char>(frame.stream)};
  return header + frame.payload;
}

std::string Http2Client::CallHeaders(const std::string& path,
                                     const std::vector<std::pair<std::string, std::string>>& more) {
  std::vector<std::pair<std::string, std::string>> headers = {
      {":method", "POST"},         {":scheme", "http"}, {":path", path},
      {":authority", "localhost"}, {"te", "trailers"},  {"content-type", "application/grpc"}};
  headers.insert(headers.end(), more.begin(), more.end());
  std::string out;
  for (const auto& [name, value] : headers) {
    out.push_back(0);  // literal, not indexed, with a new name
    PutText(name, out);
    PutText(value, out);
  }
  return out;
}

std::string Http2Client::Message(const std::string& bytes) {
  const size_t size = bytes.size();
  const std::string header = {0, static_cast<char>(size >> 24), static_cast<char>(size >> 16),
                              static_cast<char>(size >> 8), static_cast<char>(size)};
  return header + bytes;
}

}  // namespace icepie::testing
