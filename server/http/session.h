// One connection: reads a request, has it answered, writes the answer, and so on, never two at
// once. Pipelined requests wait in the buffer.
#ifndef ICEPIE_SERVER_HTTP_SESSION_H_
#define ICEPIE_SERVER_HTTP_SESSION_H_

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <functional>
#include <memory>
#include <optional>

#include "server/http/http_message.h"
#include "server/http/http_server.h"
#include "server/http/routes.h"

namespace icepie::server {

// Threads: its own strand; Start, Close: any.
// Lifetime: it lives as long as an operation of it does. `Post` is how answers from other threads
// come back: it must drop what comes after the server's end.
class Session : public std::enable_shared_from_this<Session> {
 public:
  using Post = std::function<void(boost::asio::any_io_executor, std::function<void()>)>;

  // `context` is kept alive until the last session is gone. `ended` is called once, at the end.
  Session(std::shared_ptr<boost::asio::io_context> context, boost::asio::ip::tcp::socket socket,
          const Routes& routes, const HttpLimits& limits, Post post,
          std::function<void(Session*)> ended);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  void Start();
  // Ends the connection whatever it is doing.
  void Close();

 private:
  using StringResponse = boost::beast::http::response<boost::beast::http::string_body>;

  void WaitForRequest(absl::Duration timeout);
  void ReadRequest();
  void OnRead(const boost::beast::error_code& error);
  void Refuse(const boost::beast::error_code& error);
  void Answer();
  // Whether the client is still there while its answer is made. One that has closed its half only
  // looks the same, and counts as gone.
  void WatchClient(QueryRouter::CallOff call_off);
  void Write(HttpAnswer answer, bool keep_alive);
  void OnWritten(const boost::beast::error_code& error, bool keep_alive);
  // Takes what a refused client still sends, for a while: closing at once would reset the
  // connection and the client might never see why.
  void Linger();
  void Discard();
  void Shutdown();

  const std::shared_ptr<boost::asio::io_context> context_;
  boost::beast::tcp_stream stream_;
  const Routes& routes_;
  const HttpLimits limits_;
  const Post post_;
  const std::function<void(Session*)> ended_;
  boost::beast::flat_buffer buffer_;
  std::optional<boost::beast::http::request_parser<boost::beast::http::string_body>> parser_;
  StringResponse response_;
  std::shared_ptr<const void> hold_;  // of response_
  bool head_only_ = false;
  bool refused_ = false;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_HTTP_SESSION_H_
