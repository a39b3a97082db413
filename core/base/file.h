// Files as durable state needs them: whole-file writes that are either the old or the new content.
#ifndef ICEPIE_CORE_BASE_FILE_H_
#define ICEPIE_CORE_BASE_FILE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace icepie {

// The whole content of `path`. NOT_FOUND when it does not exist.
absl::StatusOr<std::string> ReadFile(const std::string& path);

// Replaces `path` by `content`: writes a temporary file beside it, fsyncs it, renames it and fsyncs
// the directory. On an error the old file stands. `mode` is the new file's permission bits.
absl::Status WriteFileAtomically(const std::string& path, absl::string_view content,
                                 int mode = 0644);

// Writes all of `content` from where the descriptor stands, also when the system takes it in parts.
// Errors name `path`.
absl::Status WriteAll(int fd, absl::string_view content, const std::string& path);

// fsync of a directory, which makes renames and removals in it durable.
absl::Status SyncDirectory(const std::string& path);

// fsync of a file that somebody else wrote.
absl::Status SyncFile(const std::string& path);

// Creates `path` and its parents, and makes the new names durable; existing directories are fine.
absl::Status MakeDirectories(const std::string& path);

// An error that names what was done to which file and errno's text; the code follows errno.
absl::Status ErrnoError(int error, absl::string_view doing);

// Lower-case hexadecimal SHA-256 of a file's bytes, or of `bytes`.
absl::StatusOr<std::string> Sha256OfFile(const std::string& path);
std::string Sha256Hex(absl::string_view bytes);

}  // namespace icepie

#endif  // ICEPIE_CORE_BASE_FILE_H_
