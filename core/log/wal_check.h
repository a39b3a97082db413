// Reads a write-ahead log as a file, beside whoever writes it, and compares every record's
// checksum: what is in memory still has its only durable copy there. RocksDB's manifest has the
// same form.
//
// The form is RocksDB's (its "Write Ahead Log File Format"): blocks of 32 KiB, in them fragments of
// a masked CRC-32C (u32 LE) of type and bytes, their number (u16 LE), a type (1 a whole record, 2
// its begin, 3 its middle, 4 its end) and the bytes; less than 7 bytes at a block's end are zero.
#ifndef ICEPIE_CORE_LOG_WAL_CHECK_H_
#define ICEPIE_CORE_LOG_WAL_CHECK_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace icepie {

struct WalCheck {
  int64_t checked_bytes = 0;  // where the last block begins that may still change
  int64_t whole_bytes = 0;    // where the last record ends that is there as a whole; 0: none is
  bool is_whole = true;       // the file ends there
};

// Called with the bytes that were read since the last call; false ends the check.
using CheckProgress = std::function<bool(int64_t bytes)>;

// Of the file's bytes from `from` on, which is an earlier check's `checked_bytes`, or 0.
// Errors: DATA_LOSS/RECORD_DAMAGED naming file and byte; NOT_FOUND; CANCELLED by `progress`; the
//   operating system's.
absl::StatusOr<WalCheck> CheckWalFile(const std::string& path, int64_t from,
                                      const CheckProgress& progress = nullptr);

// Whether the file ends in a record that is not whole: what a crash leaves.
bool HasTornEnd(const std::string& path);

// Whether the file is damaged in its last record only, and sectors of its first damaged fragment
// read as zeros (as far as the fragment lies in them): what a power loss leaves of a write that was
// not synced. A flipped bit is none of that, whatever is missing behind it.
bool LacksSectorsOfItsLastRecord(const std::string& path);

// Of RocksDB's directory: the last write-ahead log that has something; empty: none has.
std::string LastWal(const std::string& directory);

// Whether that is all the damage of the logs in RocksDB's directory: then they are read, and go on,
// without that write, if the high-water mark knows nothing of it.
bool LacksOnlySectorsOfLastWrite(const std::string& directory);

// For people: what a start drops of those logs, which are whole otherwise; empty: nothing.
// `lacks_sectors`: LacksOnlySectorsOfLastWrite().
std::string UnacknowledgedEnd(const std::string& directory, bool lacks_sectors);

// CRC-32C (Castagnoli) of `bytes`, going on from `crc`.
uint32_t Crc32c(uint32_t crc, absl::string_view bytes);

}  // namespace icepie

#endif  // ICEPIE_CORE_LOG_WAL_CHECK_H_
