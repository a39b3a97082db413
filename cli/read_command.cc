// read: records of the raw core, as text or as JSON lines
#include <memory>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/format.h"
#include "cli/record_messages.h"
#include "cli/table.h"
#include "cli/whole_number.h"
#include "core/base/status.h"

namespace icepie::cli {
namespace {

using icepie::v1::ReadRecordsRequest;
using icepie::v1::ReadRecordsResponse;

void PrintRecord(Context& context, const icepie::v1::Record& record) {
  if (context.options.json) {
    context.out() << ToJsonLine(record);
    return;
  }
  context.out() << FormatCount(record.position()) << "  " << record.stream() << "  "
                << FormatTime(record.ingest_time()) << "  "
                << (record.has_key() ? absl::StrCat("[", Printable(record.key()), "]  ") : "")
                << Printable(record.payload()) << '\n';
}

absl::StatusOr<int> Read(Context& context, const ReadRecordsRequest& request) {
  RecordMessages messages(context.client(), request);
  ReadRecordsResponse part;
  bool told = !request.follow() || !context.terminal.err_is_terminal;
  while (messages.Read(&part)) {
    for (const auto& record : part.records()) PrintRecord(context, record);
    if (request.follow()) context.out() << std::flush;
    if (!context.out()) return kExitDone;  // nobody reads any more, e.g. the pager was left
    if (told || !part.caught_up()) continue;
    context.err() << "-- caught up at position " << FormatCount(part.next_position())
                  << "; waiting for more, Ctrl-C ends --\n";
    told = true;
  }
  ICEPIE_RETURN_IF_ERROR(messages.status());
  return kExitDone;
}

void AddBounds(CLI::App& read, const std::shared_ptr<ReadRecordsRequest>& request) {
  const auto add = [&read](const char* name, std::function<void(int64_t)> set, const char* text) {
    return read.add_option_function<int64_t>(name, std::move(set), text)->check(WholeNumberFrom(0));
  };
  CLI::Option* from = add(
      "--from", [request](int64_t value) { request->set_from_position(value); },
      "first position (default 0)");
  CLI::Option* offset = add(
      "--offset", [request](int64_t value) { request->set_from_offset(value); },
      "first offset of the one STREAM, instead of --from");
  from->excludes(offset);
  add(
      "--end", [request](int64_t value) { request->set_end_position(value); },
      "end position, exclusive (default: what there is now)");
  add(
      "--end-offset", [request](int64_t value) { request->set_end_offset(value); },
      "end offset of the one STREAM, exclusive");
  read.add_option_function<int64_t>(
          "--limit", [request](int64_t value) { request->set_max_records(value); },
          "at most so many records")
      ->check(WholeNumberFrom(1));
}

}  // namespace

void AddReadCommand(CLI::App& app, Context& context) {
  CLI::App* read =
      app.add_subcommand("read", "print records of the raw core; with --json one object a line");
  auto streams = std::make_shared<std::vector<std::string>>();
  auto request = std::make_shared<ReadRecordsRequest>();
  read->add_option("STREAM", *streams, "these streams; all when none is named");
  AddBounds(*read, request);
  read->add_option_function<std::string>(
      "--key-prefix", [request](const std::string& prefix) { request->set_key_prefix(prefix); },
      "only records whose key begins so");
  read->add_flag_callback(
      "--follow", [request] { request->set_follow(true); }, "go on at the head until Ctrl-C");
  read->footer("With --json keys and payloads are base64; icepie export writes plain payloads.");
  read->callback([&context, streams, request] {
    for (const std::string& stream : *streams) request->add_streams(stream);
    context.action = [&context, request] { return Read(context, *request); };
  });
}

}  // namespace icepie::cli
