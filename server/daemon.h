// The daemon: everything that icepied consists of, built in order and taken down in the reverse.
// The one place where the parts are put together.
#ifndef ICEPIE_SERVER_DAEMON_H_
#define ICEPIE_SERVER_DAEMON_H_

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "icepie/config/v1/settings.pb.h"
#include "server/domain/domain_reader.h"

namespace icepie::server {

// What is asked of one start only.
struct DaemonStart {
  // CoreOptions::accept_loss_position; what was accepted becomes a record of "_admin".
  std::optional<int64_t> accept_core_loss;
  std::optional<std::string> expected_checkpoint;  // CoreOptions::expected_checkpoint
  // No live worker and no build starts before an operator says so; answers are those of snapshots.
  bool safe_mode = false;
};

// Lifetime: the destructor stops it.
class Daemon {
 public:
  // Opens the core, reads the catalog, starts the workers, listens, and says so in
  // `<data>/icepied.json`. Errors are a refused start and name the remedy; nothing was changed when
  // the directory belongs to another daemon.
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(const icepie::config::v1::Settings& settings,
                                                       const DaemonStart& how = {});
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  // Refuses new work, gives what is under way its time (drain_timeout_ms), lets the workers save
  // their state (stop_timeout_ms at most), closes.
  void Stop();

  const ServerIdentity& identity() const;

 private:
  class Parts;
  explicit Daemon(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_DAEMON_H_
