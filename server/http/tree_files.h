// The core's Merkle tree as C2SP tlog-tiles serves it: /checkpoint,
// /tile/<level>/<index>[.p/<width>] and /tile/entries/<index>[.p/<width>], for other people's
// verifiers and mirrors.
#ifndef ICEPIE_SERVER_HTTP_TREE_FILES_H_
#define ICEPIE_SERVER_HTTP_TREE_FILES_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/http/http_message.h"

namespace icepie::server {

// Where the bytes come from. Threads: any.
struct TreeFiles {
  std::function<absl::StatusOr<std::string>()> checkpoint;
  std::function<absl::StatusOr<std::string>(int level, int64_t tile, int width)> tile;
  std::function<absl::StatusOr<std::string>(int64_t tile, int width)> entries;
};

bool IsTreePath(const std::vector<std::string>& segments);

// `segments` are a tree path. 404 for a tile that is not there or a path of another form.
HttpAnswer TreeAnswer(const TreeFiles& tree, const std::vector<std::string>& segments);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_HTTP_TREE_FILES_H_
