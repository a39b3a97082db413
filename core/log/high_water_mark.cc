#include "core/log/high_water_mark.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <optional>
#include <tuple>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/base/file.h"
#include "core/base/page_cache.h"
#include "core/base/status.h"
#include "core/byte_order.h"

namespace icepie {
namespace {

constexpr absl::string_view kMagic = "IPHW";
constexpr uint32_t kWithoutRoot = 1;  // format versions
constexpr uint32_t kWithRoot = 2;
constexpr uint32_t kWithChanges = 3;
constexpr size_t kPositionEnd = 16;  // magic, version, position
constexpr size_t kRootEnd = kPositionEnd + 32;
constexpr size_t kChangesEnd = kRootEnd + 8;
constexpr size_t kSlotDistance = 512;  // a disk sector: a torn write damages one slot only
// Beside a writer, a slot may be read while it is half written; no writer does that to one look
// after the other.
constexpr int kLooks = 20;
constexpr absl::Duration kLookPause = absl::Milliseconds(1);

std::string EncodeSlot(const HighWater& value) {
  std::string slot(kMagic);
  PutLittleEndian(slot, kWithChanges);
  PutLittleEndian(slot, value.position);
  const Digest root = value.root.value_or(Digest{});  // no SHA-256 that anybody knows is zero
  slot.append(root.data(), root.size());
  PutLittleEndian(slot, value.changes);
  PutLittleEndian(slot, static_cast<uint64_t>(XXH3_64bits(slot.data(), slot.size())));
  return slot;
}

// Bytes before the checksum; 0: no version that is known.
size_t CoveredBytes(uint32_t version) {
  if (version == kWithoutRoot) return kPositionEnd;
  if (version == kWithRoot) return kRootEnd;
  return version == kWithChanges ? kChangesEnd : 0;
}

std::optional<HighWater> DecodeSlot(absl::string_view file, size_t start) {
  if (file.size() < start + kPositionEnd) return std::nullopt;
  const absl::string_view slot = file.substr(start, kSlotDistance);
  if (slot.substr(0, kMagic.size()) != kMagic) return std::nullopt;
  const auto version = GetLittleEndian<uint32_t>(slot.data() + 4);
  const size_t covered = CoveredBytes(version);
  if (covered == 0 || slot.size() < covered + sizeof(uint64_t) ||
      GetLittleEndian<uint64_t>(slot.data() + covered) != XXH3_64bits(slot.data(), covered)) {
    return std::nullopt;
  }
  HighWater value;
  value.position = GetLittleEndian<int64_t>(slot.data() + 8);
  if (version >= kWithRoot) value.root = DigestFrom(slot.substr(kPositionEnd, 32));
  if (value.root == Digest{}) value.root.reset();
  if (version == kWithChanges) value.changes = GetLittleEndian<int64_t>(slot.data() + kRootEnd);
  return value;
}

// With its checksum; 0: it is not known.
size_t SlotBytes(absl::string_view file, size_t start) {
  if (file.size() < start + kMagic.size() + sizeof(uint32_t)) return 0;
  const auto version = GetLittleEndian<uint32_t>(file.data() + start + kMagic.size());
  const size_t covered = CoveredBytes(version);
  return covered == 0 ? 0 : covered + sizeof(uint64_t);
}

// Whether there are only zeros between the whole slots, and nothing behind them.
bool IsEmptyBeside(absl::string_view file) {
  const size_t first = SlotBytes(file, 0);
  const absl::string_view between = file.substr(first, kSlotDistance - first);
  return between.find_first_not_of('\0') == absl::string_view::npos &&
         file.size() == kSlotDistance + SlotBytes(file, kSlotDistance);
}

// The whole slots of a file.
struct Slots {
  explicit Slots(absl::string_view file)
      : first(DecodeSlot(file, 0)), second(DecodeSlot(file, kSlotDistance)) {}

  // Whether the first was written last.
  bool FirstIsNewer() const {
    if (!first || !second) return first.has_value();
    return std::tie(first->position, first->changes) >= std::tie(second->position, second->changes);
  }
  const std::optional<HighWater>& Newer() const { return FirstIsNewer() ? first : second; }

