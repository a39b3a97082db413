#include "server/front/peer_host.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cstring>

#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"

namespace icepie::server {
namespace {

constexpr size_t kNetworkBytes = 8;

std::string HostOf4(const in_addr& address) {
  return {reinterpret_cast<const char*>(&address), sizeof(address)};
}

std::string HostOf6(const in6_addr& address) {
  const auto* bytes = reinterpret_cast<const char*>(&address);
  if (IN6_IS_ADDR_V4MAPPED(&address)) return {bytes + 12, 4};
  return {bytes, kNetworkBytes};
}

}  // namespace

std::string HostOf(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    return HostOf4(reinterpret_cast<const sockaddr_in*>(&address)->sin_addr);
  }
  if (address.ss_family == AF_INET6) {
    return HostOf6(reinterpret_cast<const sockaddr_in6*>(&address)->sin6_addr);
  }
  return "";
}

std::string HostOfPeer(absl::string_view peer) {
  const bool is_4 = absl::ConsumePrefix(&peer, "ipv4:");
  if (!is_4 && !absl::ConsumePrefix(&peer, "ipv6:")) return "";
  const std::string text = absl::StrReplaceAll(peer.substr(0, peer.rfind(':')),
                                               {{"%5B", ""}, {"%5D", ""}, {"[", ""}, {"]", ""}});
  if (is_4) {
    in_addr address{};
    return ::inet_pton(AF_INET, text.c_str(), &address) == 1 ? HostOf4(address) : "";
  }
  in6_addr address{};
  // A link-local address has its interface behind it.
  const std::string plain = text.substr(0, text.find('%'));
  return ::inet_pton(AF_INET6, plain.c_str(), &address) == 1 ? HostOf6(address) : "";
}

}  // namespace icepie::server
