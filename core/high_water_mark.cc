#include "core/high_water_mark.h"

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/byte_order.h"

namespace icepie {
namespace {

constexpr absl::string_view kMagic = "IPHW";
constexpr uint32_t kFormatVersion = 1;
constexpr size_t kCoveredBytes = 16;  // magic, version, position
constexpr size_t kSlotBytes = kCoveredBytes + 8;
constexpr size_t kSlotDistance = 512;  // a disk sector: a torn write damages one slot only

std::string EncodeSlot(int64_t position) {
  std::string slot(kMagic);
  PutLittleEndian(slot, kFormatVersion);
  PutLittleEndian(slot, position);
  PutLittleEndian(slot, static_cast<uint64_t>(XXH3_64bits(slot.data(), slot.size())));
  return slot;
}

std::optional<int64_t> DecodeSlot(absl::string_view file, size_t start) {
  if (file.size() < start + kSlotBytes) return std::nullopt;
  const absl::string_view slot = file.substr(start, kSlotBytes);
  if (slot.substr(0, kMagic.size()) != kMagic) return std::nullopt;
  if (GetLittleEndian<uint32_t>(slot.data() + 4) != kFormatVersion) return std::nullopt;
  if (GetLittleEndian<uint64_t>(slot.data() + kCoveredBytes) !=
      XXH3_64bits(slot.data(), kCoveredBytes)) {
    return std::nullopt;
  }
  return GetLittleEndian<int64_t>(slot.data() + 8);
}

std::string NewFile(int64_t position) {
  std::string file = EncodeSlot(position);
  file.resize(kSlotDistance, '\0');
  return file + EncodeSlot(position);
}

}  // namespace

absl::StatusOr<int64_t> HighWaterMark::Read(const std::string& path) {
  ICEPIE_ASSIGN_OR_RETURN(const std::string file, ReadFile(path));
  const std::optional<int64_t> first = DecodeSlot(file, 0);
  const std::optional<int64_t> second = DecodeSlot(file, kSlotDistance);
  if (!first && !second) {
    return absl::DataLossError(absl::StrCat("high-water mark ", path, " is damaged"));
  }
  return std::max(first.value_or(0), second.value_or(0));
}

absl::Status HighWaterMark::Reset(const std::string& path, int64_t position) {
  return WriteFileAtomically(path, NewFile(position));
}

absl::StatusOr<std::unique_ptr<HighWaterMark>> HighWaterMark::Open(const std::string& path,
                                                                   int64_t position) {
  if (::access(path.c_str(), F_OK) != 0) {
    ICEPIE_RETURN_IF_ERROR(WriteFileAtomically(path, NewFile(position)));
  }
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoError(errno, absl::StrCat("open ", path));
  return absl::WrapUnique(new HighWaterMark(path, fd));
}

HighWaterMark::~HighWaterMark() { ::close(fd_); }

absl::Status HighWaterMark::Write(int64_t position) {
  const std::string slot = EncodeSlot(position);
  const auto place = static_cast<off_t>(kSlotDistance * (writes_++ % 2));
  if (::pwrite(fd_, slot.data(), slot.size(), place) != static_cast<ssize_t>(slot.size())) {
    return ErrnoError(errno, absl::StrCat("write ", path_));
  }
  return absl::OkStatus();
}

absl::Status HighWaterMark::Sync() {
  if (::fdatasync(fd_) != 0) return ErrnoError(errno, absl::StrCat("fdatasync ", path_));
  return absl::OkStatus();
}

}  // namespace icepie
