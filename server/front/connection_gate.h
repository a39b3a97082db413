// Accepts the connections of a gRPC server and hands them to it, so that their number is bounded:
// gRPC itself accepts whatever comes, and each connection costs memory and a file descriptor.
#ifndef ICEPIE_SERVER_FRONT_CONNECTION_GATE_H_
#define ICEPIE_SERVER_FRONT_CONNECTION_GATE_H_

#include <grpcpp/server_builder.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/base/event_loop.h"
#include "server/front/empty_visits.h"
#include "server/front/frame_flood.h"
#include "server/front/peer_host.h"

namespace icepie::server {

// A connection too many gets an HTTP/2 GOAWAY with ENHANCE_YOUR_CALM and the word CONNECTION_LIMIT,
// which gRPC clients report as UNAVAILABLE and try again.
// Threads: any; it has one of its own.
// Lifetime: Stop comes before the server's shutdown. The server closes its connections itself.
class ConnectionGate {
 public:
  struct Limits {
    int connections_max = 0;
    // When the system asks a silent connection's other end whether it is still there, and how long
    // that has to answer. Full seconds, at least one.
    absl::Duration keepalive;
    absl::Duration keepalive_timeout;
  };
  // Listens on `address` ("127.0.0.1:7420", "[::1]:0", "localhost:0"). UNAVAILABLE/PORT_TAKEN.
  static absl::StatusOr<std::unique_ptr<ConnectionGate>> Listen(const std::string& address,
                                                                const Limits& limits);
  ~ConnectionGate();
  ConnectionGate(const ConnectionGate&) = delete;
  ConnectionGate& operator=(const ConnectionGate&) = delete;

  int port() const { return port_; }

  // From now on connections go to `acceptor`, whose server has been started.
  void Start(std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor);
  // Ends each connection whose bytes that gRPC has not read yet open and reset calls one after the
  // other, and little else. Those with more resets unread than calls may be open, and those with
  // more pings or frames that carry nothing than anybody sends, it finds by itself.
  void CutOffResetFloods();
  // Who floods comes again at once, and each time costs what gRPC has read by then: further
  // connections of that host (server/front/peer_host.h) wait for `for_time`, and then come in one
  // after the other. Those that are open go on.
  void LetWait(const std::string& host, absl::Duration for_time = kWait);
  // A call came from that peer, as gRPC writes it. Who connects again and again and makes none has
  // to wait as well (server/front/empty_visits.h).
  void OnCall(absl::string_view grpc_peer);
  bool WantsCalls() const { return visits_.HasNew(); }
  // Accepts nothing any more. Idempotent.
  void Stop();

  static constexpr absl::Duration kWait = absl::Seconds(5);

  // Connections that were turned away.
  int64_t refused_count() const { return refused_count_.load(); }

 private:
  // Which socket a descriptor was: the server closes it, and the number is used again.
  struct Connection {
    int fd;
    uint64_t inode;
    Peer peer;
  };

  // Accepted, and not yet handed over.
  struct Waiting {
    int fd;
    Peer peer;
  };

  ConnectionGate(int listener, int port, int connections_max)
      : listener_(listener), port_(port), connections_max_(connections_max) {}

  void Watch();
  void Pause(absl::Duration duration);
  void AcceptAll();
  void OnGone(const Connection& connection);
  void BeginWait(const std::string& host, absl::Duration for_time, absl::string_view why);
  bool MustWait(const std::string& host) const;
  void Wait(int fd, Peer peer);
  void AdmitWaiting();
  void Admit(int fd, Peer peer);
  bool IsFull();
  void LookForFloods();
  void CutOffFlood(const Connection& connection, bool flooded);
  absl::string_view UnreadFlood(int fd, bool flooded);

  const int listener_;
  const int port_;
  const size_t connections_max_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor_;
  std::vector<Connection> connections_;            // the loop's own; closed ones until looked for
  absl::Time looked_time_ = absl::InfinitePast();  // the loop's own
  size_t next_look_ = 0;                           // the loop's own
  bool paused_ = false;                            // the loop's own
  bool looking_ = false;                           // the loop's own
  std::vector<char> unread_ = std::vector<char>(kFrameFloodBytesMax);  // the loop's own
  absl::flat_hash_map<std::string, absl::Time> waits_until_;           // the loop's own
  std::vector<Waiting> waiting_;  // the loop's own; in the order of their coming
  EmptyVisits visits_;
  std::atomic<int64_t> refused_count_{0};
  EventLoop loop_;  // last: it uses everything above
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_FRONT_CONNECTION_GATE_H_
