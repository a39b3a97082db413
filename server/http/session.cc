#include "server/http/session.h"

#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/dispatch.hpp>
#include <boost/beast/core/bind_handler.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/write.hpp>
#include <cerrno>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/http/http_answers.h"

namespace icepie::server {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

constexpr size_t kReadBytes = 4096;
constexpr const char* kIdempotencyKey = "Idempotency-Key";
constexpr absl::Duration kLingerMax = absl::Seconds(1);

std::string Field(const http::request<http::string_body>& request, http::field field) {
  const auto value = request[field];
  return std::string(value.data(), value.size());
}

HttpRequest ToRequest(http::request<http::string_body>& request) {
  HttpRequest out;
  out.method = std::string(request.method_string());
  out.target = std::string(request.target());
  out.host = Field(request, http::field::host);
  out.content_type = Field(request, http::field::content_type);
  out.if_none_match = Field(request, http::field::if_none_match);
  const auto key = request[kIdempotencyKey];
  out.idempotency_key = std::string(key.data(), key.size());
  out.body = std::move(request.body());
  return out;
}

HttpAnswer RefusalOf(const beast::error_code& error, const HttpLimits& limits) {
  if (error == http::error::header_limit) {
    return ProblemAnswer(
        431, "HEADERS_TOO_LARGE",
        absl::StrCat("the header has more than ", limits.header_bytes_max, " bytes"));
  }
  if (error == http::error::body_limit) {
    return ProblemAnswer(413, "BODY_TOO_LARGE",
                         absl::StrCat("the body has more than ", limits.body_bytes_max, " bytes"));
  }
  return ProblemAnswer(400, "REQUEST_INVALID",
                       absl::StrCat("not an HTTP request: ", error.message()));
}

}  // namespace

Session::Session(std::shared_ptr<asio::io_context> context, asio::ip::tcp::socket socket,
                 const Routes& routes, const HttpLimits& limits, Post post,
                 std::function<void(Session*)> ended)
    : context_(std::move(context)),
      stream_(std::move(socket)),
      routes_(routes),
      limits_(limits),
      post_(std::move(post)),
      ended_(std::move(ended)),
      // One request and the beginning of the next; a client that pipelines more waits.
      buffer_(limits.header_bytes_max + limits.body_bytes_max + kReadBytes) {}

Session::~Session() { ended_(this); }

void Session::Start() {
  asio::dispatch(stream_.get_executor(),
                 [self = shared_from_this()] { self->WaitForRequest(self->limits_.read_timeout); });
}

void Session::Close() {
  asio::dispatch(stream_.get_executor(), [self = shared_from_this()] { self->stream_.close(); });
}

void Session::WaitForRequest(absl::Duration timeout) {
  if (buffer_.size() > 0) {
    ReadRequest();
    return;
  }
  stream_.expires_after(absl::ToChronoNanoseconds(timeout));
  stream_.async_read_some(buffer_.prepare(kReadBytes),
                          [self = shared_from_this()](const beast::error_code& error, size_t n) {
                            if (error) return self->Shutdown();
                            self->buffer_.commit(n);
                            self->ReadRequest();
                          });
}

void Session::ReadRequest() {
  parser_.emplace();
  parser_->header_limit(limits_.header_bytes_max);
  parser_->body_limit(limits_.body_bytes_max);
  stream_.expires_after(absl::ToChronoNanoseconds(limits_.read_timeout));
  http::async_read(
      stream_, buffer_, *parser_,
      [self = shared_from_this()](const beast::error_code& error, size_t) { self->OnRead(error); });
}

void Session::OnRead(const beast::error_code& error) {
  if (!error) {
    Answer();
  } else if (error.category() == http::make_error_code(http::error::bad_target).category() &&
             error != http::error::end_of_stream && error != http::error::partial_message) {
    Refuse(error);
  } else {
    Shutdown();  // the client went away or was too slow
  }
}

