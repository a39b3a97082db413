// trace: what became of one record in every slice
#include <memory>

#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/table.h"
#include "cli/whole_number.h"
#include "core/base/status.h"

namespace icepie::cli {
namespace {

using icepie::v1::SliceTrace;
using icepie::v1::TraceRecordResponse;

std::string Why(const SliceTrace& trace) {
  std::string why = trace.unknown_cause();
  if (trace.has_error()) {
    why = absl::StrCat(trace.error().code(), ": ", Printable(trace.error().message()));
  }
  if (!trace.via().empty()) {
    why = absl::StrCat("by way of ", trace.via(), why.empty() ? "" : ": ", why);
  }
  return why;
}

absl::StatusOr<int> Trace(Context& context, int64_t position) {
  icepie::v1::TraceRecordRequest request;
  request.set_position(position);
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(
      const TraceRecordResponse answer,
      client.Call(client.core(), &icepie::v1::Core::StubInterface::TraceRecord, request));
  if (context.options.json) {
    context.out() << ToJson(answer);
    return kExitDone;
  }
  const icepie::v1::Record& record = answer.record();
  context.out() << "position " << FormatCount(record.position()) << "  " << record.stream()
                << " offset " << FormatCount(record.offset()) << "  "
                << FormatTime(record.ingest_time()) << "  " << record.payload().size()
                << " bytes\n";
  Table table({{"slice"}, {"record"}, {"slice stands at", true}, {"from"}, {"why"}});
  for (const SliceTrace& trace : answer.slices()) {
    table.AddRow({trace.slice(), icepie::v1::RecordFate_Name(trace.fate()),
                  FormatCount(trace.applied_position()),
                  trace.source() == icepie::v1::STANDBY ? "snapshot" : "", Why(trace)});
  }
  if (answer.slices_size() > 0) table.Print(context.out(), context.terminal.width);
  context.out() << FormatCounted(answer.slices_size(), "slice") << '\n';
  return kExitDone;
}

}  // namespace

void AddTraceCommand(CLI::App& app, Context& context) {
  CLI::App* trace =
      app.add_subcommand("trace", "what became of one record in every slice of every domain");
  auto position = std::make_shared<int64_t>(0);
  trace->add_option("POSITION", *position)->required()->check(WholeNumberFrom(0));
  trace->callback([&context, position] {
    context.action = [&context, position] { return Trace(context, *position); };
  });
}

}  // namespace icepie::cli
