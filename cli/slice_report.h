// Slices and row diffs as people read them.
#ifndef ICEPIE_CLI_SLICE_REPORT_H_
#define ICEPIE_CLI_SLICE_REPORT_H_

#include <string>

#include "cli/context.h"
#include "icepie/v1/admin.pb.h"
#include "icepie/v1/slices.pb.h"

namespace icepie::cli {

// "operations.on_time RUNNING · generation 8 · as of position 3,001,200 (0 behind) · 0
// quarantined".
std::string OutcomeLine(const icepie::v1::Slice& slice);

void PrintSliceList(Context& context, const icepie::v1::ListSlicesResponse& slices);
void PrintSlice(Context& context, const icepie::v1::Slice& slice);
// Whose it is, as its domain's file says.
void PrintOwner(Context& context, const icepie::v1::Domain& domain);
// What its domain may use, in a line.
void PrintLimits(Context& context, const icepie::v1::Domain& domain);
// The newest events of a slice, below its description.
void PrintLastEvents(Context& context, const icepie::v1::ListEventsResponse& events);
void PrintDiff(Context& context, const icepie::v1::GenerationDiff& diff);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_SLICE_REPORT_H_
