// Progress of long work: one line redrawn on a terminal, a plain line every few seconds elsewhere.
#ifndef ICEPIE_CLI_PROGRESS_H_
#define ICEPIE_CLI_PROGRESS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "cli/terminal.h"

namespace icepie::cli {

struct ProgressState {
  std::string label;
  int64_t done = 0;
  int64_t total = -1;  // -1: not known
  double per_second = 0;
  absl::Duration eta = absl::InfiniteDuration();  // infinite: not known
  std::optional<absl::Duration> took;             // of work that has ended
  std::string note;                               // shown last, e.g. "quarantined 0"
};

// "label  ███████░░░  78 %  63.4 M/81.2 M  740 k/s  ETA 24 s  note", and of ended work
// "label  81,204,113 records in 1m 50s  740 k/s  note"; cut to `width` (0: not cut).
std::string ProgressLine(const ProgressState& state, int width);

// Average rate since the start of the work, and the ETA that follows from it.
class RateMeter {
 public:
  // Work that begins at `first` of what is counted (a resumed import) at `start`.
  RateMeter(int64_t first, absl::Time start) : first_(first), start_(start) {}

  // Fills per_second and eta from done and total.
  void Fill(ProgressState* state, absl::Time now) const;

 private:
  const int64_t first_;
  const absl::Time start_;
};

// Threads: one.
class Progress {
 public:
  // With `terminal_only` nothing is written where there is none: there a program may read.
  explicit Progress(const Terminal& terminal, bool terminal_only = false)
      : terminal_(terminal), silent_(terminal_only && !terminal.err_is_terminal) {}

  // Shows `state` when it is time to; `now` comes from the caller so that tests own the clock.
  void Show(const ProgressState& state, absl::Time now);

  // Ends the line as it stands.
  void End();

  // Shows the last state, whatever the time, and ends the line.
  void Finish(const ProgressState& state);

 private:
  const Terminal& terminal_;
  const bool silent_;
  absl::Time next_ = absl::InfinitePast();
  std::string last_line_;
};

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_PROGRESS_H_
