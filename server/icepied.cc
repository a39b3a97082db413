// icepied: the daemon. It owns the raw core, starts the workers and routes every question; it runs
// no user's SQL itself.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <optional>
#include <string>
#include <thread>

#include "config/settings.h"
#include "core/base/file.h"
#include "server/daemon.h"
#include "spdlog/spdlog.h"

namespace {

constexpr int kExitRefused = 3;
constexpr int kExitInterrupted = 4;  // a second signal, before the daemon had stopped in order

int Refuse(const absl::Status& why) {
  std::fprintf(stderr, "icepied: %s\n", std::string(why.message()).c_str());
  return kExitRefused;
}

// Blocked before the first thread starts, so that every thread has them blocked.
sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return signals;
}

// Acknowledged records are on disk and the workers end with their parent: nothing is lost that a
// patient stop would keep but the time to read snapshots that are a little older.
void EndAtOnceOnAnother(sigset_t signals) {
  std::thread([signals] {
    int received = 0;
    sigwait(&signals, &received);
    spdlog::warn("ending at once on another signal ({})", received);
    spdlog::shutdown();
    _exit(kExitInterrupted);
  }).detach();
}

}  // namespace

int main(int argc, char** argv) {
  const sigset_t signals = BlockSignals();
  umask(0077);  // records and answers are for the daemon's account only; the workers inherit it
  std::string config, data_directory, grpc, http;
  CLI::App app("icepied, the daemon of Ice Pie");
  // A wrapper's options can be overridden by adding others.
  app.option_defaults()->take_last();
  app.add_option("--config", config, "Settings file (YAML); without it the defaults hold");
  app.add_option("--data-directory", data_directory, "Where everything is kept");
  auto* grpc_option = app.add_option("--listen-grpc", grpc, "HOST:PORT, port 0 picks a free one");
  auto* http_option = app.add_option("--listen-http", http, "HOST:PORT; empty: no HTTP");
  int64_t accept_core_loss = 0;
  auto* loss_option =
      app.add_option(
             "--accept-core-loss", accept_core_loss,
             "POSITION: go on though the records from it on are lost; a read-only core names it")
          ->check(CLI::NonNegativeNumber);
  std::string checkpoint_file;
  auto* checkpoint_option =
      app.add_option("--expect-checkpoint", checkpoint_file,
                     "FILE: what icepie checkpoint has printed; a core that does not continue it, "
                     "as when an older copy was restored, takes no appends");
  icepie::server::DaemonStart how;
  app.add_flag("--safe-mode", how.safe_mode,
               "No slice applies records until icepie leave-safe-mode; snapshots answer");
  app.footer(
      "SIGTERM stops it in order: calls under way end (drain_timeout_ms), workers save their "
      "states "
      "(stop_timeout_ms). A second one ends it at once; acknowledged records are kept either way.");
  app.set_version_flag("--version", "icepied " ICEPIE_VERSION);
  CLI11_PARSE(app, argc, argv);

  auto settings =
      config.empty() ? icepie::config::DefaultSettings() : icepie::config::LoadSettings(config);
  if (!settings.ok()) return Refuse(settings.status());
  if (!data_directory.empty()) settings->set_data_directory(data_directory);
  if (grpc_option->count() > 0) settings->mutable_listen()->set_grpc(grpc);
  if (http_option->count() > 0) settings->mutable_listen()->set_http(http);
  spdlog::set_level(spdlog::level::from_str(settings->logging().level()));

  if (loss_option->count() > 0) how.accept_core_loss = accept_core_loss;
  if (checkpoint_option->count() > 0) {
    auto note = icepie::ReadFile(checkpoint_file);
    if (!note.ok()) return Refuse(note.status());
    how.expected_checkpoint = *std::move(note);
  }
  auto daemon = icepie::server::Daemon::Start(*settings, how);
  if (!daemon.ok()) return Refuse(daemon.status());
  int received = 0;
  sigwait(&signals, &received);
  spdlog::info("stopping on signal {}", received);
  EndAtOnceOnAnother(signals);
  (*daemon)->Stop();
  return 0;
}
