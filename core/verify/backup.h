// Backups of a running core: a directory that holds everything up to one position, whole in itself.
// Tables and segments never change, so on one file system they are shared (hard links); all else is
// copied, and everything is synced. Work goes on in DIRECTORY.incomplete, which becomes DIRECTORY
// at the end.
//
// A backup says of itself that it is one (the file "backup"): nobody can know from it what the
// original took afterwards, so it opens read-only until an operator accepts that.
#ifndef ICEPIE_CORE_VERIFY_BACKUP_H_
#define ICEPIE_CORE_VERIFY_BACKUP_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/core.h"
#include "core/log/log_store.h"
#include "core/segment/segment_set.h"

namespace icepie {

// Copies the core in `source`, whose log is `store` and whose segments are `segments`, to `target`,
// which must not exist yet. Errors leave nothing behind:
// FAILED_PRECONDITION/BACKUP_DIRECTORY_NOT_EMPTY, INVALID_ARGUMENT when one directory lies in the
// other, CANCELLED when `progress` returns false, or the operating system's.
absl::StatusOr<BackupResult> BackUp(const std::string& source, const LogStore& store,
                                    SegmentSet& segments, const std::string& target,
                                    const BackupProgress& progress);

// What the file of a backup says, in a sentence; nullopt when the directory is none.
absl::StatusOr<std::optional<std::string>> ReadBackupMark(const std::string& core_directory);
// The directory goes on as a log of its own.
absl::Status RemoveBackupMark(const std::string& core_directory);

// FAILED_PRECONDITION when `core_directory` is what an unfinished backup has left.
absl::Status CheckBackupFinished(const std::string& core_directory);

}  // namespace icepie

#endif  // ICEPIE_CORE_VERIFY_BACKUP_H_
