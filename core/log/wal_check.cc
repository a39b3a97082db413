#include "core/log/wal_check.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/directory.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/byte_order.h"

namespace icepie {
namespace {

constexpr size_t kBlockBytes = 32768;
constexpr size_t kHeaderBytes = 7;
constexpr size_t kLengthPlace = 4;
constexpr size_t kTypePlace = 6;
constexpr size_t kSectorBytes = 512;  // of a disk, at least
constexpr int64_t kProgressBytes = int64_t{256} << 10;
constexpr uint32_t kMaskDelta = 0xa282ead8;

enum FragmentType : uint8_t { kWhole = 1, kBegin = 2, kMiddle = 3, kEnd = 4 };

constexpr std::array<uint32_t, 256> MakeTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < table.size(); ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78 : 0);
    table[byte] = crc;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kTable = MakeTable();

uint32_t Masked(uint32_t crc) { return ((crc >> 15) | (crc << 17)) + kMaskDelta; }
uint32_t Unmasked(uint32_t masked) {
  const uint32_t turned = masked - kMaskDelta;
  return (turned >> 17) | (turned << 15);
}

class Checker {
 public:
  Checker(const std::string& path, int fd, const CheckProgress& progress)
      : path_(path), fd_(fd), progress_(progress), block_(kBlockBytes, '\0') {}

  absl::StatusOr<WalCheck> Run(int64_t from) {
    for (place_ = from;; place_ += static_cast<int64_t>(kBlockBytes)) {
      ICEPIE_ASSIGN_OR_RETURN(const size_t bytes, ReadBlock());
      ICEPIE_ASSIGN_OR_RETURN(const bool is_whole,
                              CheckFragments(absl::string_view(block_).substr(0, bytes)));
      const bool is_end = bytes < kBlockBytes;
      ICEPIE_RETURN_IF_ERROR(Tell(static_cast<int64_t>(bytes), is_end));
      if (is_end) return WalCheck{place_, whole_bytes_, is_whole && !in_record_};
    }
  }

  // Whether the damage that Run() has found is what LacksSectorsOfItsLastRecord() asks for.
  absl::StatusOr<bool> LacksSectors() {
    const auto block_bytes = static_cast<int64_t>(kBlockBytes);
    auto at = static_cast<size_t>(damaged_at_ % block_bytes);
    for (place_ = damaged_at_ / block_bytes * block_bytes;; place_ += block_bytes, at = 0) {
      ICEPIE_ASSIGN_OR_RETURN(const size_t bytes, ReadBlock());
      const absl::string_view block = absl::string_view(block_).substr(0, bytes);
      if (place_ <= damaged_at_ && !HasZeroSector(block, at)) return false;
      while (at < bytes) {
        const size_t fragment = FragmentAt(block, at);
        const auto type = fragment == 0 ? 0 : static_cast<uint8_t>(block[at + kTypePlace]);
        if (type == kWhole || type == kBegin) return false;
        at += std::max<size_t>(1, fragment);
      }
      if (bytes < kBlockBytes) return true;
    }
  }

 private:
  // Its bytes; 0: none is there that is whole.
  static size_t FragmentAt(absl::string_view block, size_t at) {
    if (at + kHeaderBytes > block.size()) return 0;
    const auto type = static_cast<uint8_t>(block[at + kTypePlace]);
    if (type < kWhole || type > kEnd) return 0;
    const size_t length = GetLittleEndian<uint16_t>(block.data() + at + kLengthPlace);
    if (at + kHeaderBytes + length > block.size()) return 0;
    const absl::string_view covered = block.substr(at + kTypePlace, 1 + length);
    if (Masked(Crc32c(0, covered)) != GetLittleEndian<uint32_t>(block.data() + at)) return 0;
    return kHeaderBytes + length;
  }

