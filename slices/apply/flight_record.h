// What the threads of a worker are doing, in a file that outlives the process: after its end the
// daemon reads there which slice was being applied, from which record to which, and which queries
// ran. A few stores into mapped memory for each; nothing is synced, since only the process ends and
// not the machine.
//
// The file: kSlots slots of 256 bytes, little endian:
//   u32 activity (0: free)   u32 blamed   i64 begin   i64 end   u32 size   u32 thread   u32 depth
//   char subject[size ≤ 220]
// A slot is filled before its activity is set and is free again when that is 0.
#ifndef ICEPIE_SLICES_APPLY_FLIGHT_RECORD_H_
#define ICEPIE_SLICES_APPLY_FLIGHT_RECORD_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace icepie::slices {

enum class Activity : uint32_t {
  kNone = 0,
  kOpen = 1,       // a generation's state: "slice/number"
  kApply = 2,      // records from `begin` to `end` (exclusive)
  kRecompute = 3,  // likewise; also what changed in slices that it reads
  kSave = 4,       // a snapshot of it
  kQuery = 5,      // its fingerprint
  kCheck = 6,      // an expectation, before a snapshot or in a batch: "slice/number/name"
  kProbe = 7,      // of what a recompute is suspected for, records from `begin` to `end` alone
};

// What a thread was doing.
struct FlightNote {
  Activity activity = Activity::kNone;
  bool blamed = false;  // this thread ended the process, or is why it was ended
  int64_t begin = 0;
  int64_t end = 0;
  std::string subject;
};

// Makes the file of this process and lets fatal signals blame the thread that they hit. Once,
// before other threads. Without it nothing is recorded.
absl::Status StartFlightRecord(const std::string& path);

// The file of a process that has ended: what each thread was doing, by its innermost entry. It ran
// users' SQL: whatever is wrong in it is left out. An unreadable file has no notes.
std::vector<FlightNote> ReadFlightRecord(const std::string& path);

// Notes what the thread does while it lives. Entries of a thread end in the reverse of their order.
// Threads: its own, except Blame.
class FlightEntry {
 public:
  FlightEntry(Activity activity, absl::string_view subject, int64_t begin = 0, int64_t end = 0);
  ~FlightEntry();
  FlightEntry(const FlightEntry&) = delete;
  FlightEntry& operator=(const FlightEntry&) = delete;

  // What it notes is why the process is about to end. Threads: any, while the entry lives.
  void Blame() const;

 private:
  size_t slot_;
  FlightEntry* outer_;
  uint32_t depth_;
  friend void BlameThisThread();
};

// The innermost entry of the calling thread, if it has one.
void BlameThisThread();
// The same of another one, by the kernel's number of it.
void BlameThread(int thread);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_APPLY_FLIGHT_RECORD_H_
