#include "server/record/trace_at_rest.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;

// Of one domain, by their names without it.
using SlicesByName = std::map<std::string, const v1::Slice*>;

// It has taken every record that it has read.
bool HasTakenAll(const v1::Slice& slice) {
  return slice.has_counts() && slice.counts().filtered() == 0 && slice.counts().quarantined() == 0;
}

class RestTracer {
 public:
  RestTracer(const SlicesByName& slices, const v1::Record& record,
             const std::function<bool(const std::string&)>& is_stream)
      : slices_(slices), record_(record), is_stream_(is_stream) {}

  // nullopt: nobody knows without asking.
  std::optional<v1::SliceTrace> Trace(const v1::Slice& slice) {
    const Reading& reading = Read(slice);
    if (!reading.reads) return std::nullopt;
    v1::SliceTrace trace;
    trace.set_slice(slice.name());
    trace.set_generation(slice.meta().generation());
    trace.set_applied_position(slice.meta().applied_position());
    trace.set_source(v1::STANDBY);
    trace.set_fate(v1::NOT_READ);
    if (!*reading.reads) return trace;
    trace.set_fate(v1::PENDING);
    if (record_.position() >= slice.meta().applied_position()) return trace;
    trace.set_fate(v1::APPLIED);
    trace.set_via(reading.via);
    if (!HasTakenAll(slice)) return std::nullopt;
    if (reading.via.empty()) return trace;
    const auto upstream = Trace(*slices_.at(reading.via));
    if (!upstream || upstream->fate() != v1::APPLIED) return std::nullopt;
    return trace;
  }

 private:
  struct Reading {
    std::optional<bool> reads;  // the record's stream; nullopt: nobody knows
    std::string via;            // through this slice
  };

  // While it is looked for it is not known: so what seems to read itself stays unknown.
  const Reading& Read(const v1::Slice& slice) {
    const auto [found, is_new] = readings_.try_emplace(slice.name());
    if (is_new) found->second = Look(slice);
    return found->second;
  }

  Reading Look(const v1::Slice& slice) {
    const auto& reads = slice.reads();
    const auto is_unclear = [&](const std::string& read) {
      return slices_.count(read) > 0 && (read == record_.stream() || is_stream_(read));
    };
    if (reads.empty() || std::any_of(reads.begin(), reads.end(), is_unclear)) return {};
    if (std::find(reads.begin(), reads.end(), record_.stream()) != reads.end()) return {true, ""};
    for (const std::string& read : reads) {
      const auto upstream = slices_.find(read);
      if (upstream == slices_.end()) continue;
      const std::optional<bool> through = Read(*upstream->second).reads;
      if (!through) return {};
      if (*through) return {true, read};
    }
    return {false, ""};
  }

  const SlicesByName& slices_;
  const v1::Record& record_;
  const std::function<bool(const std::string&)>& is_stream_;
  std::map<std::string, Reading> readings_;
};

}  // namespace

std::string DomainOf(const v1::Slice& slice) {
  return slice.name().substr(0, slice.name().find('.'));
}

std::vector<v1::SliceTrace> TraceDomainAtRest(
    const v1::ListSlicesResponse& all, const std::string& domain, const v1::Record& record,
    const std::function<bool(const std::string&)>& is_stream) {
  SlicesByName slices;
  for (const v1::Slice& slice : all.slices()) {
    if (DomainOf(slice) == domain) slices[slice.name().substr(domain.size() + 1)] = &slice;
  }
  RestTracer tracer(slices, record, is_stream);
  std::vector<v1::SliceTrace> traces;
  for (const auto& [name, slice] : slices) {
    auto trace = tracer.Trace(*slice);
    if (!trace) return {};
    traces.push_back(*std::move(trace));
  }
  return traces;
}

}  // namespace icepie::server