void Session::Refuse(const beast::error_code& error) {
  head_only_ = false;
  refused_ = true;
  Write(RefusalOf(error, limits_), false);
}

void Session::Answer() {
  http::request<http::string_body> request = parser_->release();
  head_only_ = request.method() == http::verb::head;
  const bool keep_alive = request.keep_alive();
  if (request.target().size() > limits_.target_bytes_max) {
    Write(ProblemAnswer(414, "TARGET_TOO_LONG",
                        absl::StrCat("the target has more than ", limits_.target_bytes_max,
                                     " bytes; POST a query instead")),
          keep_alive);
    return;
  }
  // Two readers of such a request may each believe another host (RFC 9112 section 3.2).
  if (request.count(http::field::host) > 1 || request.count(kIdempotencyKey) > 1) {
    Write(ProblemAnswer(400, "REQUEST_INVALID",
                        "the request has more than one Host or Idempotency-Key"),
          false);
    return;
  }
  stream_.expires_never();  // the router keeps its own deadline
  WatchClient(routes_.Handle(
      ToRequest(request), [self = shared_from_this(), keep_alive](HttpAnswer answer) {
        self->post_(self->stream_.get_executor(),
                    [self, keep_alive, answer = std::move(answer)]() mutable {
                      self->Write(std::move(answer), keep_alive);
                    });
      }));
}

// Takes nothing from the socket: what else the client sends already is its next request, and says
// that it was there. An end behind that is not seen.
void Session::WatchClient(QueryRouter::CallOff call_off) {
  if (!call_off) return;
  stream_.socket().async_wait(
      asio::ip::tcp::socket::wait_read,
      [self = shared_from_this(), call_off = std::move(call_off)](const beast::error_code& error) {
        if (error) return;
        char byte = 0;
        const ssize_t peeked = ::recv(self->stream_.socket().native_handle(), &byte, sizeof(byte),
                                      MSG_PEEK | MSG_DONTWAIT);
        const bool gone = peeked == 0 || (peeked < 0 && errno != EAGAIN && errno != EINTR);
        if (gone) call_off();
      });
}

void Session::Write(HttpAnswer answer, bool keep_alive) {
  response_ = StringResponse(static_cast<http::status>(answer.status), 11);
  response_.set(http::field::server, "icepie");
  for (const auto& [name, value] : answer.headers) response_.set(name, value);
  if (!answer.content_type.empty()) {
    response_.set(http::field::content_type, answer.content_type);
    response_.set("X-Content-Type-Options", "nosniff");
  }
  response_.keep_alive(keep_alive);
  if (answer.status != 304) response_.content_length(answer.body.size());
  if (!head_only_) response_.body() = std::move(answer.body);
  hold_ = std::move(answer.hold);
  stream_.expires_after(absl::ToChronoNanoseconds(limits_.write_timeout));
  http::async_write(
      stream_, response_,
      [self = shared_from_this(), keep_alive](const beast::error_code& error, size_t) {
        self->OnWritten(error, keep_alive);
      });
}

void Session::OnWritten(const beast::error_code& error, bool keep_alive) {
  response_ = {};
  hold_.reset();
  if (!error && refused_) return Linger();
  if (error || !keep_alive) return Shutdown();
  WaitForRequest(limits_.idle_timeout);
}

void Session::Linger() {
  beast::error_code ignored;
  stream_.socket().shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  stream_.expires_after(absl::ToChronoNanoseconds(std::min(limits_.read_timeout, kLingerMax)));
  Discard();
}

void Session::Discard() {
  buffer_.clear();
  stream_.async_read_some(buffer_.prepare(kReadBytes),
                          [self = shared_from_this()](const beast::error_code& error, size_t) {
                            if (error) return self->Shutdown();
                            self->Discard();
                          });
}

void Session::Shutdown() {
  beast::error_code ignored;
  stream_.socket().shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  stream_.close();
}

}  // namespace icepie::server
