#include "cli/sql_files.h"

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <iterator>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/utf8.h"
#include "slices/definition/yaml_tree.h"

namespace icepie::cli {
namespace {

using slices::YamlNode;

constexpr char kKey[] = "sql_file";
constexpr int kSqlIndent = 2;

struct Use {
  const YamlNode* key = nullptr;
  const YamlNode* value = nullptr;
};

std::vector<Use> FindUses(const YamlNode& root) {
  std::vector<Use> uses;
  for (const auto& [part, slices] : root.entries) {
    if (part.text != "slices") continue;
    for (const auto& [name, slice] : slices.entries) {
      for (const auto& [key, value] : slice.entries) {
        if (key.text == kKey) uses.push_back({&key, &value});
      }
    }
  }
  std::sort(uses.begin(), uses.end(),
            [](const Use& a, const Use& b) { return a.key->place.line < b.key->place.line; });
  return uses;
}

absl::Status ErrorAt(const std::string& name, const YamlNode& node, absl::StatusCode code,
                     absl::string_view what) {
  const std::string message =
      absl::StrCat(name, ":", node.place.line, ":", node.place.column, ": ", what);
  ErrorDetail detail{"DEFINITION_INVALID", {{"file", name}}, {{kKey, message}}, {}};
  return MakeError(code, message, detail);
}

// What stands behind the value: nothing, or a comment.
absl::StatusOr<std::string> RestOfLine(const std::string& name, absl::string_view line,
                                       const Use& use) {
  const auto before = static_cast<size_t>(use.key->place.column - 1);
  absl::string_view rest = line.substr(std::min(before, line.size()));
  const bool first = line.find_first_not_of(' ') == before;
  const bool begins = absl::ConsumePrefix(&rest, absl::StrCat(kKey, ":"));
  rest = absl::StripLeadingAsciiWhitespace(rest);
  const std::string quote =
      use.value->quoted && !rest.empty() ? std::string(rest.substr(0, 1)) : "";
  const bool whole = absl::ConsumePrefix(&rest, absl::StrCat(quote, use.value->text, quote));
  rest = absl::StripAsciiWhitespace(rest);
  if (first && begins && whole && (rest.empty() || rest.front() == '#')) return std::string(rest);
  return ErrorAt(name, *use.key, absl::StatusCode::kInvalidArgument,
                 "sql_file must stand on a line of its own, as `sql_file: path/to/query.sql`");
}

absl::StatusOr<std::vector<std::string>> SqlLines(const std::string& name, const std::string& path,
                                                  const Use& use) {
  absl::StatusOr<std::string> sql = ReadFile(path);
  if (!sql.ok()) return ErrorAt(name, *use.value, sql.status().code(), sql.status().message());
  if (!IsUtf8(*sql)) {
    return ErrorAt(name, *use.value, absl::StatusCode::kInvalidArgument,
                   absl::StrCat(path, ": the file's text is not UTF-8; save it as UTF-8"));
  }
  std::vector<std::string> lines = absl::StrSplit(*sql, '\n');
  for (std::string& line : lines) {
    if (absl::EndsWith(line, "\r")) line.pop_back();
  }
  while (!lines.empty() && absl::StripAsciiWhitespace(lines.back()).empty()) lines.pop_back();
  if (!lines.empty()) return lines;
  return ErrorAt(name, *use.value, absl::StatusCode::kInvalidArgument,
                 absl::StrCat(path, " is empty"));
}

// "name:12:7: what" with the place in the file that the line comes from.
std::string InOwnFile(const WholeDomainFile& file, const std::string& message) {
  absl::string_view rest = message;
  int line = 0;
  int column = 0;
  if (!absl::ConsumePrefix(&rest, absl::StrCat(file.name, ":"))) return message;
  const std::vector<std::string> parts = absl::StrSplit(rest, absl::MaxSplits(':', 2));
  const bool placed =
      parts.size() == 3 && absl::SimpleAtoi(parts[0], &line) && absl::SimpleAtoi(parts[1], &column);
  if (!placed) return message;
  for (const SqlFileLines& lines : file.sql_files) {
    if (line >= lines.first && line < lines.first + lines.count) {
      return absl::StrCat(lines.path, ":", line - lines.first + 1, ":",
                          std::max(1, column - lines.indent), ":", parts[2]);
    }
  }
  const slices::FilePlace own = file.OwnPlace({line, column});
  return absl::StrCat(file.name, ":", own.line, ":", own.column, ":", parts[2]);
}

}  // namespace

slices::FilePlace WholeDomainFile::OwnPlace(slices::FilePlace place) const {
  int added = 0;
  for (const SqlFileLines& lines : sql_files) {
    if (place.line >= lines.first) added += lines.count;
  }
  return {place.line - added, place.column};
}

absl::Status WholeDomainFile::InOwnFiles(const absl::Status& error) const {
  if (error.ok() || sql_files.empty()) return error;
  const std::string message = InOwnFile(*this, std::string(error.message()));
  std::optional<ErrorDetail> detail = GetErrorDetail(error);
  if (!detail) return {error.code(), message};
  for (FieldViolation& violation : detail->violations) {
    violation.description = InOwnFile(*this, violation.description);
  }
  // The places of the whole text, which nobody has.
  if (message != error.message()) {
    for (const char* key : {"file", "line", "column"}) detail->metadata.erase(key);
  }
  return MakeError(error.code(), message, *detail);
}

absl::StatusOr<WholeDomainFile> PutInSqlFiles(const std::string& directory, const std::string& name,
                                              const std::string& text) {
  WholeDomainFile whole{name, text, {}};
  const absl::StatusOr<YamlNode> root = slices::ParseYaml(text);
  if (!root.ok()) return whole;
  const std::vector<Use> uses = FindUses(*root);
  std::vector<std::string> lines = absl::StrSplit(text, '\n');
  int added = 0;
  for (const Use& use : uses) {
    const int line = use.key->place.line - 1 + added;
    const auto at = static_cast<size_t>(line);
    if (!use.value->is_scalar() || use.value->place.line != use.key->place.line) {
      return ErrorAt(name, *use.key, absl::StatusCode::kInvalidArgument,
                     "sql_file must be the path of a file");
    }
    ICEPIE_ASSIGN_OR_RETURN(const std::string comment, RestOfLine(name, lines.at(at), use));
    const std::string path = std::filesystem::path(directory) / use.value->text;
    ICEPIE_ASSIGN_OR_RETURN(std::vector<std::string> sql, SqlLines(name, path, use));
    // Where the first line is indented itself, YAML has to be told by how much it is not.
    const bool indented = absl::StartsWith(sql.front(), " ") || sql.front().empty();
    const std::string indent(static_cast<size_t>(use.key->place.column - 1), ' ');
    lines[at] = absl::StrCat(indent, "sql: |", indented ? absl::StrCat(kSqlIndent) : "",
                             comment.empty() ? "" : "  ", comment);
    for (std::string& sql_line : sql) {
      if (!sql_line.empty()) sql_line.insert(0, indent + std::string(kSqlIndent, ' '));
    }
    whole.sql_files.push_back({path, line + 2, static_cast<int>(sql.size()),
                               static_cast<int>(indent.size()) + kSqlIndent});
    added += static_cast<int>(sql.size());
    lines.insert(lines.begin() + static_cast<std::ptrdiff_t>(at) + 1,
                 std::make_move_iterator(sql.begin()), std::make_move_iterator(sql.end()));
  }
  whole.text = absl::StrJoin(lines, "\n");
  return whole;
}

}  // namespace icepie::cli
