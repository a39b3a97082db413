// What went on while a call was made: nothing, a fault of its own domain, or one of another's.
#ifndef ICEPIE_TESTS_FAULT_WEATHER_H_
#define ICEPIE_TESTS_FAULT_WEATHER_H_

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tests/fault/call_record.h"

namespace icepie::fault {

enum class Weather {
  kCalm,       // no fault anywhere
  kOwn,        // a fault of this domain, or of the whole daemon
  kNeighbour,  // a fault of another domain only
};

// From `begin` to `end`. `domain` empty: of the whole daemon, to which every fault of a domain is a
// neighbour's.
Weather WeatherOf(const CallRecord& record, const std::string& domain, absl::Time begin,
                  absl::Time end);
// That of the domain which was asked.
Weather WeatherOf(const CallRecord& record, const ReadCall& read);

// "fault 17 kill_live payments (signal 9)", the newest that had begun by then.
std::string FaultAt(const CallRecord& record, absl::Time time);

// Milliseconds of calls, apart by weather.
struct Latencies {
  std::vector<double> calm;
  std::vector<double> own;
  std::vector<double> neighbour;
};
// Without those that asked for a position, which wait on purpose.
Latencies ReadLatencies(const CallRecord& record);
Latencies AppendLatencies(const CallRecord& record);

// From the start of a daemon to its first answer to a question.
std::vector<double> RestartLatencies(const CallRecord& record);

// The value below which `share` of them are; 0 without any.
double Percentile(std::vector<double> values, double share);

}  // namespace icepie::fault

#endif  // ICEPIE_TESTS_FAULT_WEATHER_H_
