#include "tests/bench/slice_bench.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

namespace icepie::slices {

void Check(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::exit(1);
}

RecordBlocks NexmarkBlocks(NexmarkGenerator& generator, int64_t count) {
  constexpr int64_t kBlock = 2000;
  RecordBlocks blocks;
  for (int64_t done = 0; done < count; done += kBlock) {
    for (auto& [stream, payloads] : generator.Next(std::min(kBlock, count - done))) {
      blocks.push_back({stream, std::move(payloads)});
    }
  }
  return blocks;
}

std::string NexmarkDomain() {
  constexpr char kPath[] = "tests/slices/nexmark/nexmark.yaml";
  std::ifstream file(kPath);
  if (!file.good()) Check(absl::NotFoundError(kPath));
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace icepie::slices
