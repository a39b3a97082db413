// A client of HTTP/2 that does what no proper one does: frames as a test writes them, on a socket.
#ifndef ICEPIE_TESTS_E2E_HTTP2_CLIENT_H_
#define ICEPIE_TESTS_E2E_HTTP2_CLIENT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace icepie::testing {

struct Http2Frame {
  uint8_t type = 0;
  uint8_t flags = 0;
  uint32_t stream = 0;
  std::string payload;
};

// Frame types and flags of RFC 9113.
inline constexpr uint8_t kData = 0;
inline constexpr uint8_t kHeaders = 1;
inline constexpr uint8_t kPriority = 2;
inline constexpr uint8_t kRstStream = 3;
inline constexpr uint8_t kSettings = 4;
inline constexpr uint8_t kPing = 6;
inline constexpr uint8_t kGoAway = 7;
inline constexpr uint8_t kWindowUpdate = 8;
inline constexpr uint8_t kContinuation = 9;
inline constexpr uint8_t kAck = 1;  // of SETTINGS and PING
inline constexpr uint8_t kEndStream = 1;
inline constexpr uint8_t kEndHeaders = 4;

// Threads: one.
// Lifetime: the destructor closes the connection.
class Http2Client {
 public:
  // `address` is 127.0.0.1:port. Sends the preface and empty SETTINGS and acknowledges the
  // server's: gRPC holds a client to its limits only from then on.
  explicit Http2Client(const std::string& address);
  ~Http2Client();
  Http2Client(Http2Client&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)),
        received_(std::move(other.received_)),
        initial_window_(other.initial_window_),
        stream_window_(other.stream_window_) {}
  Http2Client(const Http2Client&) = delete;
  Http2Client& operator=(const Http2Client&) = delete;
  Http2Client& operator=(Http2Client&&) = delete;

  bool connected() const { return fd_ >= 0; }

  // False when the connection is closed.
  bool Send(const Http2Frame& frame) { return SendBytes(Encode(frame)); }
  bool SendBytes(absl::string_view bytes);

  // The next frame; nullopt when the connection is closed or nothing comes in time.
  std::optional<Http2Frame> Receive(absl::Duration timeout);
  // Takes frames until one of `type` comes.
  std::optional<Http2Frame> ReceiveType(uint8_t type, absl::Duration timeout);
  // Takes what comes, and answers none of it, until the server has closed the connection.
  bool IsClosedWithin(absl::Duration timeout);
  // The connection is forgotten here without a word to the server, as where a machine is switched
  // off. False: that takes a privilege.
  bool Vanish();

  // Sends `bytes` as DATA of stream 1, as fast as the server's flow control allows; what it sent
  // when all is gone, the server ended the call or the connection, or it takes no more for 2 s.
  size_t SendData(size_t bytes);

  static std::string Encode(const Http2Frame& frame);
  // The headers of a gRPC call to "/icepie.v1.Core/GetStream", uncompressed, and more.
  static std::string CallHeaders(const std::string& path,
                                 const std::vector<std::pair<std::string, std::string>>& more = {});
  // A message as gRPC frames it.
  static std::string Message(const std::string& bytes);

 private:
  void AcceptSettings(const Http2Frame& settings);
  // Whether something can be read by then.
  bool WaitReadable(absl::Time deadline) const;

  int fd_ = -1;
  std::string received_;            // and not yet taken
  int64_t initial_window_ = 65535;  // of a stream that is opened
  int64_t stream_window_ = 65535;   // of stream 1
};

}  // namespace icepie::testing

#endif  // ICEPIE_TESTS_E2E_HTTP2_CLIENT_H_
