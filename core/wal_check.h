// Reads a write-ahead log as a file, beside whoever writes it, and compares every record's
// checksum: what is in memory still has its only durable copy there.
//
// The form is RocksDB's (its "Write Ahead Log File Format"): blocks of 32 KiB, in them fragments of
// a masked CRC-32C (u32 LE) of type and bytes, their number (u16 LE), a type (1 a whole record, 2
// its begin, 3 its middle, 4 its end) and the bytes; less than 7 bytes at a block's end are zero.
#ifndef ICEPIE_CORE_WAL_CHECK_H_
#define ICEPIE_CORE_WAL_CHECK_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace icepie {

struct WalCheck {
  int64_t checked_bytes = 0;  // where the last block begins that may still change
  bool is_whole = true;       // the file ends with a record's end
};

// Of the file's bytes from `from` on, which an earlier check has given, or 0.
// Errors: DATA_LOSS/RECORD_DAMAGED naming file and byte; NOT_FOUND; the operating system's.
absl::StatusOr<WalCheck> CheckWalFile(const std::string& path, int64_t from);

// Whether the file ends in a record that is not whole: what a crash leaves.
bool HasTornEnd(const std::string& path);

// CRC-32C (Castagnoli) of `bytes`, going on from `crc`.
uint32_t Crc32c(uint32_t crc, absl::string_view bytes);

}  // namespace icepie

#endif  // ICEPIE_CORE_WAL_CHECK_H_
