// Who is at the other end of a connection, as far as an address tells it.
#ifndef ICEPIE_SERVER_FRONT_PEER_HOST_H_
#define ICEPIE_SERVER_FRONT_PEER_HOST_H_

#include <sys/socket.h>

#include <string>

#include "absl/strings/string_view.h"

namespace icepie::server {

// Empty strings for everything but IPv4 and IPv6.
struct Peer {
  // Which machine: the IPv4 address, 4 bytes; of an IPv6 address the first 8, since one machine has
  // as many of the rest as it likes (RFC 4291, section 2.5.1).
  std::string host;
  std::string endpoint;  // which connection: the whole address and the port
};

Peer PeerOf(const sockaddr_storage& address);

// The same from what gRPC calls a peer: "ipv4:192.0.2.1:40123", "ipv6:%5B2001:db8::1%5D:40123".
Peer PeerOf(absl::string_view grpc_peer);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_FRONT_PEER_HOST_H_
