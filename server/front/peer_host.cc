#include "server/front/peer_host.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"

namespace icepie::server {
namespace {

constexpr size_t kNetworkBytes = 8;

template <typename T>
std::string BytesOf(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

Peer PeerOf4(const std::string& address, in_port_t port) {
  return {address, address + BytesOf(port)};
}

Peer PeerOf6(const in6_addr& address, in_port_t port) {
  const std::string bytes = BytesOf(address);
  if (IN6_IS_ADDR_V4MAPPED(&address)) return PeerOf4(bytes.substr(12), port);
  return {bytes.substr(0, kNetworkBytes), bytes + BytesOf(port)};
}

}  // namespace

Peer PeerOf(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    return PeerOf4(BytesOf(v4.sin_addr), v4.sin_port);
  }
  if (address.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    return PeerOf6(v6.sin6_addr, v6.sin6_port);
  }
  return {};
}

Peer PeerOf(absl::string_view grpc_peer) {
  const bool is_4 = absl::ConsumePrefix(&grpc_peer, "ipv4:");
  if (!is_4 && !absl::ConsumePrefix(&grpc_peer, "ipv6:")) return {};
  const size_t colon = grpc_peer.rfind(':');
  int port = 0;
  if (colon == absl::string_view::npos || !absl::SimpleAtoi(grpc_peer.substr(colon + 1), &port)) {
    return {};
  }
  const std::string text = absl::StrReplaceAll(grpc_peer.substr(0, colon),
                                               {{"%5B", ""}, {"%5D", ""}, {"[", ""}, {"]", ""}});
  if (is_4) {
    in_addr address{};
    return ::inet_pton(AF_INET, text.c_str(), &address) == 1
               ? PeerOf4(BytesOf(address), htons(static_cast<in_port_t>(port)))
               : Peer{};
  }
  in6_addr address{};
  // A link-local address has its interface behind it.
  const std::string plain = text.substr(0, text.find('%'));
  return ::inet_pton(AF_INET6, plain.c_str(), &address) == 1
             ? PeerOf6(address, htons(static_cast<in_port_t>(port)))
             : Peer{};
}

}  // namespace icepie::server
