// One look at everything that moves: rates are made of two statuses of the daemon.
#ifndef ICEPIE_CLI_TOP_SAMPLE_H_
#define ICEPIE_CLI_TOP_SAMPLE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "icepie/v1/admin.pb.h"

namespace icepie::cli {

struct TopSlice {
  std::string name;
  std::string state;
  bool healthy = false;
  absl::Duration lag;
  int64_t lag_records = 0;
  double applied_per_second = 0;  // records of its streams, filtered and quarantined ones included
  double queries_per_second = 0;  // of the daemon's last 10 to 20 seconds
  int64_t p99_us = 0;
  int64_t quarantined = 0;
};

struct TopWorker {
  std::string domain;
  std::string role;
  std::string state;
  int64_t pid = 0;
  int64_t restarts = 0;
  int64_t resident_bytes = 0;
  double cpu_percent = 0;  // of one core
};

struct TopSample {
  absl::Time time;
  std::string core;    // as `icepie status` says it
  std::string states;  // likewise
  bool core_is_well = true;
  int64_t head_position = 0;
  double appended_per_second = 0;
  std::vector<TopSlice> slices;
  std::vector<TopWorker> workers;
};

// `before` was taken `span` earlier. What was not there then has no rates.
TopSample MakeTopSample(const icepie::v1::ServerStatus& before, const icepie::v1::ServerStatus& now,
                        absl::Duration span, absl::Time time);

// A JSON object on one line.
std::string TopJson(const TopSample& sample);

enum class TopSort { kHealth, kName, kLag, kApplied, kQueries, kP99 };

// By key; equal ones by name.
void SortSlices(TopSort sort, std::vector<TopSlice>* slices);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_TOP_SAMPLE_H_
