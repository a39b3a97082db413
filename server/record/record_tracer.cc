#include "server/record/record_tracer.h"

#include <algorithm>
#include <future>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "server/record/trace_at_rest.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;
namespace wv1 = icepie::worker::v1;

constexpr absl::Duration kWorkerTimeout = absl::Seconds(5);
// Where there is no limit to the domains that are awake.
constexpr int kWokenMax = 16;

using Result = absl::StatusOr<wv1::TraceRecordResponse>;

// A question that is under way.
struct Asked {
  v1::Source source = v1::LIVE;
  std::future<Result> answer;
};

Asked Ask(const std::shared_ptr<WorkerClient>& client, v1::Source source,
          const wv1::TraceRecordRequest& request) {
  auto promise = std::make_shared<std::promise<Result>>();
  Asked asked{source, promise->get_future()};
  if (client == nullptr) {
    promise->set_value(absl::UnavailableError("its worker is not running"));
  } else {
    client->TraceRecord(request, kWorkerTimeout,
                        [promise](Result result) { promise->set_value(std::move(result)); });
  }
  return asked;
}

// What is known of a slice that no worker spoke of.
v1::SliceTrace Unknown(const v1::Slice& slice, const absl::Status& worker) {
  v1::SliceTrace trace;
  trace.set_slice(slice.name());
  trace.set_fate(v1::UNKNOWN);
  trace.set_applied_position(slice.meta().applied_position());
  std::string why = worker.ok() ? absl::StrCat("its worker does not have it ready (",
                                               v1::SliceState_Name(slice.state()), ")")
                                : std::string(worker.message());
  if (slice.has_last_error()) absl::StrAppend(&why, "; last error: ", slice.last_error().message());
  trace.set_unknown_cause(why);
  return trace;
}

// Domains with a slice that may read the stream; the others need not be asked, nor woken. A slice
// of which it is not known what it reads may read everything.
std::set<std::string> DomainsThatRead(const v1::ListSlicesResponse& slices,
                                      const std::string& stream) {
  std::set<std::string> domains;
  for (const v1::Slice& slice : slices.slices()) {
    const auto& reads = slice.reads();
    const bool may_read =
        reads.empty() || std::find(reads.begin(), reads.end(), stream) != reads.end();
    if (may_read) domains.insert(DomainOf(slice));
  }
  return domains;
}

v1::SliceTrace NotRead(const v1::Slice& slice) {
  v1::SliceTrace trace;
  trace.set_slice(slice.name());
  trace.set_fate(v1::NOT_READ);
  trace.set_generation(slice.meta().generation());
  trace.set_applied_position(slice.meta().applied_position());
  return trace;
}

}  // namespace

void RecordTracer::Trace(const v1::Record& record, v1::TraceRecordResponse& response) const {
  wv1::TraceRecordRequest request;
  request.set_stream(record.stream());
  request.set_position(record.position());
  request.set_payload(record.payload());
  const auto slices = reader_.ListSlices("");
  if (!slices.ok()) return;  // only for a domain that is named
  const std::set<std::string> readers = DomainsThatRead(*slices, record.stream());
  std::map<std::string, v1::SliceTrace> traces;
  std::set<std::string> awake;
  std::vector<std::string> asleep;
  const auto is_stream = [this](const std::string& name) { return core_.GetStream(name).ok(); };
  for (const std::string& domain : readers) {
    const WorkerView live = supervisor_.View(domain).live;
    if (!IsResting(live)) {
      awake.insert(domain);
      continue;
    }
    std::vector<v1::SliceTrace> known;
    if (live.status.pid() == 0) known = TraceDomainAtRest(*slices, domain, record, is_stream);
    if (known.empty()) asleep.push_back(domain);
    for (v1::SliceTrace& trace : known) traces[trace.slice()] = std::move(trace);
  }
  // Not more of them than may be awake; who asks again finds those at rest again, or awake.
  const auto room = static_cast<size_t>(awake_max_ > 0 ? awake_max_ : kWokenMax);
  const std::vector<std::string> left(asleep.begin() + std::min(room, asleep.size()), asleep.end());
  asleep.resize(asleep.size() - left.size());
  for (const std::string& domain : asleep) supervisor_.WakeLive(domain);
  const absl::Time deadline = SteadyNow() + kAwakeTimeout;
  std::map<std::string, std::vector<Asked>> asked;
  const auto ask = [&](const std::string& domain, const DomainView& view) {
    asked[domain].push_back(Ask(view.live.client, v1::LIVE, request));
    asked[domain].push_back(Ask(view.standby.client, v1::STANDBY, request));
  };
  for (const std::string& domain : awake) ask(domain, supervisor_.View(domain));
  for (const std::string& domain : asleep) {
    supervisor_.WaitFor(domain, deadline - SteadyNow(),
                        [](const DomainView& view) { return view.live.client != nullptr; });
    ask(domain, supervisor_.View(domain));
  }
  std::map<std::string, absl::Status> failures;
  for (const std::string& domain : left) {
    failures[domain] = absl::UnavailableError(
        absl::StrCat("its domain hibernates, and ", room, " others were woken to be asked"));
  }
  for (auto& [domain, workers] : asked) {
    for (Asked& worker : workers) {
      const Result result = worker.answer.get();
      if (!result.ok() && worker.source == v1::LIVE) failures[domain] = result.status();
      if (!result.ok()) continue;
      for (const v1::SliceTrace& trace : result->slices()) {
        v1::SliceTrace named = trace;
        named.set_slice(absl::StrCat(domain, ".", trace.slice()));
        named.set_source(worker.source);
        v1::SliceTrace& kept = traces[named.slice()];  // the live worker's comes first
        if (kept.slice().empty() || kept.fate() == v1::UNKNOWN) kept = std::move(named);
      }
    }
  }
  for (const v1::Slice& slice : slices->slices()) {
    const auto trace = traces.find(slice.name());
    const std::string domain = DomainOf(slice);
    if (readers.count(domain) == 0) {
      *response.add_slices() = NotRead(slice);
      continue;
    }
    *response.add_slices() =
        trace != traces.end() ? trace->second : Unknown(slice, failures[domain]);
  }
}

}  // namespace icepie::server