  // Of the damaged fragment at `at`: what it has in one of the sectors that it lies in, for no
  // other reason than that the sector is lost. Blocks are compressed, so a whole sector of zeros
  // was not written; fewer zeros may have been.
  static bool HasZeroSector(absl::string_view block, size_t at) {
    if (at + kHeaderBytes > block.size()) return false;
    const size_t length = GetLittleEndian<uint16_t>(block.data() + at + kLengthPlace);
    const size_t end = at + kHeaderBytes + length;
    if (end > block.size() || HasFlippedLength(block, at, length)) return false;
    bool has_part = false;
    for (size_t sector = at / kSectorBytes * kSectorBytes; sector < end; sector += kSectorBytes) {
      const size_t from = std::max(at, sector);
      const size_t to = std::min(end, sector + kSectorBytes);
      if (block.substr(from, to - from).find_first_not_of('\0') != absl::string_view::npos) {
        continue;
      }
      if (to - from == kSectorBytes) return true;
      has_part = true;
    }
    return has_part && !HasFlippedBit(block, at, length);
  }

  // Whether the damaged fragment would be whole with one bit of its length changed: too large, it
  // reaches into the zeros of the next write.
  static bool HasFlippedLength(absl::string_view block, size_t at, size_t length) {
    const auto stored = GetLittleEndian<uint32_t>(block.data() + at);
    uint32_t crc = 0;
    for (size_t i = at + kTypePlace; i < block.size(); ++i) {
      crc = Crc32c(crc, block.substr(i, 1));
      const size_t other = i - at - kTypePlace;
      if (Masked(crc) == stored && std::has_single_bit(other ^ length)) return true;
    }
    return false;
  }

  // The same of its checksum, and of what that covers.
  static bool HasFlippedBit(absl::string_view block, size_t at, size_t length) {
    const auto stored = GetLittleEndian<uint32_t>(block.data() + at);
    const uint32_t crc = Crc32c(0, block.substr(at + kTypePlace, 1 + length));
    if (std::has_single_bit(Masked(crc) ^ stored)) return true;
    // What each bit of a byte changes in the checksum, from the last byte backwards.
    std::array<uint32_t, 8> changes{};
    for (size_t bit = 0; bit < changes.size(); ++bit) changes[bit] = kTable[size_t{1} << bit];
    for (size_t i = 0; i < 1 + length; ++i) {
      for (uint32_t& change : changes) {
        if ((crc ^ change) == Unmasked(stored)) return true;
        change = (change >> 8) ^ kTable[change & 0xff];
      }
    }
    return false;
  }

