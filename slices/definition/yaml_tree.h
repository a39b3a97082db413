// YAML as a tree that keeps what yaml-cpp's own nodes lose: the place of every key and value,
// duplicate keys, and whether a scalar was quoted. Anchors, aliases and tags are refused, so a
// small file cannot unfold into a large one.
#ifndef ICEPIE_SLICES_DEFINITION_YAML_TREE_H_
#define ICEPIE_SLICES_DEFINITION_YAML_TREE_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "slices/definition/definition.h"

namespace icepie::slices {

struct YamlEntry;

struct YamlNode {
  enum class Kind { kNull, kScalar, kSequence, kMap };
  Kind kind = Kind::kNull;
  FilePlace place;
  size_t offset = 0;    // in the text, in bytes
  bool quoted = false;  // '…', "…", | or >: always text, never a number
  std::string text;     // of a scalar
  std::vector<YamlNode> items;
  std::vector<YamlEntry> entries;  // of a map, in file order

  bool is_map() const { return kind == Kind::kMap; }
  bool is_sequence() const { return kind == Kind::kSequence; }
  bool is_scalar() const { return kind == Kind::kScalar; }
};

struct YamlEntry {
  YamlNode key;
  YamlNode value;
};

// The single document of `yaml`. INVALID_ARGUMENT with `line:column: what` as the message for
// anything that is not one plain document of at most 16 levels.
absl::StatusOr<YamlNode> ParseYaml(absl::string_view yaml);

// Where the characters of a scalar stand in the file: block scalars lose their indentation and
// quoted ones their escapes, so the text is mapped piece by piece.
std::vector<TextRun> MapScalar(absl::string_view yaml, const YamlNode& scalar);

// The 1-based place of byte `offset`.
FilePlace PlaceOf(absl::string_view text, size_t offset);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_DEFINITION_YAML_TREE_H_
