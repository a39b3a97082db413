#include "tests/fault/weather.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "tests/fault/fault_domains.h"

namespace icepie::fault {
namespace {

void AddLatency(Weather weather, absl::Duration took, Latencies* out) {
  const double ms = absl::ToDoubleMilliseconds(took);
  switch (weather) {
    case Weather::kCalm:
      out->calm.push_back(ms);
      break;
    case Weather::kOwn:
      out->own.push_back(ms);
      break;
    case Weather::kNeighbour:
      out->neighbour.push_back(ms);
      break;
  }
}

}  // namespace

Weather WeatherOf(const CallRecord& record, const std::string& domain, absl::Time begin,
                  absl::Time end) {
  Weather weather = Weather::kCalm;
  for (const FaultSpan& fault : record.faults) {
    if (end < fault.begin || begin > fault.end) continue;
    if (fault.domain.empty() || fault.domain == domain) return Weather::kOwn;
    weather = Weather::kNeighbour;
  }
  return weather;
}

Weather WeatherOf(const CallRecord& record, const ReadCall& read) {
  return WeatherOf(record, Questions()[static_cast<size_t>(read.question)].domain, read.begin,
                   read.end);
}

std::string FaultAt(const CallRecord& record, absl::Time time) {
  const FaultSpan* last = nullptr;
  for (const FaultSpan& fault : record.faults) {
    if (fault.begin <= time) last = &fault;
  }
  if (last == nullptr) return "no fault yet";
  return absl::StrCat("fault ", last->number, " ", last->kind, " ",
                      last->domain.empty() ? "all" : last->domain,
                      last->detail.empty() ? "" : absl::StrCat(" (", last->detail, ")"),
                      time > last->end ? ", recovered" : "");
}

Latencies ReadLatencies(const CallRecord& record) {
  Latencies out;
  for (const ReadCall& read : record.reads) {
    if (!read.answered || read.min_position >= 0) continue;
    AddLatency(WeatherOf(record, read), read.end - read.begin, &out);
  }
  return out;
}

Latencies AppendLatencies(const CallRecord& record) {
  Latencies out;
  for (const AppendCall& append : record.appends) {
    if (!append.acknowledged) continue;
    AddLatency(WeatherOf(record, "", append.begin, append.end), append.end - append.begin, &out);
  }
  return out;
}

std::vector<double> RestartLatencies(const CallRecord& record) {
  std::vector<double> ms;
  for (const DownSpan& down : record.downs) {
    if (down.answered == absl::InfiniteFuture()) continue;
    ms.push_back(absl::ToDoubleMilliseconds(down.answered - down.started));
  }
  return ms;
}

double Percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  const auto place = static_cast<size_t>(std::min(
      std::ceil(share * static_cast<double>(values.size())), static_cast<double>(values.size())));
  std::sort(values.begin(), values.end());
  return values[place == 0 ? 0 : place - 1];
}

}  // namespace icepie::fault