  absl::Status Tell(int64_t bytes, bool is_end) {
    untold_ += bytes;
    if (!progress_ || (untold_ < kProgressBytes && !is_end)) return absl::OkStatus();
    if (!progress_(std::exchange(untold_, 0))) {
      return absl::CancelledError(absl::StrCat("the check of ", path_, " was ended"));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<size_t> ReadBlock() {
    size_t done = 0;
    while (done < kBlockBytes) {
      const ssize_t got = ::pread(fd_, block_.data() + done, kBlockBytes - done,
                                  static_cast<off_t>(place_ + static_cast<int64_t>(done)));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return ErrnoError(errno, absl::StrCat("read ", path_));
      if (got == 0) break;
      done += static_cast<size_t>(got);
    }
    return done;
  }

  // False when the last fragment is not there as a whole: the file ends in it.
  absl::StatusOr<bool> CheckFragments(absl::string_view block) {
    size_t at = 0;
    while (at + kHeaderBytes <= kBlockBytes) {
      if (at == block.size()) return true;
      if (at + kHeaderBytes > block.size()) return false;
      const absl::string_view header = block.substr(at, kHeaderBytes);
      const size_t length = GetLittleEndian<uint16_t>(header.data() + kLengthPlace);
      const size_t end = at + kHeaderBytes + length;
      if (end > kBlockBytes) return Damaged(at, "a record's length is wrong");
      if (end > block.size()) return false;
      const absl::string_view covered = block.substr(at + kTypePlace, 1 + length);
      if (Masked(Crc32c(0, covered)) != GetLittleEndian<uint32_t>(header.data())) {
        return Damaged(at, "a record's checksum is wrong");
      }
      const auto type = static_cast<uint8_t>(header[kTypePlace]);
      if (type < kWhole || type > kEnd) return Damaged(at, "a record's type is unknown");
      in_record_ = type == kBegin || type == kMiddle;
      at = end;
      if (!in_record_) whole_bytes_ = place_ + static_cast<int64_t>(at);
    }
    if (block.size() < kBlockBytes) return at == block.size();
    if (block.find_first_not_of('\0', at) == absl::string_view::npos) return true;
    return Damaged(at, "the rest of a block is not zero");
  }

  absl::Status Damaged(size_t at, absl::string_view what) {
    damaged_at_ = place_ + static_cast<int64_t>(at);
    return MakeError(absl::StatusCode::kDataLoss,
                     absl::StrCat(path_, ": ", what, " at byte ", damaged_at_), "RECORD_DAMAGED",
                     {{"file", path_}});
  }

  const std::string& path_;
  const int fd_;
  const CheckProgress& progress_;
  std::string block_;
  int64_t place_ = 0;  // of the block
  int64_t whole_bytes_ = 0;
  int64_t damaged_at_ = 0;
  int64_t untold_ = 0;
  bool in_record_ = false;  // the last fragment goes on in the next one
};

}  // namespace

uint32_t Crc32c(uint32_t crc, absl::string_view bytes) {
  crc = ~crc;
  for (const char byte : bytes) {
    crc = kTable[(crc ^ static_cast<uint8_t>(byte)) & 0xff] ^ (crc >> 8);
  }
  return ~crc;
}

absl::StatusOr<WalCheck> CheckWalFile(const std::string& path, int64_t from,
                                      const CheckProgress& progress) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoError(errno, absl::StrCat("open ", path));
  absl::StatusOr<WalCheck> check = Checker(path, fd, progress).Run(from);
  ::close(fd);
  return check;
}

bool LacksSectorsOfItsLastRecord(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const CheckProgress untold;
  Checker checker(path, fd, untold);
  const bool is_damaged = absl::IsDataLoss(checker.Run(0).status());
  const absl::StatusOr<bool> lacks =
      is_damaged ? checker.LacksSectors() : absl::StatusOr<bool>(false);
  ::close(fd);
  return lacks.ok() && *lacks;
}

bool HasTornEnd(const std::string& path) {
  std::error_code error;
  const auto bytes = static_cast<int64_t>(std::filesystem::file_size(path, error));
  if (error) return false;
  // Fragments begin with their block, so no more than the last ones need be read.
  constexpr auto kBlock = static_cast<int64_t>(kBlockBytes);
  const absl::StatusOr<WalCheck> end =
      CheckWalFile(path, std::max<int64_t>(0, bytes / kBlock - 1) * kBlock);
  return absl::IsDataLoss(end.status()) || (end.ok() && !end->is_whole);
}

std::string LastWal(const std::string& directory) {
  std::error_code error;
  std::filesystem::path last;
  for (const auto& file : DirectoryEntries(directory, error)) {
    if (file.path().extension() != ".log" || file.file_size(error) == 0 || error) continue;
    last = std::max(last, file.path());
  }
  return last.string();
}

bool LacksOnlySectorsOfLastWrite(const std::string& directory) {
  const std::string last = LastWal(directory);
  if (last.empty() || !LacksSectorsOfItsLastRecord(last)) return false;
  std::error_code error;
  for (const auto& file : DirectoryEntries(directory, error)) {
    const std::string path = file.path().string();
    if (file.path().extension() != ".log" || path == last) continue;
    const absl::StatusOr<WalCheck> check = CheckWalFile(path, 0);
    if (!check.ok() || !check->is_whole) return false;
  }
  return !error;
}

std::string UnacknowledgedEnd(const std::string& directory, bool lacks_sectors) {
  const std::string last = LastWal(directory);
  if (lacks_sectors) {
    return absl::StrCat(last,
                        " lacks sectors of its last write, which a power loss has cut off: it was "
                        "never acknowledged");
  }
  if (last.empty() || !HasTornEnd(last)) return "";
  return absl::StrCat(
      last, " ends within a record, which a crash has cut off: it was never acknowledged");
}

}  // namespace icepie
