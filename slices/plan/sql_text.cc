#include "slices/plan/sql_text.h"

#include <algorithm>
#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

namespace icepie::slices {
namespace {

bool IsNameByte(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return absl::ascii_isalnum(byte) || c == '_' || byte >= 0x80;
}

// Past the closing `quote` of what begins at `at`; doubled quotes belong to it.
size_t SkipQuoted(absl::string_view sql, size_t at, char quote) {
  for (++at; at < sql.size(); ++at) {
    if (sql[at] != quote) continue;
    if (at + 1 == sql.size() || sql[at + 1] != quote) return at + 1;
    ++at;
  }
  return at;
}

size_t SkipUntil(absl::string_view sql, size_t at, absl::string_view end) {
  const size_t found = sql.find(end, at);
  return found == absl::string_view::npos ? sql.size() : found + end.size();
}

// Past $tag$…$tag$; one byte further when none begins here.
size_t SkipDollarQuoted(absl::string_view sql, size_t at) {
  size_t end = at + 1;
  while (end < sql.size() && IsNameByte(sql[end])) ++end;
  if (end == sql.size() || sql[end] != '$') return at + 1;
  return SkipUntil(sql, end + 1, sql.substr(at, end + 1 - at));
}

// Block comments nest.
size_t SkipBlockComment(absl::string_view sql, size_t at) {
  int depth = 0;
  while (at < sql.size()) {
    const absl::string_view rest = sql.substr(at);
    if (absl::StartsWith(rest, "/*")) {
      ++depth;
      at += 2;
    } else if (absl::StartsWith(rest, "*/")) {
      at += 2;
      if (--depth == 0) return at;
    } else {
      ++at;
    }
  }
  return at;
}

enum class Piece { kBlank, kSemicolon, kOther };

// What stands at `at`; moves past it.
Piece NextPiece(absl::string_view sql, size_t& at) {
  const absl::string_view rest = sql.substr(at);
  const char c = sql[at];
  if (absl::StartsWith(rest, "--")) {
    at = SkipUntil(sql, at, "\n");
    return Piece::kBlank;
  }
  if (absl::StartsWith(rest, "/*")) {
    at = SkipBlockComment(sql, at);
    return Piece::kBlank;
  }
  if (c == '\'' || c == '"') {
    at = SkipQuoted(sql, at, c);
    return Piece::kOther;
  }
  if (c == '$') {
    at = SkipDollarQuoted(sql, at);
    return Piece::kOther;
  }
  ++at;
  if (c == ';') return Piece::kSemicolon;
  return absl::ascii_isspace(static_cast<unsigned char>(c)) ? Piece::kBlank : Piece::kOther;
}

}  // namespace

TextPlace TextPlaceOf(absl::string_view text, size_t offset) {
  const absl::string_view before = text.substr(0, std::min(offset, text.size()));
  TextPlace place;
  for (const char c : before) {
    ++place.column;
    if (c != '\n') continue;
    ++place.line;
    place.column = 1;
  }
  return place;
}

std::string WithoutTrailingSemicolon(absl::string_view sql) {
  std::string text(sql);
  size_t tail = 0;  // where what follows the last real piece begins
  for (size_t at = 0; at < sql.size();) {
    if (NextPiece(sql, at) == Piece::kOther) tail = at;
  }
  for (size_t at = tail; at < text.size(); ++at) {
    if (text[at] != '\n') text[at] = ' ';
  }
  return text;
}

// What a SELECT begins with, or what DuckDB makes one of. Of statements that begin with WITH, the
// word that follows its tables counts.
std::string FirstOtherStatement(absl::string_view sql) {
  constexpr std::array<absl::string_view, 9> kSelects = {
      "SELECT", "FROM", "VALUES", "TABLE", "WITH", "DESCRIBE", "DESC", "SHOW", "SUMMARIZE"};
  constexpr std::array<absl::string_view, 4> kAfterWith = {"INSERT", "UPDATE", "DELETE", "MERGE"};
  std::string first;  // word of the statement
  int depth = 0;
  for (size_t at = 0; at < sql.size();) {
    const size_t begin = at;
    while (at < sql.size() && IsNameByte(sql[at])) ++at;
    if (at > begin) {
      const std::string word = absl::AsciiStrToUpper(sql.substr(begin, at - begin));
      const auto is = [&](absl::string_view each) { return each == word; };
      if (first.empty()) {
        if (std::none_of(kSelects.begin(), kSelects.end(), is)) return word;
        first = word;
      } else if (first == "WITH" && depth == 0 &&
                 std::any_of(kAfterWith.begin(), kAfterWith.end(), is)) {
        return word;
      }
      continue;
    }
    if (sql[at] == '(') ++depth;
    if (sql[at] == ')') --depth;
    if (NextPiece(sql, at) == Piece::kSemicolon) first.clear();
  }
  return "";
}

std::optional<size_t> EndOfName(absl::string_view sql, size_t offset) {
  size_t at = offset;
  while (at < sql.size()) {
    const size_t part = at;
    if (sql[at] == '"') {
      at = SkipQuoted(sql, at, '"');
    } else {
      while (at < sql.size() && IsNameByte(sql[at])) ++at;
    }
    if (at == part) return std::nullopt;
    if (at == sql.size() || sql[at] != '.') return at;
    ++at;
  }
  return std::nullopt;
}

}  // namespace icepie::slices