  std::optional<HighWater> first;
  std::optional<HighWater> second;
};

std::string NewFile(const HighWater& value) {
  const std::string slot = EncodeSlot(value);
  return slot + std::string(kSlotDistance - slot.size(), '\0') + slot;
}

}  // namespace

absl::StatusOr<HighWater> HighWaterMark::Read(const std::string& path) {
  ICEPIE_ASSIGN_OR_RETURN(const std::string file, ReadFile(path));
  const std::optional<HighWater> newer = Slots(file).Newer();
  if (!newer) return absl::DataLossError(absl::StrCat("high-water mark ", path, " is damaged"));
  return *newer;
}

absl::StatusOr<HighWater> HighWaterMark::Check(const std::string& path, int64_t acknowledged) {
  DropFromPageCache(path);
  absl::Status damage;
  for (int look = 0; look < kLooks; ++look) {
    if (look > 0) absl::SleepFor(kLookPause);
    ICEPIE_ASSIGN_OR_RETURN(const std::string file, ReadFile(path));
    const Slots slots(file);
    if (!slots.first || !slots.second) {
      damage =
          absl::DataLossError(absl::StrCat("a slot of the high-water mark ", path, " is damaged"));
      continue;
    }
    if (!IsEmptyBeside(file)) {
      damage = absl::DataLossError(
          absl::StrCat("the high-water mark ", path, " is damaged beside its slots"));
      continue;
    }
    const HighWater mark = *slots.Newer();
    if (mark.position >= acknowledged) return mark;
    damage =
        absl::DataLossError(absl::StrCat("the high-water mark ", path, " says ", mark.position,
                                         ", but ", acknowledged, " records were acknowledged"));
  }
  return damage;
}

absl::Status HighWaterMark::Reset(const std::string& path, const HighWater& value) {
  return WriteFileAtomically(path, NewFile(value));
}

absl::StatusOr<std::unique_ptr<HighWaterMark>> HighWaterMark::Open(const std::string& path,
                                                                   const HighWater& value) {
  if (::access(path.c_str(), F_OK) != 0) {
    ICEPIE_RETURN_IF_ERROR(WriteFileAtomically(path, NewFile(value)));
  }
  ICEPIE_ASSIGN_OR_RETURN(const std::string file, ReadFile(path));
  const Slots slots(file);
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoError(errno, absl::StrCat("open ", path));
  auto mark = absl::WrapUnique(
      new HighWaterMark(path, fd, slots.Newer().value_or(value), slots.FirstIsNewer()));
  if (!slots.first || !slots.second) {
    spdlog::warn("core: a slot of the high-water mark {} was damaged and is made anew", path);
    const MutexLock lock(mark->mutex_);
    ICEPIE_RETURN_IF_ERROR(mark->WriteSlot());
  }
  return mark;
}

HighWaterMark::~HighWaterMark() { ::close(fd_); }

absl::Status HighWaterMark::Write(const HighWater& value) {
  const MutexLock lock(mutex_);
  value_ = value;
  return WriteSlot();
}

absl::Status HighWaterMark::WriteRecords(int64_t position, const std::optional<Digest>& root) {
  const MutexLock lock(mutex_);
  value_.position = position;
  value_.root = root;
  return WriteSlot();
}

absl::Status HighWaterMark::WriteChanges(int64_t changes) {
  const MutexLock lock(mutex_);
  value_.changes = changes;
  return WriteSlot();
}

absl::Status HighWaterMark::WriteSlot() {
  const std::string slot = EncodeSlot(value_);
  off_t place = next_is_second_ ? kSlotDistance : 0;
  next_is_second_ = !next_is_second_;
  for (absl::string_view left = slot; !left.empty();) {
    const ssize_t written = ::pwrite(fd_, left.data(), left.size(), place);
    if (written < 0) {
      if (errno == EINTR) continue;
      return ErrnoError(errno, absl::StrCat("write ", path_));
    }
    left.remove_prefix(static_cast<size_t>(written));
    place += written;
  }
  return absl::OkStatus();
}

absl::Status HighWaterMark::Sync() {
  if (::fdatasync(fd_) != 0) return ErrnoError(errno, absl::StrCat("fdatasync ", path_));
  return absl::OkStatus();
}

}  // namespace icepie
