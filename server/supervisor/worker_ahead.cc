#include "server/supervisor/worker_ahead.h"

#include <sys/stat.h>

#include <tuple>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/file.h"
#include "spdlog/spdlog.h"

namespace icepie::server {

WorkerAhead::WorkerAhead(EventLoop& loop, WorkerProcessOptions options)
    : loop_(loop), options_(std::move(options)) {}

bool WorkerAhead::Program::operator==(const Program& other) const {
  return std::tie(device, inode, size, modified) ==
         std::tie(other.device, other.inode, other.size, other.modified);
}

WorkerAhead::Program WorkerAhead::ProgramNow() const {
  struct stat info {};
  if (stat(options_.program.c_str(), &info) != 0) return {};
  return {info.st_dev, info.st_ino, info.st_size, absl::TimeFromTimespec(info.st_mtim)};
}

// Also when another library than the one that it runs, or another program behind a script, is there
// now: the kernel says so of each file that is mapped and has gone.
bool WorkerAhead::IsOfThisProgram() const {
  if (!(ProgramNow() == program_)) return false;
  const auto maps = ReadFile(absl::StrCat("/proc/", process_->pid(), "/maps"));
  if (!maps.ok()) return false;
  for (const absl::string_view line : absl::StrSplit(*maps, '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, absl::MaxSplits(' ', 2));
    const bool runs = words.size() > 1 && absl::StrContains(words[1], 'x');
    if (runs && absl::EndsWith(line, " (deleted)")) return false;
  }
  return true;
}

void WorkerAhead::Prepare() {
  if (std::exchange(wanted_, true)) return;
  StartLater();
}

void WorkerAhead::Renew() {
  Take();  // and ends it
  StartLater();
}

void WorkerAhead::StartLater() {
  loop_.Cancel(timer_);
  if (stopped_ || !wanted_) return;
  timer_ = loop_.RunAfter(kDelay, [this] { StartOne(); });
}

void WorkerAhead::StartOne() {
  if (process_ || stopped_) return;
  program_ = ProgramNow();
  auto process = WorkerProcess::SpawnAhead(options_);
  if (process.ok()) {
    const absl::Status watched = loop_.Watch((*process)->pidfd(), [this] { OnExit(); });
    if (!watched.ok()) process = watched;
  }
  if (!process.ok()) {  // the next start goes without it
    spdlog::debug("no worker is started ahead: {}", process.status().ToString());
    return;
  }
  process_ = *std::move(process);
  spdlog::debug("process {} is started ahead", process_->pid());
}

// It is not started again before a worker is: its program may be broken.
void WorkerAhead::OnExit() {
  auto process = Take();
  spdlog::warn("process {}, started ahead, ended with {}", process->pid(), process->Reap());
}

std::unique_ptr<WorkerProcess> WorkerAhead::Take() {
  if (!process_) return nullptr;
  loop_.Unwatch(process_->pidfd());
  return std::move(process_);
}

absl::StatusOr<std::unique_ptr<WorkerProcess>> WorkerAhead::Start(
    const WorkerProcessOptions& options) {
  StartLater();
  if (process_ && !IsOfThisProgram()) {
    spdlog::debug("process {}, started ahead, is of another program than there is now",
                  process_->pid());
    Take();  // and ends it
  }
  if (!process_ || !process_->GoOn(options)) return WorkerProcess::Spawn(options);
  spdlog::debug("process {}, started ahead, is a standby now", process_->pid());
  return Take();
}

void WorkerAhead::Stop() {
  stopped_ = true;
  loop_.Cancel(timer_);
  Take();
}

}  // namespace icepie::server
