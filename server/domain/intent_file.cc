#include "server/domain/intent_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "server/base/numbered_pairs.h"

namespace icepie::server {
namespace {

constexpr absl::string_view kIntentMagic = "IPIN";
constexpr size_t kHalfBytes = size_t{2} << 20;
constexpr size_t kEarlierHalfBytes = size_t{64} << 10;  // of earlier versions

}  // namespace

bool IntentFile::Decode(absl::string_view half) {
  std::optional<NumberedPairs> found = DecodePairs(kIntentMagic, half);
  if (!found) return false;
  if (found->number < number_) return true;  // whole, but the older one
  number_ = found->number;
  intents_ = std::move(found->pairs);
  return true;
}

absl::Status IntentFile::Open() {
  const absl::StatusOr<std::string> file = ReadFile(path_);
  if (absl::IsNotFound(file.status())) return Make({});
  if (!file.ok()) return file.status();
  const absl::string_view bytes = *file;
  // Of a damaged file of another size, too, the halves are where they were written.
  half_bytes_ = bytes.size() <= 2 * kEarlierHalfBytes ? kEarlierHalfBytes : kHalfBytes;
  const bool first = Decode(bytes);
  const bool second = Decode(bytes.substr(std::min(half_bytes_, bytes.size())));
  if (!first && !second) {
    return absl::DataLossError(absl::StrCat("intent file ", path_, " is damaged"));
  }
  if (bytes.size() != 2 * kHalfBytes) Make(intents_).IgnoreError();  // at the next start, then
  return absl::OkStatus();
}

// Takes its room.
absl::Status IntentFile::Make(const Intents& intents) {
  std::string halves = EncodePairs(kIntentMagic, {0, intents});
  halves.resize(2 * kHalfBytes, '\0');
  ICEPIE_RETURN_IF_ERROR(MakeDirectories(std::filesystem::path(path_).parent_path().string()));
  ICEPIE_RETURN_IF_ERROR(WriteFileAtomically(path_, halves));
  number_ = 0;
  half_bytes_ = kHalfBytes;
  return absl::OkStatus();
}

absl::Status IntentFile::Save(Intents intents) {
  // Made at the start; where the disk was full even then, perhaps now.
  if (::access(path_.c_str(), F_OK) != 0) ICEPIE_RETURN_IF_ERROR(Open());
  if (half_bytes_ == 0) ICEPIE_RETURN_IF_ERROR(Make({}));
  const std::string half = EncodePairs(kIntentMagic, {number_ + 1, intents});
  if (half.size() > half_bytes_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("intent file ", path_, " has no room for ", intents.size(), " intents"));
  }
  const int fd = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoError(errno, absl::StrCat("open ", path_));
  const auto place = static_cast<off_t>((number_ + 1) % 2) * static_cast<off_t>(half_bytes_);
  const bool written =
      ::pwrite(fd, half.data(), half.size(), place) == static_cast<ssize_t>(half.size()) &&
      ::fdatasync(fd) == 0;
  const int error = errno;
  ::close(fd);
  if (!written) return ErrnoError(error, absl::StrCat("write ", path_));
  ++number_;
  intents_ = std::move(intents);
  return absl::OkStatus();
}

}  // namespace icepie::server
