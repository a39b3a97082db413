#include "slices/definition/sql_variables.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "slices/definition/definition_values.h"

namespace icepie::slices {
namespace {

bool IsNameStart(char c) { return absl::ascii_isalpha(static_cast<unsigned char>(c)) || c == '_'; }
bool IsNamePart(char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_'; }

// Behind the closing `mark`, or the end.
size_t Behind(absl::string_view sql, absl::string_view mark, size_t from) {
  const size_t at = sql.find(mark, from);
  return at == absl::string_view::npos ? sql.size() : at + mark.size();
}

// Comments that begin inside of others end first.
size_t BehindComment(absl::string_view sql, size_t from) {
  int depth = 0;
  for (size_t at = from; at + 1 < sql.size(); ++at) {
    const absl::string_view two = sql.substr(at, 2);
    if (two == "/*") ++depth;
    if (two == "*/") --depth;
    if (two == "/*" || two == "*/") ++at;
    if (depth == 0) return at + 1;
  }
  return sql.size();
}

// E'it\'s': a backslash takes the next character along.
size_t BehindEscapedString(absl::string_view sql, size_t quote) {
  for (size_t at = quote + 1; at < sql.size(); ++at) {
    if (sql[at] == '\\') {
      ++at;
    } else if (sql[at] == '\'') {
      return at + 1;
    }
  }
  return sql.size();
}

size_t NameEnd(absl::string_view sql, size_t from) {
  size_t end = from;
  if (end < sql.size() && IsNameStart(sql[end])) {
    while (end < sql.size() && IsNamePart(sql[end])) ++end;
  }
  return end;
}

// Where the text that begins at `at` and is no place for a value ends; `at` when it is one. Doubled
// quotes ('it''s') are two texts, one behind the other.
size_t BehindText(absl::string_view sql, size_t at) {
  const absl::string_view rest = sql.substr(at);
  const char c = sql[at];
  const bool escapes =
      at > 0 && (sql[at - 1] == 'e' || sql[at - 1] == 'E') && (at < 2 || !IsNamePart(sql[at - 2]));
  if (c == '\'' && escapes) return BehindEscapedString(sql, at);
  if (c == '\'' || c == '"') return Behind(sql, rest.substr(0, 1), at + 1);
  if (rest.substr(0, 2) == "--") return Behind(sql, "\n", at);
  if (rest.substr(0, 2) == "/*") return BehindComment(sql, at);
  if (c != '$') return at;
  const size_t tag_end = NameEnd(sql, at + 1);
  if (tag_end == sql.size() || sql[tag_end] != '$') return at;
  return Behind(sql, sql.substr(at, tag_end + 1 - at), tag_end + 1);
}

struct Use {
  size_t begin = 0;  // of the $
  size_t end = 0;
};

std::vector<Use> FindUses(absl::string_view sql) {
  std::vector<Use> uses;
  for (size_t at = 0; at < sql.size();) {
    const size_t behind = BehindText(sql, at);
    const size_t end = sql[at] == '$' ? NameEnd(sql, at + 1) : at;
    // A $ inside of a name is a part of it.
    const bool in_name = at > 0 && IsNamePart(sql[at - 1]);
    if (behind > at && !(sql[at] == '$' && in_name)) {
      at = behind;
    } else if (end > at + 1 && !in_name) {
      uses.push_back({at, end});
      at = end;
    } else {
      ++at;
    }
  }
  return uses;
}

// As `runs` say of the text before, with the part from `begin` to `end` replaced by `length`
// characters. The literal stands where the variable stood.
void Shift(std::vector<TextRun>* runs, const Use& use, size_t length) {
  if (runs->empty()) return;
  const FilePlace behind = PlaceInRuns(*runs, use.end, {});
  std::vector<TextRun> shifted;
  for (const TextRun& run : *runs) {
    if (run.offset < use.end) shifted.push_back(run);
  }
  shifted.push_back({use.begin + length, behind});
  for (const TextRun& run : *runs) {
    if (run.offset > use.end) {
      shifted.push_back({run.offset - (use.end - use.begin) + length, run.place});
    }
  }
  *runs = std::move(shifted);
}

}  // namespace

std::string SqlLiteral(const YamlNode& scalar) {
  const std::string json = ScalarAsJson(scalar);
  if (json.empty() || json.front() != '"') return json;
  return absl::StrCat("'", absl::StrReplaceAll(scalar.text, {{"'", "''"}}), "'");
}

std::vector<UnknownVariable> PutInVariables(const std::map<std::string, std::string>& literals,
                                            std::string* sql, std::vector<TextRun>* runs) {
  std::vector<UnknownVariable> unknown;
  const std::vector<Use> uses = FindUses(*sql);
  // From the last one on, so that the places of the others hold.
  for (auto use = uses.rbegin(); use != uses.rend(); ++use) {
    const std::string name = sql->substr(use->begin + 1, use->end - use->begin - 1);
    const auto literal = literals.find(name);
    if (literal == literals.end()) {
      unknown.push_back({name, use->begin});
      continue;
    }
    // A negative number behind a minus would begin a comment.
    const std::string text =
        literal->second.front() == '-' ? absl::StrCat("(", literal->second, ")") : literal->second;
    sql->replace(use->begin, use->end - use->begin, text);
    Shift(runs, *use, text.size());
  }
  std::reverse(unknown.begin(), unknown.end());
  return unknown;
}

}  // namespace icepie::slices
