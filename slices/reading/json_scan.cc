#include "slices/reading/json_scan.h"

#include <simdjson.h>

#include <cstring>

#include "absl/base/config.h"
#include "absl/numeric/bits.h"
#include "absl/strings/str_cat.h"

namespace icepie::slices {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

int HexValue(char c) {
  if (IsDigit(c)) return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

constexpr uint64_t kLowBits = 0x0101010101010101;
constexpr uint64_t kHighBits = 0x8080808080808080;

// The high bit of each of the eight bytes that is below `limit` (at most 0x80). Exact up to and
// including the lowest one found, which is all that is looked at.
constexpr uint64_t BytesBelow(uint64_t word, uint64_t limit) {
  return (word - kLowBits * limit) & ~word & kHighBits;
}

constexpr uint64_t BytesEqual(uint64_t word, uint64_t byte) {
  return BytesBelow(word ^ (kLowBits * byte), 1);
}

uint64_t LoadWord(const char* at) {
  uint64_t word = 0;
  std::memcpy(&word, at, sizeof(word));
  return word;
}

// The next byte that ends a string or needs a look, or one close to the end. Notes in `high_bits`
// whether there were bytes beyond ASCII.
const char* SkipPlain(const char* at, const char* end, uint64_t& high_bits) {
#ifndef ABSL_IS_LITTLE_ENDIAN
#error "the lowest byte of a word must be the first"
#endif
  while (end - at >= 8) {
    const uint64_t word = LoadWord(at);
    const uint64_t special =
        BytesBelow(word, 0x20) | BytesEqual(word, '"') | BytesEqual(word, '\\');
    if (special != 0) {
      const int plain_bits = absl::countr_zero(special) & ~7;
      high_bits |= word & kHighBits & ((uint64_t{1} << plain_bits) - 1);
      return at + plain_bits / 8;
    }
    high_bits |= word & kHighBits;
    at += 8;
  }
  return at;
}

// Keys are short: a call of memcmp costs more than the comparison.
bool SameBytes(const char* left, const char* right, size_t size) {
  if (size >= 8) {
    for (size_t i = 0; i + 8 < size; i += 8) {
      if (LoadWord(left + i) != LoadWord(right + i)) return false;
    }
    return LoadWord(left + size - 8) == LoadWord(right + size - 8);
  }
  for (size_t i = 0; i < size; ++i) {
    if (left[i] != right[i]) return false;
  }
  return true;
}

void AppendUtf8(uint32_t code, std::string& out) {
  if (code < 0x80) {
    out.push_back(static_cast<char>(code));
  } else if (code < 0x800) {
    out.push_back(static_cast<char>(0xC0 | (code >> 6)));
    out.push_back(static_cast<char>(0x80 | (code & 0x3F)));
  } else if (code < 0x10000) {
    out.push_back(static_cast<char>(0xE0 | (code >> 12)));
    out.push_back(static_cast<char>(0x80 | ((code >> 6) & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (code & 0x3F)));
  } else {
    out.push_back(static_cast<char>(0xF0 | (code >> 18)));
    out.push_back(static_cast<char>(0x80 | ((code >> 12) & 0x3F)));
    out.push_back(static_cast<char>(0x80 | ((code >> 6) & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (code & 0x3F)));
  }
}

uint32_t FourHex(const char* at) {
  uint32_t code = 0;
  for (int i = 0; i < 4; ++i) code = code << 4 | static_cast<uint32_t>(HexValue(at[i]));
  return code;
}

bool IsHighSurrogate(uint32_t code) { return (code & 0xFC00) == 0xD800; }
bool IsLowSurrogate(uint32_t code) { return (code & 0xFC00) == 0xDC00; }

// Decodes the escape at `at`, just behind the backslash; returns the place behind it.
const char* AppendEscape(const char* at, std::string& out) {
  switch (*at) {
    case 'b':
      out.push_back('\b');
      return at + 1;
    case 'f':
      out.push_back('\f');
      return at + 1;
    case 'n':
      out.push_back('\n');
      return at + 1;
    case 'r':
      out.push_back('\r');
      return at + 1;
    case 't':
      out.push_back('\t');
      return at + 1;
    case 'u':
      break;
    default:
      out.push_back(*at);
      return at + 1;
  }
  const uint32_t code = FourHex(at + 1);
  if (!IsHighSurrogate(code)) {
    AppendUtf8(code, out);
    return at + 5;
  }
  AppendUtf8(0x10000 + ((code & 0x3FF) << 10) + (FourHex(at + 7) & 0x3FF), out);
  return at + 11;
}

}  // namespace

void UnescapeJson(absl::string_view text, std::string& out) {
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    const void* backslash = std::memchr(at, '\\', static_cast<size_t>(end - at));
    const char* const stop = backslash == nullptr ? end : static_cast<const char*>(backslash);
    out.append(at, stop);
    at = stop == end ? end : AppendEscape(stop + 1, out);
  }
}

namespace {

bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

// All of these are given the beginning of well-formed text and return the place behind it.
const char* SkipString(const char* at) {
  for (++at; *at != '"'; ++at) {
    if (*at == '\\') ++at;
  }
  return at + 1;
}

const char* SkipContainer(const char* at) {
  int depth = 0;
  while (true) {
    const char c = *at;
    if (c == '"') {
      at = SkipString(at);
      continue;
    }
    ++at;
    if (c == '{' || c == '[') ++depth;
    if ((c == '}' || c == ']') && --depth == 0) return at;
  }
}

const char* SkipWord(const char* at) {
  while (*at != ',' && *at != ']' && !IsSpace(*at)) ++at;
  return at;
}

JsonKind WordKind(char first) {
  if (first == 'n') return JsonKind::kNull;
  return first == 't' || first == 'f' ? JsonKind::kBoolean : JsonKind::kNumber;
}

}  // namespace

bool JsonElements::Next(JsonValue& value) {
  while (IsSpace(*at_) || *at_ == ',') ++at_;
  if (*at_ == ']') return false;
  const char* const begin = at_;
  value.escaped = false;
  if (*begin == '"') {
    at_ = SkipString(begin);
    value.kind = JsonKind::kString;
    value.text = absl::string_view(begin + 1, static_cast<size_t>(at_ - begin) - 2);
    value.escaped = value.text.find('\\') != absl::string_view::npos;
    return true;
  }
  const bool container = *begin == '{' || *begin == '[';
  at_ = container ? SkipContainer(begin) : SkipWord(begin);
  value.kind =
      !container ? WordKind(*begin) : (*begin == '{' ? JsonKind::kObject : JsonKind::kArray);
  value.text = absl::string_view(begin, static_cast<size_t>(at_ - begin));
  return true;
}

int JsonScanner::AddPath(const std::vector<std::string>& path) {
  int node = 0;
  for (const std::string& key : path) {
    int next = 0;
    for (const Child& child : nodes_[node].children) {
      if (child.key == key) next = child.node;
    }
    if (next == 0) {
      next = static_cast<int>(nodes_.size());
      nodes_[node].children.push_back({key, next});
      nodes_.emplace_back();
    }
    node = next;
  }
  if (nodes_[node].slot < 0) {
    nodes_[node].slot = static_cast<int>(values_.size());
    values_.emplace_back();
  }
  return nodes_[node].slot;
}

bool JsonScanner::Scan(absl::string_view json) {
  begin_ = at_ = json.data();
  end_ = begin_ + json.size();
  high_bits_ = 0;
  error_ = nullptr;
  ++scan_;
  for (JsonValue& value : values_) value.kind = JsonKind::kMissing;
  if (!ScanValue(nodes_.data(), 0)) return false;
  SkipSpace();
  if (at_ != end_) return Fail("unexpected text after the value");
  if (high_bits_ != 0 && !simdjson::validate_utf8(json.data(), json.size())) {
    at_ = begin_;
    return Fail("the text is not UTF-8");
  }
  return true;
}

std::string JsonScanner::error() const {
  return absl::StrCat("byte ", at_ - begin_, ": ", error_ == nullptr ? "no error" : error_);
}

bool JsonScanner::Fail(const char* what) {
  error_ = what;
  return false;
}

bool JsonScanner::ScanValue(Node* node, int depth) {
  SkipSpace();
  if (at_ == end_) return Fail("a value is missing");
  JsonValue value;
  const char* const begin = at_;
  bool fine = false;
  switch (*at_) {
    case '{':
    case '[':
      return ScanContainer(node, depth, value);
    case '"':
      value.kind = JsonKind::kString;
      if (!ScanString(value)) return false;
      if (node != nullptr) Keep(*node, value);
      return true;
    case 't':
    case 'f':
      value.kind = JsonKind::kBoolean;
      fine = ScanLiteral(*at_ == 't' ? "true" : "false");
      break;
    case 'n':
      value.kind = JsonKind::kNull;
      fine = ScanLiteral("null");
      break;
    default:
      value.kind = JsonKind::kNumber;
      fine = ScanNumber();
  }
  if (!fine) return false;
  value.text = absl::string_view(begin, static_cast<size_t>(at_ - begin));
  if (node != nullptr) Keep(*node, value);
  return true;
}

bool JsonScanner::ScanContainer(Node* node, int depth, JsonValue& value) {
  if (depth >= kJsonDepthMax) return Fail("the nesting is deeper than 1024");
  const char* const begin = at_;
  const bool object = *at_++ == '{';
  value.kind = object ? JsonKind::kObject : JsonKind::kArray;
  if (!(object ? ScanObject(node, depth + 1) : ScanArray(depth + 1))) return false;
  value.text = absl::string_view(begin, static_cast<size_t>(at_ - begin));
  if (node != nullptr) Keep(*node, value);
  return true;
}

bool JsonScanner::ScanObject(Node* node, int depth) {
  if (node != nullptr && node->children.empty()) node = nullptr;
  SkipSpace();
  if (at_ != end_ && *at_ == '}') {
    ++at_;
    return true;
  }
  while (true) {
    if (!ScanMember(node, depth)) return false;
    SkipSpace();
    if (at_ == end_) return Fail("the object is not closed");
    const char next = *at_;
    if (next != ',' && next != '}') return Fail("expected ',' or '}'");
    ++at_;
    if (next == '}') return true;
  }
}

bool JsonScanner::ScanMember(Node* node, int depth) {
  SkipSpace();
  if (at_ == end_ || *at_ != '"') return Fail("expected a key in quotes");
  JsonValue key;
  if (!ScanString(key)) return false;
  SkipSpace();
  if (at_ == end_ || *at_ != ':') return Fail("expected ':'");
  ++at_;
  return ScanValue(node == nullptr ? nullptr : FindChild(*node, key), depth);
}

bool JsonScanner::ScanArray(int depth) {
  SkipSpace();
  if (at_ != end_ && *at_ == ']') {
    ++at_;
    return true;
  }
  while (true) {
    if (!ScanValue(nullptr, depth)) return false;
    SkipSpace();
    if (at_ == end_) return Fail("the array is not closed");
    const char next = *at_;
    if (next != ',' && next != ']') return Fail("expected ',' or ']'");
    ++at_;
    if (next == ']') return true;
  }
}

bool JsonScanner::ScanString(JsonValue& value) {
  const char* const begin = ++at_;
  const char* at = begin;
  while (true) {
    at = SkipPlain(at, end_, high_bits_);
    at_ = at;
    if (at == end_) return Fail("the string is not closed");
    const auto c = static_cast<unsigned char>(*at);
    if (c == '"') break;
    if (c == '\\') {
      value.escaped = true;
      if (!ScanEscape()) return false;
      at = at_;
      continue;
    }
    if (c < 0x20) return Fail("a control character in a string must be escaped");
    high_bits_ |= c & 0x80U;
    ++at;
  }
  value.text = absl::string_view(begin, static_cast<size_t>(at - begin));
  ++at_;
  return true;
}

bool JsonScanner::ScanEscape() {
  ++at_;
  if (at_ == end_) return Fail("the string is not closed");
  if (*at_ != 'u') {
    if (absl::string_view("\"\\/bfnrt").find(*at_) == absl::string_view::npos)
      return Fail("no such escape");
    ++at_;
    return true;
  }
  uint32_t code = 0;
  if (!ScanHexDigits(code)) return false;
  if (IsLowSurrogate(code)) return Fail("half a surrogate pair");
  if (!IsHighSurrogate(code)) return true;
  if (end_ - at_ < 2 || at_[0] != '\\' || at_[1] != 'u') return Fail("half a surrogate pair");
  ++at_;
  if (!ScanHexDigits(code)) return false;
  return IsLowSurrogate(code) || Fail("half a surrogate pair");
}

bool JsonScanner::ScanHexDigits(uint32_t& code) {
  ++at_;
  if (end_ - at_ < 4) return Fail("\\u needs four hexadecimal digits");
  for (int i = 0; i < 4; ++i) {
    if (HexValue(at_[i]) < 0) return Fail("\\u needs four hexadecimal digits");
  }
  code = FourHex(at_);
  at_ += 4;
  return true;
}

bool JsonScanner::ScanDigits() {
  if (at_ == end_ || !IsDigit(*at_)) return false;
  while (at_ != end_ && IsDigit(*at_)) ++at_;
  return true;
}

bool JsonScanner::ScanNumber() {
  if (*at_ == '-') ++at_;
  if (at_ == end_ || !IsDigit(*at_)) return Fail("expected a value");
  if (*at_ == '0') {
    ++at_;
    if (at_ != end_ && IsDigit(*at_)) return Fail("a number must not begin with 0");
  } else {
    ScanDigits();
  }
  if (at_ != end_ && *at_ == '.') {
    ++at_;
    if (!ScanDigits()) return Fail("expected a digit after the point");
  }
  if (at_ != end_ && (*at_ == 'e' || *at_ == 'E')) {
    ++at_;
    if (at_ != end_ && (*at_ == '+' || *at_ == '-')) ++at_;
    if (!ScanDigits()) return Fail("expected a digit in the exponent");
  }
  return true;
}

bool JsonScanner::ScanLiteral(absl::string_view literal) {
  if (static_cast<size_t>(end_ - at_) < literal.size() ||
      std::memcmp(at_, literal.data(), literal.size()) != 0) {
    return Fail("expected a value");
  }
  at_ += literal.size();
  return true;
}

JsonScanner::Node* JsonScanner::FindChild(Node& node, const JsonValue& key) {
  absl::string_view name = key.text;
  if (key.escaped) {
    key_buffer_.clear();
    UnescapeJson(key.text, key_buffer_);
    name = key_buffer_;
  }
  const auto count = static_cast<uint32_t>(node.children.size());
  uint32_t index = node.expected_child;
  for (uint32_t tried = 0; tried < count; ++tried, ++index) {
    if (index >= count) index = 0;
    const Child& child = node.children[index];
    if (child.key.size() == name.size() && SameBytes(child.key.data(), name.data(), name.size())) {
      node.expected_child = index + 1;
      return &nodes_[child.node];
    }
  }
  return nullptr;
}

void JsonScanner::Keep(Node& node, const JsonValue& value) {
  if (node.seen_scan == scan_) {
    MarkBelow(node, {JsonKind::kDuplicate, false, value.text});
    return;
  }
  node.seen_scan = scan_;
  if (node.slot >= 0) values_[node.slot] = value;
  if (node.children.empty() || value.kind == JsonKind::kObject || value.kind == JsonKind::kNull) {
    return;
  }
  const JsonValue mark{JsonKind::kNotAnObject, false, value.raw()};
  for (const Child& child : node.children) MarkBelow(nodes_[child.node], mark);
}

void JsonScanner::MarkBelow(const Node& node, const JsonValue& mark) {
  if (node.slot >= 0) values_[node.slot] = mark;
  for (const Child& child : node.children) MarkBelow(nodes_[child.node], mark);
}

}  // namespace icepie::slices
