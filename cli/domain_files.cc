#include "cli/domain_files.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/utf8.h"

namespace icepie::cli {

absl::StatusOr<std::vector<std::string>> DomainFiles(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return std::vector<std::string>{path};
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
    const std::string ending = entry.path().extension();
    if (ending == ".yaml" || ending == ".yml") files.push_back(entry.path());
  }
  if (files.empty()) return absl::NotFoundError(absl::StrCat(path, " holds no *.yaml file"));
  std::sort(files.begin(), files.end());
  return files;
}

absl::StatusOr<WholeDomainFile> ReadDomainFile(const std::string& path) {
  absl::StatusOr<std::string> text = ReadFile(path);
  if (!text.ok()) return Annotate(text.status(), path);
  if (!IsUtf8(*text)) {
    return absl::InvalidArgumentError(
        absl::StrCat(absl::CHexEscape(path), ": the file's text is not UTF-8; save it as UTF-8"));
  }
  return PutInSqlFiles(std::filesystem::path(path).parent_path(),
                       IsUtf8(path) ? path : absl::CHexEscape(path), *text);
}

}  // namespace icepie::cli
