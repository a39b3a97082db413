#include "slices/definition/yaml_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace icepie::slices {
namespace {

constexpr size_t kYamlDepthMax = 16;

// Leaves yaml-cpp's parser from within an event; caught in ParseYaml.
class Refused : public std::runtime_error {
 public:
  Refused(const YAML::Mark& mark, const std::string& what)
      : std::runtime_error(absl::StrCat(mark.line + 1, ":", mark.column + 1, ": ", what)) {}
};

class TreeBuilder : public YAML::EventHandler {
 public:
  YamlNode Take() { return std::move(root_); }
  bool has_document() const { return documents_ > 0; }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) throw Refused(mark, "a second document (`---`): one domain per file");
  }
  void OnDocumentEnd() override {}
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    throw Refused(mark, "an alias (*name) is not allowed here: write the value out");
  }
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Add(Make(YamlNode::Kind::kNull, mark, "", anchor));
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    YamlNode node = Make(YamlNode::Kind::kScalar, mark, tag, anchor);
    node.quoted = tag == "!";
    node.text = value;
    Add(std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Open(Make(YamlNode::Kind::kSequence, mark, tag, anchor));
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Open(Make(YamlNode::Kind::kMap, mark, tag, anchor));
  }
  void OnMapEnd() override { Close(); }

 private:
  // A collection that is still being filled; a map's key waits in `key` for its value.
  struct Frame {
    YamlNode node;
    YamlNode key;
    bool has_key = false;
  };

  static YamlNode Make(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag,
                       YAML::anchor_t anchor) {
    if (anchor != 0) throw Refused(mark, "an anchor (&name) is not allowed here");
    if (!tag.empty() && tag != "?" && tag != "!") {
      throw Refused(mark, absl::StrCat("the tag ", tag, " is not allowed here"));
    }
    YamlNode node;
    node.kind = kind;
    node.place = {mark.line + 1, mark.column + 1};
    node.offset = static_cast<size_t>(std::max(mark.pos, 0));
    return node;
  }

  void Open(YamlNode node) {
    if (stack_.size() >= kYamlDepthMax) {
      throw std::runtime_error(absl::StrCat(node.place.line, ":", node.place.column,
                                            ": nested deeper than ", kYamlDepthMax, " levels"));
    }
    stack_.push_back(Frame{std::move(node), {}, false});
  }

  void Close() {
    YamlNode node = std::move(stack_.back().node);
    stack_.pop_back();
    Add(std::move(node));
  }

  void Add(YamlNode node) {
    if (stack_.empty()) {
      root_ = std::move(node);
      return;
    }
    Frame& frame = stack_.back();
    if (frame.node.is_sequence()) {
      frame.node.items.push_back(std::move(node));
    } else if (!frame.has_key) {
      frame.key = std::move(node);
      frame.has_key = true;
    } else {
      frame.node.entries.push_back({std::move(frame.key), std::move(node)});
      frame.has_key = false;
    }
  }

  YamlNode root_;
  std::vector<Frame> stack_;
  int documents_ = 0;
};

// First byte of the content: after the header line of a block scalar, or after the quote.
size_t ContentStart(absl::string_view yaml, const YamlNode& scalar) {
  const size_t start = std::min(scalar.offset, yaml.size());
  if (start == yaml.size() || !scalar.quoted) return start;
  if (yaml[start] == '"' || yaml[start] == '\'') return start + 1;
  const size_t end_of_line = yaml.find('\n', start);
  return end_of_line == absl::string_view::npos ? yaml.size() : end_of_line + 1;
}

// Advances `at` to where `want` stands, over what YAML drops: indentation, folded line breaks and
// the first half of escapes.
size_t Skip(absl::string_view yaml, size_t at, char want, char quote) {
  const bool blank = absl::ascii_isspace(static_cast<unsigned char>(want));
  while (at < yaml.size() && yaml[at] != want) {
    const bool space = absl::ascii_isspace(static_cast<unsigned char>(yaml[at]));
    if (blank && space) break;  // a folded line break stands for a space
    if (!space && !(quote == '"' && yaml[at] == '\\')) break;
    ++at;
  }
  return at;
}

}  // namespace

FilePlace PlaceOf(absl::string_view text, size_t offset) {
  const absl::string_view before = text.substr(0, offset);
  const size_t line_start = before.rfind('\n');
  FilePlace place;
  place.line = 1 + static_cast<int>(std::count(before.begin(), before.end(), '\n'));
  place.column = static_cast<int>(before.size() -
                                  (line_start == absl::string_view::npos ? 0 : line_start + 1) + 1);
  return place;
}

std::vector<TextRun> MapScalar(absl::string_view yaml, const YamlNode& scalar) {
  std::vector<TextRun> runs;
  size_t at = ContentStart(yaml, scalar);
  const char quote = at > 0 && at <= yaml.size() && scalar.quoted ? yaml[at - 1] : '\0';
  size_t expected = std::string::npos;
  for (size_t i = 0; i < scalar.text.size(); ++i) {
    at = Skip(yaml, at, scalar.text[i], quote);
    if (at != expected) runs.push_back({i, PlaceOf(yaml, at)});
    const bool doubled = quote == '\'' && scalar.text[i] == '\'';
    // A line break ends a run: the next line has a place of its own.
    expected = scalar.text[i] == '\n' ? std::string::npos : at + 1;
    at = std::min(at + (doubled ? 2 : 1), yaml.size());
  }
  if (runs.empty()) runs.push_back({0, scalar.place});
  return runs;
}

absl::StatusOr<YamlNode> ParseYaml(absl::string_view yaml) {
  try {
    std::istringstream stream{std::string(yaml)};
    YAML::Parser parser(stream);
    TreeBuilder builder;
    while (parser.HandleNextDocument(builder)) {
    }
    if (!builder.has_document()) return absl::InvalidArgumentError("1:1: the file is empty");
    return builder.Take();
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(error.mark.line + 1, ":", error.mark.column + 1, ": ", error.msg));
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(error.what());
  }
}

}  // namespace icepie::slices
