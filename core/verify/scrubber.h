// Reads the whole core again and again, in the background: every file of the log, every segment,
// every record, hashed again and compared with the stored tree and the signed root. So that damage
// is found before somebody needs what is damaged.
#ifndef ICEPIE_CORE_VERIFY_SCRUBBER_H_
#define ICEPIE_CORE_VERIFY_SCRUBBER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/append/committed_head.h"
#include "core/base/mutex.h"
#include "core/log/log_store.h"
#include "core/proof/proofs.h"
#include "core/read/block_reader.h"
#include "core/verify/scrub.h"
#include "core/verify/verification.h"

namespace icepie {

// The pace of a pass over `bytes`: what is allowed, or as much more as it takes to end within three
// quarters of the interval. How old damage can get is promised, how slow the disk is not.
int64_t ScrubBytesPerSecond(const ScrubOptions& options, int64_t bytes);

// Threads: any; it has one of its own, of the lowest priority.
// Errors: what it finds is in State() and in the log. A pass that finds something goes on to its
//   end; the findings stand until a pass finds nothing.
// Lifetime: what Parts names outlives it. The destructor waits for the step under way.
class Scrubber {
 public:
  struct Parts {
    LogStore* store = nullptr;
    SegmentSet* segments = nullptr;
    const StreamRegistry* streams = nullptr;
    const CommittedHead* head = nullptr;
    Proofs* proofs = nullptr;

    BlockSources records() const { return {store, segments, streams}; }
  };
  // `directory` is the core's: where a pass stands is kept in it.
  Scrubber(const Parts& parts, std::string directory, const ScrubOptions& options);
  ~Scrubber();
  Scrubber(const Scrubber&) = delete;
  Scrubber& operator=(const Scrubber&) = delete;

  ScrubState State() const;

 private:
  void Run();
  bool WaitUntil(absl::Time time);  // false: stopping
  absl::Time NextPass() const;
  void RunPass();
  int64_t BeginPass();  // where to begin
  void ChoosePace();
  void EndPass();
  bool CheckFiles();  // false: stopping, or one could not be verified now
  void CheckSegments();
  void CheckRecords();
  std::unique_ptr<Verification> StartVerification();
  void CheckRoot(Verification& verification);
  // Rests so long that no more than the allowed bytes a second are read, and sets `begin` anew.
  // False: stopping.
  bool Pace(int64_t bytes, absl::Time& begin);
  void Found(const VerificationFinding& finding);
  void Save();

  const Parts parts_;
  const std::string path_;
  const ScrubOptions options_;
  absl::Time last_begin_ = absl::InfinitePast();  // the thread's own, of SteadyNow()
  absl::Time saved_ = absl::InfinitePast();
  absl::Time retry_ = absl::InfinitePast();  // of a pass that could not go on
  int64_t bytes_per_second_;                 // of the pass under way

  mutable Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  ScrubState state_ ABSL_GUARDED_BY(mutex_);
  bool found_in_pass_ ABSL_GUARDED_BY(mutex_) = false;  // state_'s findings are of this pass
  std::thread thread_;                                  // last: it uses everything above
};

}  // namespace icepie

#endif  // ICEPIE_CORE_VERIFY_SCRUBBER_H_
