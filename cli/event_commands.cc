// events: what happened, from the daemon's own record of it
#include <grpcpp/support/sync_stream.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cli/commands.h"
#include "cli/event_line.h"
#include "core/base/status.h"

namespace icepie::cli {
namespace {

using icepie::v1::Admin;
using icepie::v1::Event;

constexpr int32_t kPageSize = 1000;

struct EventArguments {
  std::string name;
  absl::Duration since = absl::Hours(24);
  bool follow = false;
};

bool IsBad(const Event& event) {
  static const char* const kBad[] = {"FAULTED", "HELD",      "BLOCKED",   "SUSPENDED",
                                     "backoff", "suspended", "READ_ONLY", "DISK_FULL"};
  for (const char* state : kBad) {
    if (event.to() == state) return true;
  }
  return false;
}

void PrintEvent(Context& context, const Event& event) {
  if (context.options.json) {
    context.out() << ToJsonLine(event);
    return;
  }
  const std::string line = EventLine(event);
  context.out() << (IsBad(event) ? context.terminal.Red(line) : line) << '\n';
}

// Returns the number of the last event printed.
absl::StatusOr<int64_t> PrintPast(Context& context, const EventArguments& arguments) {
  icepie::v1::ListEventsRequest request;
  request.set_name(arguments.name);
  request.set_page_size(kPageSize);
  request.mutable_since()->set_seconds(absl::ToUnixSeconds(absl::Now() - arguments.since));
  Client& client = context.client();
  for (bool more = true; more;) {
    ICEPIE_ASSIGN_OR_RETURN(
        const auto page, client.Call(client.admin(), &Admin::StubInterface::ListEvents, request));
    for (const Event& event : page.events()) {
      PrintEvent(context, event);
      request.set_after_number(event.number());
    }
    more = page.more();
  }
  return request.after_number();
}

absl::StatusOr<int> Events(Context& context, const EventArguments& arguments) {
  ICEPIE_ASSIGN_OR_RETURN(const int64_t last, PrintPast(context, arguments));
  if (!arguments.follow) return kExitDone;
  context.out() << std::flush;
  icepie::v1::WatchEventsRequest request;
  request.set_name(arguments.name);
  if (last > 0) request.set_after_number(last);
  Client& client = context.client();
  grpc::ClientContext call_context;  // no deadline: until Ctrl-C
  const auto reader = client.admin().WatchEvents(&call_context, request);
  Event event;
  while (reader->Read(&event)) {
    PrintEvent(context, event);
    context.out() << std::flush;
    if (context.out()) continue;
    call_context.TryCancel();  // nobody reads any more
    return kExitDone;
  }
  ICEPIE_RETURN_IF_ERROR(client.ErrorOf(reader->Finish()));
  return kExitDone;
}

}  // namespace

void AddEventCommands(CLI::App& app, Context& context) {
  auto arguments = std::make_shared<EventArguments>();
  CLI::App* events = app.add_subcommand(
      "events", "what happened to slices and workers, and who changed what; oldest first");
  events->add_option("NAME", arguments->name, "a domain or DOMAIN.SLICE; everything without");
  events->add_option_function<std::string>(
      "--since",
      [arguments](const std::string& text) {
        if (!absl::ParseDuration(text, &arguments->since)) {
          throw CLI::ValidationError("--since", "not a duration such as 30m or 24h: " + text);
        }
      },
      "so long ago at most (default 24h)");
  events->add_flag("--follow", arguments->follow, "go on with those to come until Ctrl-C");
  events->footer("With --json one object a line. The daemon keeps the newest 10,000.");
  events->callback([&context, arguments] {
    context.action = [&context, arguments] { return Events(context, *arguments); };
  });
}

}  // namespace icepie::cli
