#include "core/wal_check.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
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

  // Behind the last record that Run() has found whole.
  absl::StatusOr<bool> LacksSectorsOfOneRecord() {
    const auto block_bytes = static_cast<int64_t>(kBlockBytes);
    int64_t begin = whole_bytes_;
    if (block_bytes - begin % block_bytes < static_cast<int64_t>(kHeaderBytes)) {
      begin += block_bytes - begin % block_bytes;
    }
    bool lacks = false;
    for (place_ = begin / block_bytes * block_bytes;; place_ += block_bytes) {
      ICEPIE_ASSIGN_OR_RETURN(const size_t bytes, ReadBlock());
      const absl::string_view block = absl::string_view(block_).substr(0, bytes);
      for (auto at = static_cast<size_t>(std::max<int64_t>(0, begin - place_)); at < bytes;) {
        const size_t fragment = FragmentAt(block, at);
        if (fragment == 0) {
          const absl::string_view sector = block.substr(at, kSectorBytes);
          lacks = lacks || (at % kSectorBytes == 0 && sector.size() == kSectorBytes &&
                            sector.find_first_not_of('\0') == absl::string_view::npos);
          ++at;
          continue;
        }
        const auto type = static_cast<uint8_t>(block[at + kTypePlace]);
        const bool begins = type == kWhole || type == kBegin;
        if (begins && place_ + static_cast<int64_t>(at) != begin) return false;
        at += fragment;
      }
      if (bytes < kBlockBytes) return lacks;
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

  absl::Status Damaged(size_t at, absl::string_view what) const {
    return MakeError(
        absl::StatusCode::kDataLoss,
        absl::StrCat(path_, ": ", what, " at byte ", place_ + static_cast<int64_t>(at)),
        "RECORD_DAMAGED", {{"file", path_}});
  }

  const std::string& path_;
  const int fd_;
  const CheckProgress& progress_;
  std::string block_;
  int64_t place_ = 0;  // of the block
  int64_t whole_bytes_ = 0;
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
      is_damaged ? checker.LacksSectorsOfOneRecord() : absl::StatusOr<bool>(false);
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

}  // namespace icepie
