// slice snapshots
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/table.h"
#include "core/base/status.h"

namespace icepie::cli {
namespace {

using icepie::v1::Admin;
using icepie::v1::Snapshot;

struct SnapshotArguments {
  std::string slice;
  std::string create;
  std::string remove;
  std::string reason;
};

void PrintSnapshots(Context& context, const icepie::v1::ListSnapshotsResponse& listed) {
  Table table({{"NAME"},
               {"POSITION", true},
               {"MADE"},
               {"GENERATION", true},
               {"ROWS", true},
               {"BYTES", true},
               {"BY"}});
  for (const Snapshot& snapshot : listed.snapshots()) {
    const std::string by = snapshot.reason().empty()
                               ? snapshot.actor()
                               : absl::StrCat(snapshot.actor(), ": ", snapshot.reason());
    table.AddRow({snapshot.name().empty() ? "-" : snapshot.name(), FormatCount(snapshot.position()),
                  FormatTime(snapshot.create_time()), absl::StrCat("g", snapshot.generation()),
                  FormatCount(snapshot.row_count()), FormatCount(snapshot.byte_count()), by});
  }
  table.Print(context.out(), context.terminal.width);
  context.out() << "icepie query --as-of NAME, POSITION or TIME answers from them; those without a "
                   "name go as newer ones come\n";
}

absl::StatusOr<int> List(Context& context, const SnapshotArguments& arguments) {
  icepie::v1::ListSnapshotsRequest request;
  request.set_slice(arguments.slice);
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(
      const auto listed,
      client.Call(client.admin(), &Admin::StubInterface::ListSnapshots, request));
  if (context.options.json) {
    context.out() << ToJson(listed);
  } else if (listed.snapshots().empty()) {
    context.out() << arguments.slice << " has no snapshot yet\n";
  } else {
    PrintSnapshots(context, listed);
  }
  return kExitDone;
}

absl::StatusOr<int> Create(Context& context, const SnapshotArguments& arguments) {
  icepie::v1::CreateSnapshotRequest request;
  request.set_slice(arguments.slice);
  request.set_name(arguments.create);
  request.set_reason(arguments.reason);
  request.set_actor(context.options.actor);
  context.AllowTime(kWholeStateTime);
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(
      const Snapshot snapshot,
      client.Call(client.admin(), &Admin::StubInterface::CreateSnapshot, request));
  if (context.options.json) {
    context.out() << ToJson(snapshot);
  } else {
    context.out() << arguments.slice << " at position " << FormatCount(snapshot.position())
                  << " is kept as " << snapshot.name() << " ("
                  << FormatCounted(snapshot.row_count(), "row") << ", "
                  << FormatCounted(snapshot.byte_count(), "byte") << ")\n";
  }
  return kExitDone;
}

absl::StatusOr<int> Delete(Context& context, const SnapshotArguments& arguments) {
  icepie::v1::DeleteSnapshotRequest request;
  request.set_slice(arguments.slice);
  request.set_name(arguments.remove);
  request.set_reason(arguments.reason);
  request.set_actor(context.options.actor);
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(
      const auto response,
      client.Call(client.admin(), &Admin::StubInterface::DeleteSnapshot, request));
  context.out() << (context.options.json ? ToJson(response)
                                         : absl::StrCat("snapshot ", arguments.remove, " of ",
                                                        arguments.slice, " is deleted\n"));
  return kExitDone;
}

}  // namespace

void AddSnapshotCommands(CLI::App* slice, Context& context) {
  auto arguments = std::make_shared<SnapshotArguments>();
  CLI::App* snapshots = slice->add_subcommand(
      "snapshots", "saved states that a query can ask for; list, keep or delete them");
  snapshots->add_option("SLICE", arguments->slice, "domain.slice")->required();
  CLI::Option* create =
      snapshots->add_option("--create", arguments->create, "keep the state of now under this name");
  CLI::Option* remove = snapshots->add_option("--delete", arguments->remove, "delete this name");
  create->excludes(remove);
  snapshots->add_option("--reason", arguments->reason, "written down with the change");
  snapshots->callback([&context, arguments] {
    context.action = [&context, arguments]() -> absl::StatusOr<int> {
      if (!arguments->create.empty()) return Create(context, *arguments);
      if (!arguments->remove.empty()) return Delete(context, *arguments);
      return List(context, *arguments);
    };
  });
}

}  // namespace icepie::cli
