// What every command gets: the global options, the terminal, and the daemon.
#ifndef ICEPIE_CLI_CONTEXT_H_
#define ICEPIE_CLI_CONTEXT_H_

#include <algorithm>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cli/client.h"
#include "cli/terminal.h"

namespace icepie::cli {

// The program's exit codes.
inline constexpr int kExitDone = 0;
inline constexpr int kExitError = 1;
inline constexpr int kExitChangesPending = 2;
inline constexpr int kExitRefused = 3;  // by a guard: the request was understood

// The daemon gives up planning a definition after a minute, on a machine without time for it.
inline constexpr absl::Duration kPlanTime = absl::Seconds(90);
// It waits up to 45 s for the workers to take a change on (a promotion, which is let catch up, then
// serve), and stores it before, on a disk that may be slow. What it says then helps more than that
// nothing was said in time.
inline constexpr absl::Duration kChangeTime = absl::Seconds(90);
// What reads or writes a whole state takes as long as it takes; the daemon itself gives up then.
inline constexpr absl::Duration kWholeStateTime = absl::Seconds(610);

struct Options {
  std::string address;  // --address, else ICEPIE_ADDRESS, else 127.0.0.1:7420
  std::string actor;    // --actor, else $USER, else the login name: written down with every change
  std::string request_id;  // of a change
  absl::Duration timeout = absl::Seconds(30);
  bool own_timeout = false;  // it was given
  bool json = false;
};

// A command's work: its exit code, or the error that is printed.
using Action = std::function<absl::StatusOr<int>()>;

struct Context {
  explicit Context(const Terminal& its_terminal) : terminal(its_terminal) {}

  const Terminal terminal;
  Options options;
  Action action;  // of the command that was given

  std::ostream& out() const { return *terminal.out; }
  std::ostream& err() const { return *terminal.err; }

  // Before its first use of the client, by a command whose call may take long.
  void AllowTime(absl::Duration time) {
    if (!options.own_timeout) options.timeout = std::max(options.timeout, time);
  }

  // Connected at first use, so that arguments are checked before.
  Client& client() {
    if (client_) return *client_;
    client_ = std::make_unique<Client>(options.address, options.timeout);
    client_->SetRequestId(options.request_id);
    return *client_;
  }

 private:
  std::unique_ptr<Client> client_;
};

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_CONTEXT_H_
