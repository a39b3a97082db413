#include "server/http/tree_files.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/types/span.h"
#include "server/http/http_answers.h"

namespace icepie::server {
namespace {

using Segments = absl::Span<const std::string>;

constexpr int kFullWidth = 256;
constexpr size_t kIndexElementsMax = 6;  // 10^18 tiles
constexpr int kLevelMax = 63;

bool IsDigits(absl::string_view text, size_t size) {
  return text.size() == size && std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
}

// A decimal number without leading zeroes.
std::optional<int> ParseNumber(absl::string_view text, int max) {
  int number = 0;
  if (text.empty() || text.size() > 3 || (text.size() > 1 && text[0] == '0') ||
      !IsDigits(text, text.size()) || !absl::SimpleAtoi(text, &number) || number > max) {
    return std::nullopt;
  }
  return number;
}

struct TileName {
  int64_t index = 0;
  int width = kFullWidth;
};

// {"x001", "x234", "067"}, or {…, "067.p", "112"}.
std::optional<TileName> ParseTileName(Segments segments) {
  TileName name;
  if (segments.size() >= 2 && absl::EndsWith(segments[segments.size() - 2], ".p")) {
    const std::optional<int> width = ParseNumber(segments.back(), kFullWidth - 1);
    if (!width || *width == 0) return std::nullopt;
    name.width = *width;
    segments.remove_suffix(1);
  }
  if (segments.empty() || segments.size() > kIndexElementsMax) return std::nullopt;
  for (size_t i = 0; i < segments.size(); ++i) {
    absl::string_view element = segments[i];
    const bool is_last = i + 1 == segments.size();
    if (is_last && name.width != kFullWidth && !absl::ConsumeSuffix(&element, ".p")) {
      return std::nullopt;
    }
    if (!is_last && !absl::ConsumePrefix(&element, "x")) return std::nullopt;
    int digits = 0;
    if (!IsDigits(element, 3) || !absl::SimpleAtoi(element, &digits)) return std::nullopt;
    if (i == 0 && segments.size() > 1 && digits == 0)
      return std::nullopt;  // one name for each tile
    name.index = name.index * 1000 + digits;
  }
  return name;
}

HttpAnswer NoSuchTile() {
  return ProblemAnswer(
      404, "TILE_NOT_FOUND",
      "no such tile; they are /tile/<level>/<index> and /tile/entries/<index>, the "
      "index in groups of three digits as in x001/x234/067, .p/<width> behind it "
      "for one that is not full");
}

// A tile never changes once it is there: `body` may be kept for ever.
HttpAnswer Immutable(absl::StatusOr<std::string> body) {
  if (!body.ok()) return ProblemAnswer(body.status());
  return {200,
          "application/octet-stream",
          std::move(body).value(),
          {{"Cache-Control", "public, max-age=31536000, immutable"}}};
}

HttpAnswer CheckpointAnswer(absl::StatusOr<std::string> note) {
  if (!note.ok()) return ProblemAnswer(note.status());
  return {
      200, "text/plain; charset=utf-8", std::move(note).value(), {{"Cache-Control", "no-cache"}}};
}

}  // namespace

bool IsTreePath(const std::vector<std::string>& segments) {
  return segments == std::vector<std::string>{"checkpoint"} ||
         (segments.size() >= 3 && segments[0] == "tile");
}

HttpAnswer TreeAnswer(const TreeFiles& tree, const std::vector<std::string>& segments) {
  if (segments[0] == "checkpoint") return CheckpointAnswer(tree.checkpoint());
  const std::optional<TileName> name = ParseTileName(Segments(segments).subspan(2));
  if (!name) return NoSuchTile();
  if (segments[1] == "entries") return Immutable(tree.entries(name->index, name->width));
  const std::optional<int> level = ParseNumber(segments[1], kLevelMax);
  if (!level) return NoSuchTile();
  return Immutable(tree.tile(*level, name->index, name->width));
}

}  // namespace icepie::server
