// Everything that was asked of the daemon and everything it said, as the checker judges it.
#ifndef ICEPIE_TESTS_FAULT_CALL_RECORD_H_
#define ICEPIE_TESTS_FAULT_CALL_RECORD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace icepie::fault {

struct StoredRecord {
  int64_t position = 0;
  std::string stream;
  std::string payload;
};

// A batch from its first sending to its acknowledgement.
struct AppendCall {
  int client = 0;
  int64_t batch = 0;
  std::vector<StoredRecord> records;  // positions are not set
  absl::Time begin;
  absl::Time end;
  bool acknowledged = false;
  int attempts = 0;
  int64_t first_position = -1;  // of the acknowledgement
  int64_t end_position = -1;
  std::string error;  // of the last attempt, when it is not acknowledged
};

// What an answer says of one slice that it read.
struct SliceStand {
  std::string slice;  // "domain.slice"
  int64_t applied_position = 0;
  int64_t quarantined = 0;
  bool stale = false;
  std::string stale_reason;
  std::string source;  // LIVE, STANDBY
  std::string state;
  int64_t generation = 0;
};

struct ReadCall {
  int reader = 0;    // who asked; one question after the other
  int question = 0;  // its number in Questions()
  bool by_http = false;
  int64_t min_position = -1;  // -1: none asked for
  // The greatest end of an append that was acknowledged before the call began.
  int64_t acknowledged_position = 0;
  absl::Time begin;
  absl::Time end;
  bool answered = false;
  std::string error;   // code, reason and message, when it was not
  std::string reason;  // of the error alone
  // Nobody there answered: the connection was refused or broken off.
  bool unheard = false;
  std::string rows;  // a JSON array
  bool stale = false;
  std::vector<SliceStand> slices;
};

// A fault from its injection until its domain answered fresh again (`end`).
struct FaultSpan {
  int number = 0;
  std::string kind;
  std::string domain;  // empty: all of them
  std::string detail;
  absl::Time begin;
  absl::Time released;  // when the cause was gone: the hand was off, the program back
  absl::Time end = absl::InfiniteFuture();
  std::string error;  // what an admin call said that should have worked, or what did not recover
  // False when there was nothing to do it to, or nothing came of it.
  bool injected = true;
};

// A worker as it was seen when all was well.
struct WorkerSight {
  absl::Time time;
  std::string domain;
  std::string role;
  int64_t pid = 0;
  std::string last_error;
};

// While it was so, `slice` was frozen: between the answers of two admin calls.
struct FrozenSpan {
  std::string slice;
  absl::Time begin;
  absl::Time end = absl::InfiniteFuture();
};

// The daemon was not there: nobody could be answered.
struct DownSpan {
  absl::Time begin;
  absl::Time end = absl::InfiniteFuture();
  // Of the next one: its start, and its first answer to a question.
  absl::Time started = absl::InfiniteFuture();
  absl::Time answered = absl::InfiniteFuture();
};

// The machine had no time for a thread of low priority.
struct StallSpan {
  absl::Time begin;
  absl::Time end;
};

struct CallRecord {
  std::vector<AppendCall> appends;
  std::vector<ReadCall> reads;
  std::vector<FaultSpan> faults;
  std::vector<FrozenSpan> frozen;
  std::vector<DownSpan> downs;
  std::vector<WorkerSight> workers;  // in the order of their times
  std::vector<StallSpan> stalls;
  std::vector<StoredRecord> stored;  // the whole core, read back at the end
};

}  // namespace icepie::fault

#endif  // ICEPIE_TESTS_FAULT_CALL_RECORD_H_
