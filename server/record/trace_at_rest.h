// What became of a record in the slices of a domain at rest, by what the daemon knows of them. Pure
// functions, so that every combination can be tested.
#ifndef ICEPIE_SERVER_RECORD_TRACE_AT_REST_H_
#define ICEPIE_SERVER_RECORD_TRACE_AT_REST_H_

#include <functional>
#include <string>
#include <vector>

#include "icepie/v1/core.pb.h"
#include "icepie/v1/slices.pb.h"

namespace icepie::server {

// The domain of "payments.volume".
std::string DomainOf(const icepie::v1::Slice& slice);

// One for each of `slices` that is of `domain`. Empty: its workers have to be asked, since what a
// slice reads is not known, it has filtered or quarantined records, or its domain has a slice with
// the name of a stream: `reads` does not tell them apart.
std::vector<icepie::v1::SliceTrace> TraceDomainAtRest(
    const icepie::v1::ListSlicesResponse& slices, const std::string& domain,
    const icepie::v1::Record& record, const std::function<bool(const std::string&)>& is_stream);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_RECORD_TRACE_AT_REST_H_
