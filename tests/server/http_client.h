// A client for tests of HTTP: raw bytes out, parsed answers back, every wait bounded.
#ifndef ICEPIE_TESTS_SERVER_HTTP_CLIENT_H_
#define ICEPIE_TESTS_SERVER_HTTP_CLIENT_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdlib>
#include <map>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace icepie::server {

struct ClientAnswer {
  int status = 0;                              // 0: the connection ended without an answer
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
};

class HttpClient {
 public:
  explicit HttpClient(int port, int timeout_seconds = 60) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    timeval timeout{timeout_seconds, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~HttpClient() { close(fd_); }
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  bool connected() const { return connected_; }

  // False when the other side has closed.
  bool Send(const std::string& bytes) {
    return send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(bytes.size());
  }

  ClientAnswer Ask(const std::string& request, bool is_head = false) {
    Send(request);
    return Read(is_head);
  }

  // GET with the headers that a browser sends.
  ClientAnswer Get(const std::string& target, const std::string& more_headers = "") {
    return Ask("GET " + target + " HTTP/1.1\r\nHost: localhost\r\n" + more_headers + "\r\n");
  }

  ClientAnswer Post(const std::string& target, const std::string& body,
                    const std::string& content_type = "application/json",
                    const std::string& more_headers = "") {
    return Ask("POST " + target +
               " HTTP/1.1\r\nHost: 127.0.0.1:80\r\nContent-Type: " + content_type + "\r\n" +
               more_headers + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  }

  ClientAnswer Read(bool is_head = false) {
    ClientAnswer answer;
    size_t end = std::string::npos;
    while ((end = buffer_.find("\r\n\r\n")) == std::string::npos) {
      if (!Receive()) return answer;
    }
    const std::vector<std::string> lines = absl::StrSplit(buffer_.substr(0, end), "\r\n");
    answer.status = std::atoi(lines[0].substr(9).c_str());
    for (size_t i = 1; i < lines.size(); ++i) {
      const size_t colon = lines[i].find(": ");
      answer.headers[absl::AsciiStrToLower(lines[i].substr(0, colon))] = lines[i].substr(colon + 2);
    }
    buffer_.erase(0, end + 4);
    size_t length = 0;
    const bool has_body = !is_head && answer.status != 304 &&
                          absl::SimpleAtoi(answer.headers["content-length"], &length);
    if (!has_body) return answer;
    while (buffer_.size() < length && Receive()) {
    }
    answer.body = buffer_.substr(0, length);
    buffer_.erase(0, length);
    return answer;
  }

  // Whether the other side has closed, or closes within the client's timeout.
  bool WaitForClose() {
    while (Receive()) {
    }
    return closed_;
  }

 private:
  bool Receive() {
    char bytes[4096];
    const ssize_t count = recv(fd_, bytes, sizeof(bytes), 0);
    if (count > 0) buffer_.append(bytes, static_cast<size_t>(count));
    closed_ = count == 0 || (count < 0 && errno == ECONNRESET);
    return count > 0;
  }

  const int fd_;
  bool connected_ = false;
  bool closed_ = false;
  std::string buffer_;
};

}  // namespace icepie::server

#endif  // ICEPIE_TESTS_SERVER_HTTP_CLIENT_H_
