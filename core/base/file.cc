#include "core/base/file.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/status.h"

namespace icepie {
namespace {

constexpr size_t kReadSize = size_t{1} << 18;

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

using DigestContext = std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)>;

DigestContext NewSha256() {
  DigestContext context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  ICEPIE_CHECK(context != nullptr && EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1);
  return context;
}

std::string FinishHex(EVP_MD_CTX* context) {
  std::array<unsigned char, 32> digest{};
  ICEPIE_CHECK(EVP_DigestFinal_ex(context, digest.data(), nullptr) == 1);
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest.data()), digest.size()));
}

absl::Status SyncPath(const std::string& path, int flags) {
  const FileDescriptor file(::open(path.c_str(), flags | O_CLOEXEC));
  if (file.get() < 0) return ErrnoError(errno, absl::StrCat("open ", path));
  if (::fsync(file.get()) != 0) return ErrnoError(errno, absl::StrCat("fsync ", path));
  return absl::OkStatus();
}

}  // namespace

absl::Status ErrnoError(int error, absl::string_view doing) {
  return absl::ErrnoToStatus(error, doing);
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return ErrnoError(errno, absl::StrCat("open ", path));
  std::string content;
  std::string buffer(kReadSize, '\0');
  while (true) {
    const ssize_t got = ::read(file.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoError(errno, absl::StrCat("read ", path));
    if (got == 0) return content;
    content.append(buffer.data(), static_cast<size_t>(got));
  }
}

absl::Status WriteAll(int fd, absl::string_view content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t written = ::write(fd, content.data(), content.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return ErrnoError(errno, absl::StrCat("write ", path));
    }
    content.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status SyncDirectory(const std::string& path) {
  return SyncPath(path, O_RDONLY | O_DIRECTORY);
}

absl::Status SyncFile(const std::string& path) { return SyncPath(path, O_RDONLY); }

absl::Status WriteFileAtomically(const std::string& path, absl::string_view content, int mode) {
  const std::string temporary = absl::StrCat(path, ".tmp", ::getpid());
  absl::Status status = [&]() -> absl::Status {
    const FileDescriptor file(
        ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
    if (file.get() < 0) return ErrnoError(errno, absl::StrCat("create ", temporary));
    ICEPIE_RETURN_IF_ERROR(WriteAll(file.get(), content, temporary));
    if (::fsync(file.get()) != 0) return ErrnoError(errno, absl::StrCat("fsync ", temporary));
    return absl::OkStatus();
  }();
  if (status.ok() && ::rename(temporary.c_str(), path.c_str()) != 0) {
    status = ErrnoError(errno, absl::StrCat("rename ", temporary, " to ", path));
  }
  if (!status.ok()) {
    ::unlink(temporary.c_str());
    return status;
  }
  const std::string directory = std::filesystem::path(path).parent_path().string();
  return SyncDirectory(directory.empty() ? "." : directory);
}

absl::Status MakeDirectories(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return absl::OkStatus();
  const std::filesystem::path full = std::filesystem::absolute(path).lexically_normal();
  const std::filesystem::path name = full.has_filename() ? full : full.parent_path();
  const std::string parent = name.parent_path().string();
  ICEPIE_RETURN_IF_ERROR(MakeDirectories(parent));
  if (::mkdir(name.c_str(), 0777) != 0 && errno != EEXIST) {
    return ErrnoError(errno, absl::StrCat("create directory ", path));
  }
  if (!std::filesystem::is_directory(name, error)) {
    return ErrnoError(ENOTDIR, absl::StrCat("create directory ", path));
  }
  return SyncDirectory(parent);
}

absl::StatusOr<std::string> Sha256OfFile(const std::string& path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return ErrnoError(errno, absl::StrCat("open ", path));
  const DigestContext context = NewSha256();
  std::string buffer(kReadSize, '\0');
  while (true) {
    const ssize_t got = ::read(file.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoError(errno, absl::StrCat("read ", path));
    if (got == 0) return FinishHex(context.get());
    ICEPIE_CHECK(EVP_DigestUpdate(context.get(), buffer.data(), static_cast<size_t>(got)) == 1);
  }
}

std::string Sha256Hex(absl::string_view bytes) {
  const DigestContext context = NewSha256();
  ICEPIE_CHECK(EVP_DigestUpdate(context.get(), bytes.data(), bytes.size()) == 1);
  return FinishHex(context.get());
}

}  // namespace icepie
