#include "server/http/http_server.h"

#include <spdlog/spdlog.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <chrono>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/mutex.h"
#include "core/base/status.h"
#include "server/http/routes.h"
#include "server/http/session.h"

namespace icepie::server {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr int kThreads = 2;
// What a connection too many gets; it is written without waiting, so it is one small packet.
std::string Overloaded() {
  constexpr absl::string_view kBody =
      "{\"status\":503,\"reason\":\"CONNECTION_LIMIT\",\"detail\":\"too many connections are open; "
      "close some or wait\"}\n";
  return absl::StrCat("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n",
                      "Content-Type: application/problem+json\r\nContent-Length: ", kBody.size(),
                      "\r\n\r\n", kBody);
}

absl::StatusOr<tcp::endpoint> ParseAddress(const std::string& address) {
  const absl::Status invalid = absl::InvalidArgumentError(
      absl::StrCat("\"", address, "\" is no address to listen on; give one as 127.0.0.1:7421"));
  const size_t colon = address.rfind(':');
  int port = 0;
  if (colon == std::string::npos || !absl::SimpleAtoi(address.substr(colon + 1), &port) ||
      port < 0 || port > 65535) {
    return invalid;
  }
  std::string host = address.substr(0, colon);
  if (host == "localhost") host = "127.0.0.1";
  if (host == "[::1]") host = "::1";
  error_code error;
  const auto parsed = asio::ip::make_address(host, error);
  if (error) return invalid;
  return tcp::endpoint(parsed, static_cast<uint16_t>(port));
}

}  // namespace

class HttpServer::Listener {
 public:
  Listener(QueryRouter& router, StatusSource status, TreeFiles tree, AppendSink append,
           const HttpLimits& limits)
      : limits_(limits),
        routes_(router, std::move(status), std::move(tree), std::move(append),
                limits.query_timeout),
        shared_(std::make_shared<Shared>()) {}

  absl::Status Listen(const std::string& address) {
    ICEPIE_ASSIGN_OR_RETURN(const tcp::endpoint endpoint, ParseAddress(address));
    error_code error;
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (error) {
      return absl::UnavailableError(
          absl::StrCat("cannot listen on ", address, " for HTTP: ", error.message()));
    }
    port_ = acceptor_.local_endpoint().port();
    Accept();
    for (int i = 0; i < kThreads; ++i) {
      threads_.emplace_back([context = shared_->context] { context->run(); });
    }
    return absl::OkStatus();
  }

  int port() const { return port_; }

  void Drain() { routes_.Drain(); }

  void Stop() {
    {
      MutexLock lock(shared_->mutex);
      if (shared_->stopped) return;
      shared_->stopped = true;
    }
    asio::post(strand_, [this] {
      error_code ignored;
      acceptor_.close(ignored);
      retry_.cancel();
    });
    for (const auto& session : OpenSessions()) session->Close();
    work_.reset();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  // Outlives the listener for as long as the router owes an answer.
  struct Shared {
    std::shared_ptr<asio::io_context> context = std::make_shared<asio::io_context>(kThreads);
    Mutex mutex;
    bool stopped ABSL_GUARDED_BY(mutex) = false;
    std::map<Session*, std::weak_ptr<Session>> sessions ABSL_GUARDED_BY(mutex);
  };

  std::vector<std::shared_ptr<Session>> OpenSessions() {
    std::vector<std::shared_ptr<Session>> open;
    MutexLock lock(shared_->mutex);
    for (const auto& [key, session] : shared_->sessions) {
      if (auto alive = session.lock()) open.push_back(std::move(alive));
    }
    return open;
  }

  void Accept() {
    acceptor_.async_accept(
        asio::make_strand(*shared_->context),
        asio::bind_executor(strand_, [this](error_code error, tcp::socket socket) {
          OnAccept(error, std::move(socket));
        }));
  }

  void OnAccept(error_code error, tcp::socket socket) {
    if (!acceptor_.is_open()) return;
    if (!error) {
      Serve(std::move(socket));
      Accept();
      return;
    }
    // Most likely no file descriptor is left: wait instead of spinning.
    spdlog::warn("http: accepting a connection failed: {}", error.message());
    retry_.expires_after(std::chrono::milliseconds(100));
    retry_.async_wait(asio::bind_executor(strand_, [this](error_code cancelled) {
      if (!cancelled && acceptor_.is_open()) Accept();
    }));
  }

  void Serve(tcp::socket socket) {
    error_code ignored;
    socket.set_option(tcp::no_delay(true), ignored);  // else pipelined answers wait 40 ms
    auto shared = shared_;
    auto ended = [shared](Session* session) {
      MutexLock lock(shared->mutex);
      shared->sessions.erase(session);
    };
    auto post = [shared](const asio::any_io_executor& executor, std::function<void()> work) {
      MutexLock lock(shared->mutex);
      if (!shared->stopped) asio::post(executor, std::move(work));
    };
    {
      MutexLock lock(shared_->mutex);
      if (static_cast<int>(shared_->sessions.size()) >= limits_.connections_max) {
        Turn(std::move(socket));
        return;
      }
    }
    auto session = std::make_shared<Session>(shared_->context, std::move(socket), routes_, limits_,
                                             std::move(post), std::move(ended));
    {
      MutexLock lock(shared_->mutex);
      if (shared_->stopped) return;  // Stop has closed all that it knew of
      shared_->sessions[session.get()] = session;
    }
    session->Start();
  }

  // Says why in one packet, without waiting for the client.
  static void Turn(tcp::socket socket) {
    error_code ignored;
    socket.non_blocking(true, ignored);
    socket.write_some(asio::buffer(Overloaded()), ignored);
    socket.shutdown(tcp::socket::shutdown_send, ignored);
  }

  const HttpLimits limits_;
  Routes routes_;
  const std::shared_ptr<Shared> shared_;
  asio::strand<asio::io_context::executor_type> strand_{shared_->context->get_executor()};
  tcp::acceptor acceptor_{*shared_->context};
  asio::steady_timer retry_{*shared_->context};
  asio::executor_work_guard<asio::io_context::executor_type> work_{
      shared_->context->get_executor()};
  int port_ = 0;
  std::vector<std::thread> threads_;
};

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const std::string& address,
                                                              QueryRouter& router,
                                                              StatusSource status, TreeFiles tree,
                                                              AppendSink append,
                                                              const HttpLimits& limits) {
  auto listener = std::make_unique<Listener>(router, std::move(status), std::move(tree),
                                             std::move(append), limits);
  ICEPIE_RETURN_IF_ERROR(listener->Listen(address));
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(listener)));
}

HttpServer::HttpServer(std::unique_ptr<Listener> listener) : listener_(std::move(listener)) {}

HttpServer::~HttpServer() { Stop(); }

int HttpServer::port() const { return listener_->port(); }

void HttpServer::Drain() { listener_->Drain(); }

void HttpServer::Stop() { listener_->Stop(); }

}  // namespace icepie::server
