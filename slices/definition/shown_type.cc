#include "slices/definition/shown_type.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace icepie::slices {
namespace {

// The end of a text that is quoted by its first byte; a quote within stands twice.
size_t EndOfQuoted(absl::string_view text) {
  for (size_t i = 1; i < text.size(); ++i) {
    if (text[i] != text[0]) continue;
    if (i + 1 == text.size() || text[i + 1] != text[0]) return i + 1;
    ++i;
  }
  return text.size();
}

// DuckDB keeps the quotes of a name with capital letters, too.
bool NeedsQuotes(absl::string_view name) {
  const bool plain = !name.empty() && !absl::ascii_isdigit(name[0]) &&
                     std::all_of(name.begin(), name.end(), [](char c) {
                       return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '_';
                     });
  const std::vector<std::string>& words = QuotedWords();
  return !plain || std::binary_search(words.begin(), words.end(), name);
}

}  // namespace

std::string ShownType(absl::string_view type) {
  std::string shown;
  while (!type.empty()) {
    const bool quoted = type[0] == '"' || type[0] == '\'';  // a name, or a value of an ENUM
    const size_t size = quoted ? EndOfQuoted(type) : 1;
    absl::string_view part = type.substr(0, size);
    if (part.size() > 2 && part[0] == '"' && !NeedsQuotes(part.substr(1, size - 2))) {
      part = part.substr(1, size - 2);
    }
    absl::StrAppend(&shown, part);
    type.remove_prefix(size);
  }
  return shown;
}

const std::vector<std::string>& QuotedWords() {
  static const auto* const kWords = new std::vector<std::string>{"all",
                                                                 "analyse",
                                                                 "analyze",
                                                                 "and",
                                                                 "anti",
                                                                 "any",
                                                                 "array",
                                                                 "as",
                                                                 "asc",
                                                                 "asof",
                                                                 "asymmetric",
                                                                 "at",
                                                                 "authorization",
                                                                 "binary",
                                                                 "both",
                                                                 "by",
                                                                 "case",
                                                                 "cast",
                                                                 "check",
                                                                 "collate",
                                                                 "collation",
                                                                 "column",
                                                                 "columns",
                                                                 "concurrently",
                                                                 "constraint",
                                                                 "create",
                                                                 "cross",
                                                                 "default",
                                                                 "deferrable",
                                                                 "desc",
                                                                 "describe",
                                                                 "distinct",
                                                                 "do",
                                                                 "else",
                                                                 "end",
                                                                 "except",
                                                                 "false",
                                                                 "fetch",
                                                                 "for",
                                                                 "foreign",
                                                                 "freeze",
                                                                 "from",
                                                                 "full",
                                                                 "generated",
                                                                 "glob",
                                                                 "group",
                                                                 "having",
                                                                 "ilike",
                                                                 "in",
                                                                 "initially",
                                                                 "inner",
                                                                 "intersect",
                                                                 "into",
                                                                 "is",
                                                                 "isnull",
                                                                 "join",
                                                                 "lambda",
                                                                 "lateral",
                                                                 "leading",
                                                                 "left",
                                                                 "like",
                                                                 "limit",
                                                                 "map",
                                                                 "natural",
                                                                 "not",
                                                                 "notnull",
                                                                 "null",
                                                                 "offset",
                                                                 "on",
                                                                 "only",
                                                                 "or",
                                                                 "order",
                                                                 "outer",
                                                                 "overlaps",
                                                                 "pivot",
                                                                 "pivot_longer",
                                                                 "pivot_wider",
                                                                 "placing",
                                                                 "positional",
                                                                 "primary",
                                                                 "qualify",
                                                                 "references",
                                                                 "returning",
                                                                 "right",
                                                                 "select",
                                                                 "semi",
                                                                 "show",
                                                                 "similar",
                                                                 "some",
                                                                 "struct",
                                                                 "summarize",
                                                                 "symmetric",
                                                                 "table",
                                                                 "tablesample",
                                                                 "then",
                                                                 "to",
                                                                 "trailing",
                                                                 "true",
                                                                 "try_cast",
                                                                 "union",
                                                                 "unique",
                                                                 "unpack",
                                                                 "unpivot",
                                                                 "using",
                                                                 "variadic",
                                                                 "verbose",
                                                                 "when",
                                                                 "where",
                                                                 "window",
                                                                 "with"};
  return *kWords;
}

}  // namespace icepie::slices
