#include "server/intent_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/byte_order.h"

namespace icepie::server {
namespace {

constexpr absl::string_view kMagic = "IPIN";
constexpr uint32_t kFormatVersion = 1;
constexpr size_t kHalfBytes = size_t{64} << 10;
constexpr size_t kHeaderBytes = 20;
constexpr size_t kChecksumBytes = 64;

void PutBytes(std::string& out, absl::string_view bytes) {
  PutLittleEndian(out, static_cast<uint32_t>(bytes.size()));
  out.append(bytes.data(), bytes.size());
}

// False when `in` does not begin with as many bytes as it says.
bool TakeBytes(absl::string_view& in, std::string& out) {
  if (in.size() < sizeof(uint32_t)) return false;
  const size_t size = GetLittleEndian<uint32_t>(in.data());
  in.remove_prefix(sizeof(uint32_t));
  if (in.size() < size) return false;
  out = std::string(in.substr(0, size));
  in.remove_prefix(size);
  return true;
}

std::string Encode(uint64_t number, const IntentFile::Intents& intents) {
  std::string body;
  for (const auto& [name, state] : intents) {
    PutBytes(body, name);
    PutBytes(body, state);
  }
  std::string half(kMagic);
  PutLittleEndian(half, kFormatVersion);
  PutLittleEndian(half, number);
  PutBytes(half, body);
  return half + Sha256Hex(half);
}

}  // namespace

bool IntentFile::Decode(absl::string_view half) {
  if (half.size() < kHeaderBytes || half.substr(0, kMagic.size()) != kMagic ||
      GetLittleEndian<uint32_t>(half.data() + 4) != kFormatVersion) {
    return false;
  }
  const auto number = GetLittleEndian<uint64_t>(half.data() + 8);
  const size_t covered = kHeaderBytes + GetLittleEndian<uint32_t>(half.data() + 16);
  if (half.size() < covered + kChecksumBytes ||
      half.substr(covered, kChecksumBytes) != Sha256Hex(half.substr(0, covered))) {
    return false;
  }
  if (number < number_) return true;  // whole, but the older one
  Intents intents;
  absl::string_view body = half.substr(kHeaderBytes, covered - kHeaderBytes);
  for (std::string name, state; !body.empty(); intents[name] = state) {
    if (!TakeBytes(body, name) || !TakeBytes(body, state)) return false;
  }
  number_ = number;
  intents_ = std::move(intents);
  return true;
}

absl::Status IntentFile::Open() {
  const absl::StatusOr<std::string> file = ReadFile(path_);
  if (absl::IsNotFound(file.status())) {
    std::string halves = Encode(0, {});
    halves.resize(2 * kHalfBytes, '\0');
    ICEPIE_RETURN_IF_ERROR(MakeDirectories(std::filesystem::path(path_).parent_path().string()));
    return WriteFileAtomically(path_, halves);
  }
  if (!file.ok()) return file.status();
  const absl::string_view bytes = *file;
  const bool first = Decode(bytes.substr(0, kHalfBytes));
  const bool second = bytes.size() > kHalfBytes && Decode(bytes.substr(kHalfBytes));
  if (first || second) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("intent file ", path_, " is damaged"));
}

absl::Status IntentFile::Save(Intents intents) {
  const std::string half = Encode(number_ + 1, intents);
  if (half.size() > kHalfBytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("intent file ", path_, " has no room for ", intents.size(), " intents"));
  }
  // Made at the start; where the disk was full even then, perhaps now.
  if (::access(path_.c_str(), F_OK) != 0) ICEPIE_RETURN_IF_ERROR(Open());
  const int fd = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoError(errno, absl::StrCat("open ", path_));
  const auto place = static_cast<off_t>((number_ + 1) % 2 * kHalfBytes);
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
