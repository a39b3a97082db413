#include "cli/domain_files.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/directory.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/utf8.h"

namespace icepie::cli {

absl::StatusOr<std::vector<std::string>> DomainFiles(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return std::vector<std::string>{path};
  std::vector<std::string> files;
  for (const auto& entry : DirectoryEntries(path, error)) {
    const std::string ending = entry.path().extension();
    if (ending == ".yaml" || ending == ".yml") files.push_back(entry.path());
  }
  if (error) return ErrnoError(error.value(), absl::StrCat("read ", path));
  if (files.empty()) return absl::NotFoundError(absl::StrCat(path, " holds no *.yaml file"));
  std::sort(files.begin(), files.end());
  return files;
}

namespace {

constexpr int kIndent = 2;

absl::StatusOr<std::string> ReadText(const std::string& path) {
  absl::StatusOr<std::string> text = ReadFile(path);
  if (!text.ok()) return Annotate(text.status(), path);
  if (IsUtf8(*text)) return text;
  return absl::InvalidArgumentError(
      absl::StrCat(absl::CHexEscape(path), ": the file's text is not UTF-8; save it as UTF-8"));
}

std::string Shown(const std::string& path) { return IsUtf8(path) ? path : absl::CHexEscape(path); }

// Behind all else, so that the lines of the others stay where they are.
absl::Status PutInOverlay(const std::string& path, WholeDomainFile& whole) {
  ICEPIE_ASSIGN_OR_RETURN(const std::string text, ReadText(path));
  std::vector<std::string> lines = absl::StrSplit(text, '\n');
  while (!lines.empty() && absl::StripAsciiWhitespace(lines.back()).empty()) lines.pop_back();
  if (lines.empty()) return absl::InvalidArgumentError(absl::StrCat(Shown(path), " is empty"));
  if (!absl::EndsWith(whole.text, "\n")) whole.text.push_back('\n');
  absl::StrAppend(&whole.text, "overlay:\n");
  const auto first = std::count(whole.text.begin(), whole.text.end(), '\n') + 1;
  for (const std::string& line : lines) {
    absl::StrAppend(&whole.text, line.empty() ? "" : std::string(kIndent, ' '), line, "\n");
  }
  whole.sql_files.push_back(
      {Shown(path), static_cast<int>(first), static_cast<int>(lines.size()), kIndent});
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<WholeDomainFile> ReadDomainFile(const std::string& path,
                                               const std::string& overlay) {
  ICEPIE_ASSIGN_OR_RETURN(const std::string text, ReadText(path));
  ICEPIE_ASSIGN_OR_RETURN(
      WholeDomainFile whole,
      PutInSqlFiles(std::filesystem::path(path).parent_path(), Shown(path), text));
  if (!overlay.empty()) ICEPIE_RETURN_IF_ERROR(PutInOverlay(overlay, whole));
  return whole;
}

absl::Status CheckOverlay(const std::vector<std::string>& files, const std::string& overlay) {
  if (overlay.empty() || files.size() == 1) return absl::OkStatus();
  return absl::InvalidArgumentError("--overlay belongs to one domain's file: name that with -f");
}

}  // namespace icepie::cli
