// A worker's feed that takes its first piece, says so, and goes no further.
#include <unistd.h>

#include <cstdio>
#include <memory>

#include "server/worker/tail_client.h"

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  icepie::server::TailClient feed(*icepie::server::ConnectToHost(argv[1]), argv[2]);
  const auto reader = feed.Open({"a", "b"}, 0, std::nullopt);
  const auto piece = reader->Next();
  if (!piece.ok() || !piece->has_value()) return 1;
  std::printf("%lld\n", static_cast<long long>((*piece)->complete_position));
  std::fflush(stdout);
  while (true) ::pause();
}
