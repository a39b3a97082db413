// slice
// list|describe|query|refresh|reslice|diff|promote|rollback|history|wait; the others
// are in expect_command.cc, quarantine_command.cc, snapshot_commands.cc and slice_export.cc
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "cli/answer.h"
#include "cli/commands.h"
#include "cli/consistency_options.h"
#include "cli/format.h"
#include "cli/operations.h"
#include "cli/slice_history.h"
#include "cli/slice_report.h"
#include "cli/slice_wait.h"
#include "cli/table.h"
#include "cli/whole_number.h"
#include "core/base/status.h"
#include "server/query/select_parameters.h"

namespace icepie::cli {
namespace {

using icepie::v1::Admin;
using icepie::v1::Slice;
using icepie::v1::Slices;

constexpr int32_t kEventsDescribed = 8;

// Arguments of all the slice commands; each uses its own.
struct SliceArguments {
  std::string name;
  std::string generation;
  std::string reason;
  bool thaw = false;
  bool force = false;
  bool yes = false;
  bool no_wait = false;
  std::string columns;
  std::vector<std::string> filters;
  std::string order;
  std::string limit;
  ConsistencyOptions consistency;
  SliceWait wait;
};

using Command = absl::StatusOr<int> (*)(Context&, const SliceArguments&);

absl::Status CheckName(const std::string& name) {
  const size_t dot = name.find('.');
  if (dot != std::string::npos && dot > 0 && dot + 1 < name.size()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("\"", name, "\" names no slice; give domain.slice, as in operations.on_time"));
}

// "g8" or "8"; empty is 0, which lets the daemon choose.
absl::StatusOr<int64_t> GenerationOf(const std::string& text) {
  int64_t number = 0;
  if (text.empty()) return number;
  if (absl::SimpleAtoi(absl::StripPrefix(text, "g"), &number) && number > 0) return number;
  return absl::InvalidArgumentError(
      absl::StrCat("\"", text, "\" is no generation; give its number, as in g8"));
}

absl::StatusOr<Slice> GetSlice(Context& context, const std::string& name) {
  icepie::v1::GetSliceRequest request;
  request.set_name(name);
  Client& client = context.client();
  return client.Call(client.slices(), &Slices::StubInterface::GetSlice, request);
}

// One line for people: where the slice stands after a change.
absl::StatusOr<int> PrintOutcome(Context& context, const absl::StatusOr<Slice>& slice) {
  if (!slice.ok()) return slice.status();
  if (context.options.json) {
    context.out() << ToJson(*slice);
  } else {
    context.out() << OutcomeLine(*slice) << '\n';
  }
  return kExitDone;
}

absl::StatusOr<int> List(Context& context, const SliceArguments& arguments) {
  icepie::v1::ListSlicesRequest request;
  request.set_domain(arguments.name);
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(
      const auto answer, client.Call(client.slices(), &Slices::StubInterface::ListSlices, request));
  if (context.options.json) {
    context.out() << ToJson(answer);
  } else {
    PrintSliceList(context, answer);
  }
  return kExitDone;
}

absl::StatusOr<int> Describe(Context& context, const SliceArguments& arguments) {
  ICEPIE_ASSIGN_OR_RETURN(const Slice slice, GetSlice(context, arguments.name));
  if (context.options.json) {
    context.out() << ToJson(slice);
    return kExitDone;
  }
  icepie::v1::ListEventsRequest request;
  request.set_name(arguments.name);
  request.set_page_size(kEventsDescribed);
  request.set_newest(true);
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(const auto events,
                          client.Call(client.admin(), &Admin::StubInterface::ListEvents, request));
  icepie::v1::GetDomainRequest of_domain;
  of_domain.set_name(arguments.name.substr(0, arguments.name.find('.')));
  ICEPIE_ASSIGN_OR_RETURN(const auto domain,
                          client.Call(client.admin(), &Admin::StubInterface::GetDomain, of_domain));
  PrintSlice(context, slice);
  PrintOwner(context, domain);
  PrintLimits(context, domain);
  PrintLastEvents(context, events);
  return kExitDone;
}

absl::StatusOr<int> ClearError(Context& context, const SliceArguments& arguments) {
  icepie::v1::ClearSliceErrorRequest request;
  request.set_name(arguments.name);
  request.set_reason(arguments.reason);
  request.set_actor(context.options.actor);
  Client& client = context.client();
  return PrintOutcome(context,
                      client.Call(client.admin(), &Admin::StubInterface::ClearSliceError, request));
}

absl::StatusOr<int> Query(Context& context, const SliceArguments& arguments) {
  ICEPIE_ASSIGN_OR_RETURN(const Slice slice, GetSlice(context, arguments.name));
  const size_t dot = arguments.name.find('.');
  icepie::v1::QueryRequest request;
  request.set_domain(arguments.name.substr(0, dot));
  icepie::v1::Select* select = request.mutable_select();
  select->set_slice(arguments.name.substr(dot + 1));
  ICEPIE_RETURN_IF_ERROR(SetConsistency(arguments.consistency, &request));
  if (!arguments.columns.empty()) {
    ICEPIE_RETURN_IF_ERROR(server::AddColumns(arguments.columns, slice.columns(), select));
  }
  for (const std::string& filter : arguments.filters) {
    const size_t equals = filter.find('=');
    if (equals == std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("--where ", filter, ": give column=op.value, as in delay=gt.15"));
    }
    ICEPIE_RETURN_IF_ERROR(server::AddFilter(filter.substr(0, equals), filter.substr(equals + 1),
                                             slice.columns(), select));
  }
  if (!arguments.order.empty()) {
    ICEPIE_RETURN_IF_ERROR(server::AddOrder(arguments.order, slice.columns(), select));
  }
  if (!arguments.limit.empty()) ICEPIE_RETURN_IF_ERROR(server::SetLimit(arguments.limit, select));
  return AskAndPrint(context, request);
}

absl::StatusOr<int> Refresh(Context& context, const SliceArguments& arguments) {
  icepie::v1::RefreshSliceRequest request;
  request.set_name(arguments.name);
  request.set_actor(context.options.actor);
  context.AllowTime(kWholeStateTime);
  Client& client = context.client();
  return PrintOutcome(context,
                      client.Call(client.admin(), &Admin::StubInterface::RefreshSlice, request));
}

absl::StatusOr<int> Reslice(Context& context, const SliceArguments& arguments) {
  icepie::v1::ResliceSliceRequest request;
  request.set_name(arguments.name);
  request.set_reason(arguments.reason);
  request.set_actor(context.options.actor);
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(
      const auto operation,
      client.Call(client.admin(), &Admin::StubInterface::ResliceSlice, request));
  if (arguments.no_wait) {
    context.out() << (context.options.json
                          ? ToJson(operation)
                          : absl::StrCat(ShortOperationName(operation.name()), " started\n"));
    return kExitDone;
  }
  ICEPIE_RETURN_IF_ERROR(FollowOperations(context, {operation.name()}));
  return PrintOutcome(context, GetSlice(context, arguments.name));
}

absl::StatusOr<int> Diff(Context& context, const SliceArguments& arguments) {
  icepie::v1::DiffGenerationsRequest request;
  request.set_name(arguments.name);
  ICEPIE_ASSIGN_OR_RETURN(const int64_t generation, GenerationOf(arguments.generation));
  request.set_generation(generation);
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(
      const icepie::v1::GenerationDiff diff,
      client.Call(client.admin(), &Admin::StubInterface::DiffGenerations, request));
  if (context.options.json) {
    context.out() << ToJson(diff);
  } else {
    PrintDiff(context, diff);
  }
  const bool rows_differ = diff.added() + diff.removed() + diff.changed() > 0;
  return rows_differ || diff.columns_size() > 0 ? kExitChangesPending : kExitDone;
}

absl::StatusOr<int> Promote(Context& context, const SliceArguments& arguments) {
  icepie::v1::PromoteGenerationRequest request;
  request.set_name(arguments.name);
  ICEPIE_ASSIGN_OR_RETURN(const int64_t generation, GenerationOf(arguments.generation));
  request.set_generation(generation);
  request.set_thaw(arguments.thaw);
  request.set_force(arguments.force);
  request.set_reason(arguments.reason);
  request.set_actor(context.options.actor);
  context.AllowTime(kChangeTime);
  Client& client = context.client();
  return PrintOutcome(
      context, client.Call(client.admin(), &Admin::StubInterface::PromoteGeneration, request));
}

absl::StatusOr<int> RollbackTo(Context& context, const SliceArguments& arguments) {
  ICEPIE_ASSIGN_OR_RETURN(const int64_t generation, GenerationOf(arguments.generation));
  return Rollback(context,
                  {arguments.name, generation, arguments.reason, arguments.yes, arguments.no_wait});
}

absl::StatusOr<int> History(Context& context, const SliceArguments& arguments) {
  return PrintHistory(context, arguments.name);
}

absl::StatusOr<int> Wait(Context& context, const SliceArguments& arguments) {
  return PrintOutcome(context, WaitForSlice(context, arguments.name, arguments.wait));
}

// A command of the group `slice` that takes one slice's name.
CLI::App* Add(CLI::App* slice, Context& context, const std::shared_ptr<SliceArguments>& arguments,
              const std::string& name, const std::string& help, Command command) {
  CLI::App* added = slice->add_subcommand(name, help);
  added->add_option("SLICE", arguments->name, "domain.slice")->required();
  added->callback([&context, arguments, command] {
    context.action = [&context, arguments, command]() -> absl::StatusOr<int> {
      ICEPIE_RETURN_IF_ERROR(CheckName(arguments->name));
      return command(context, *arguments);
    };
  });
  return added;
}

void AddReading(CLI::App* slice, Context& context,
                const std::shared_ptr<SliceArguments>& arguments) {
  CLI::App* list = slice->add_subcommand("list", "list slices and where they stand");
  list->add_option("DOMAIN", arguments->name, "only this domain's");
  list->callback([&context, arguments] {
    context.action = [&context, arguments] { return List(context, *arguments); };
  });
  Add(slice, context, arguments, "describe", "everything about one slice", Describe);

  CLI::App* query = Add(slice, context, arguments, "query", "rows of one slice", Query);
  query->add_option("--select", arguments->columns, "columns, as in a,b");
  query
      ->add_option("--where", arguments->filters,
                   "column=op.value, as in delay=gt.15; all must hold")
      ->allow_extra_args(false);
  query->add_option("--order", arguments->order, "as in flights.desc,origin");
  query->add_option("--limit", arguments->limit, "at most so many rows");
  AddConsistencyOptions(query, arguments->consistency);
}

void AddOperating(CLI::App* slice, Context& context,
                  const std::shared_ptr<SliceArguments>& arguments) {
  Add(slice, context, arguments, "refresh", "recompute a scheduled slice now", Refresh);
  CLI::App* clear = Add(slice, context, arguments, "clear-error",
                        "forget the last error, once the slice goes on", ClearError);
  clear->add_option("--reason", arguments->reason, "written down with the change");
}

void AddRebuilding(CLI::App* slice, Context& context,
                   const std::shared_ptr<SliceArguments>& arguments) {
  CLI::App* reslice = Add(slice, context, arguments, "reslice",
                          "build a new generation from raw, beside the serving one", Reslice);
  reslice->add_option("--reason", arguments->reason, "written down with the change");
  reslice->add_flag("--no-wait", arguments->no_wait, "do not follow the build");

  CLI::App* diff = Add(slice, context, arguments, "diff",
                       "rows that a new generation changes; exit 2 when there are some", Diff);
  diff->add_option("GENERATION", arguments->generation, "as in g8; the newest when left out");

  CLI::App* promote =
      Add(slice, context, arguments, "promote", "make a ready generation the serving one", Promote);
  promote->add_option("GENERATION", arguments->generation, "as in g8; the newest ready one");
  promote->add_flag("--thaw", arguments->thaw, "a frozen slice applies again");
  promote->add_flag("--force", arguments->force,
                    "past the gates expectations, base, catch_up and state; needs --reason");
  promote->add_option("--reason", arguments->reason, "written down with the change");

  CLI::App* rollback = Add(slice, context, arguments, "rollback",
                           "return to a generation that served before", RollbackTo);
  rollback->add_option("GENERATION", arguments->generation,
                       "as in g7; the one that was replaced last when left out");
  rollback->add_option("--reason", arguments->reason, "written down with the change");
  rollback->add_flag("--yes", arguments->yes, "do not ask");
  rollback->add_flag("--no-wait", arguments->no_wait,
                     "do not follow the build of one that is no longer kept fresh");
  Add(slice, context, arguments, "history", "its generations: who built and promoted them, and why",
      History);
}

void AddWait(CLI::App* slice, Context& context, const std::shared_ptr<SliceArguments>& arguments) {
  CLI::App* wait = Add(slice, context, arguments, "wait",
                       "return when all that is asked for holds; for scripts", Wait);
  SliceWait& asked = arguments->wait;
  wait->add_option("--state", asked.state, "as in RUNNING, FAULTED, BLOCKED");
  wait->add_flag("--fresh", asked.fresh, "not stale, and all records applied that are there now");
  wait->add_option("--min-position", asked.min_position, "all records below it are applied")
      ->check(WholeNumberFrom(0));
  wait->add_flag("--generation-ready", asked.generation_ready, "a new generation can be promoted");
  wait->add_option_function<std::string>(
      "--timeout",
      [&asked](const std::string& text) {
        if (!absl::ParseDuration(text, &asked.timeout)) {
          throw CLI::ValidationError("--timeout", "a duration such as 60s, not " + text);
        }
      },
      "give up after (default 60s)");
}

}  // namespace

void AddSliceCommands(CLI::App& app, Context& context) {
  CLI::App* slice = app.add_subcommand("slice", "slices: read, freeze, rebuild");
  slice->require_subcommand(1);
  auto arguments = std::make_shared<SliceArguments>();
  AddReading(slice, context, arguments);
  AddOperating(slice, context, arguments);
  AddRebuilding(slice, context, arguments);
  AddSnapshotCommands(slice, context);
  AddSliceExportCommand(slice, context);
  AddWait(slice, context, arguments);
  AddSliceControl(slice, context);
  AddExpectCommand(slice, context);
  AddQuarantineCommand(slice, context);
  AddLogCommand(slice, context);
}

}  // namespace icepie::cli
