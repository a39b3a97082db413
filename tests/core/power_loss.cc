#include "tests/core/power_loss.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <utility>

#include "absl/strings/match.h"
#include "core/base/check.h"

namespace icepie {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kSmallBytes = 4096;

std::atomic<PowerLoss*> the_machine{nullptr};

std::string DescriptorPath(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

std::string ReadWhole(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace

PowerLoss::PowerLoss(std::string root, std::string vault)
    : root_(fs::canonical(root).string()), vault_(std::move(vault)) {
  ICEPIE_CHECK(the_machine.exchange(this) == nullptr);
}

PowerLoss::~PowerLoss() { the_machine.store(nullptr); }

void PowerLoss::Stop() {
  const MutexLock lock(mutex_);
  stopped_ = true;
}

void PowerLoss::FailSync(std::function<bool(const std::string& path)> matches, int n) {
  const MutexLock lock(mutex_);
  fails_ = std::move(matches);
  fails_in_ = n;
  failed_path_.clear();
}

std::string PowerLoss::failed_path() const {
  const MutexLock lock(mutex_);
  return failed_path_;
}

std::string PowerLoss::Durable(const std::string& path) const {
  struct stat file {};
  if (::stat(path.c_str(), &file) != 0) return "";
  const MutexLock lock(mutex_);
  const auto synced = files_.find(file.st_ino);
  return synced == files_.end() ? "" : synced->second.content;
}

bool PowerLoss::Fails(const std::string& path) {
  if (!fails_ || !fails_(path) || --fails_in_ > 0) return false;
  fails_ = nullptr;
  failed_path_ = path;
  return true;
}

std::optional<int> PowerLoss::OnSync(int fd) {
  PowerLoss* const machine = the_machine.load();
  if (machine == nullptr) return std::nullopt;
  std::error_code error;
  const std::string path = fs::read_symlink(DescriptorPath(fd), error).string();
  if (path != machine->root_ && !absl::StartsWith(path, machine->root_ + "/")) return std::nullopt;
  return machine->Sync(fd, path);
}

int PowerLoss::Sync(int fd, const std::string& path) {
  const MutexLock lock(mutex_);
  struct stat file {};
  if (stopped_ || ::fstat(fd, &file) != 0) {
    errno = EIO;
    return -1;
  }
  const bool is_directory = S_ISDIR(file.st_mode);
  if (Fails(path)) {
    if (!is_directory) {
      // A name of it stays, so that no other file gets its number.
      const std::string kept = vault_ + "/failed-" + std::to_string(file.st_ino);
      ::linkat(AT_FDCWD, DescriptorPath(fd).c_str(), AT_FDCWD, kept.c_str(), AT_SYMLINK_FOLLOW);
      failed_files_.insert(file.st_ino);
    }
    errno = EIO;
    return -1;
  }
  if (is_directory) {
    SyncDirectory(path);
  } else if (failed_files_.count(file.st_ino) == 0) {
    SyncFile(fd, file.st_ino, file.st_size);
  }
  return 0;
}

void PowerLoss::SyncFile(int fd, ino_t inode, int64_t bytes) {
  // Fails when it is kept already, or has no name any more.
  ::linkat(AT_FDCWD, DescriptorPath(fd).c_str(), AT_FDCWD, Kept(inode).c_str(), AT_SYMLINK_FOLLOW);
  files_[inode] = {bytes, bytes <= kSmallBytes ? ReadWhole(DescriptorPath(fd)) : ""};
}

void PowerLoss::SyncDirectory(const std::string& path) {
  Entries entries;
  for (const auto& item : fs::directory_iterator(path)) {
    struct stat file {};
    if (::lstat(item.path().c_str(), &file) != 0) continue;  // removed in this moment
    if (S_ISREG(file.st_mode)) ::link(item.path().c_str(), Kept(file.st_ino).c_str());
    entries[item.path().filename().string()] = {S_ISDIR(file.st_mode), file.st_ino};
  }
  directories_[path] = std::move(entries);
}

void PowerLoss::RestoreFile(const std::string& path, ino_t inode) {
  if (::link(Kept(inode).c_str(), path.c_str()) != 0) return;  // a socket
  const Synced& synced = files_[inode];
  if (random_ != nullptr && fs::path(path).extension() == ".log") {
    return LosePages(path, synced.bytes, *random_);
  }
  ICEPIE_CHECK(::truncate(path.c_str(), synced.bytes) == 0);
  if (synced.content.empty()) return;
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file << synced.content;
}

// Pages that have not come to the disk read as zeros, as far as the file's size has.
void PowerLoss::LosePages(const std::string& path, int64_t synced, std::mt19937& random) {
  constexpr int64_t kPageBytes = 4096;
  const auto written = static_cast<int64_t>(fs::file_size(path));
  const bool is_cut = random() % 2 == 0;
  const auto unsynced = static_cast<int64_t>(random()) % (written - synced + 1);
  const int64_t bytes = is_cut ? synced + unsynced : written;
  ICEPIE_CHECK(::truncate(path.c_str(), bytes) == 0);
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  for (int64_t from = synced, to = 0; from < bytes; from = to) {
    to = std::min(bytes, (from / kPageBytes + 1) * kPageBytes);  // the first shares its page
    if (random() % 2 == 0) continue;
    file.seekp(from);
    file << std::string(static_cast<size_t>(to - from), '\0');
  }
}

void PowerLoss::Restore(const std::string& directory) {
  for (const auto& item : fs::directory_iterator(directory)) {
    const auto kept = directories_[directory].find(item.path().filename().string());
    const bool stays =
        item.is_directory() && kept != directories_[directory].end() && kept->second.is_directory;
    if (!stays) fs::remove_all(item.path());
  }
  for (const auto& [name, entry] : directories_[directory]) {
    const std::string path = directory + "/" + name;
    if (entry.is_directory) {
      fs::create_directory(path);
      Restore(path);
    } else {
      RestoreFile(path, entry.inode);
    }
  }
}

void PowerLoss::Lose(std::mt19937* random) {
  const MutexLock lock(mutex_);
  random_ = random;
  Restore(root_);
  random_ = nullptr;
  stopped_ = false;
}

}  // namespace icepie

extern "C" int fsync(int fd) {
  const std::optional<int> done = icepie::PowerLoss::OnSync(fd);
  return done ? *done : static_cast<int>(::syscall(SYS_fsync, fd));
}

extern "C" int fdatasync(int fd) {
  const std::optional<int> done = icepie::PowerLoss::OnSync(fd);
  return done ? *done : static_cast<int>(::syscall(SYS_fdatasync, fd));
}
