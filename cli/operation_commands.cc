// operation list|watch|cancel
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/operations.h"
#include "cli/table.h"
#include "core/base/status.h"
#include "server/base/call_metadata.h"

namespace icepie::cli {
namespace {

using google::longrunning::Operation;
using google::longrunning::Operations;

std::string Outcome(const Operation& operation) {
  if (!operation.done()) return MetadataOf(operation).phase();
  return operation.has_error() ? operation.error().message() : "done";
}

// All pages as one.
absl::StatusOr<google::longrunning::ListOperationsResponse> AllOperations(Client& client) {
  google::longrunning::ListOperationsResponse all;
  google::longrunning::ListOperationsRequest request;
  do {
    ICEPIE_ASSIGN_OR_RETURN(
        const auto page,
        client.Call(client.operations(), &Operations::StubInterface::ListOperations, request));
    all.MergeFrom(page);
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  all.clear_next_page_token();
  return all;
}

absl::StatusOr<int> ListOperations(Context& context) {
  ICEPIE_ASSIGN_OR_RETURN(const auto answer, AllOperations(context.client()));
  if (context.options.json) {
    context.out() << ToJson(answer);
    return kExitDone;
  }
  Table table({{"operation"},
               {"slice"},
               {"generation", true},
               {"records", true},
               {"of", true},
               {"started"},
               {"phase"}});
  for (const Operation& operation : answer.operations()) {
    const auto metadata = MetadataOf(operation);
    table.AddRow({ShortOperationName(operation.name()), metadata.slice(),
                  FormatCount(metadata.generation()), FormatCount(metadata.done_records()),
                  FormatCount(metadata.total_records()), FormatTime(metadata.create_time()),
                  Outcome(operation)});
  }
  table.Print(context.out(), context.terminal.width);
  return kExitDone;
}

absl::StatusOr<int> WatchOperation(Context& context, const std::string& name) {
  ICEPIE_RETURN_IF_ERROR(FollowOperations(context, {name}));
  return kExitDone;
}

absl::StatusOr<int> CancelOperation(Context& context, const std::string& name) {
  google::longrunning::CancelOperationRequest request;
  request.set_name(OperationName(name));
  Client& client = context.client();
  grpc::ClientContext call;
  client.SetDeadline(&call);
  call.AddMetadata(server::kActorMetadata, context.options.actor);
  google::protobuf::Empty nothing;
  const grpc::Status status = client.operations().CancelOperation(&call, request, &nothing);
  if (!status.ok()) return client.ErrorOf(status);
  // Whoever comes too late is told that the call did nothing by what the operation ended with.
  google::longrunning::GetOperationRequest get;
  get.set_name(OperationName(name));
  ICEPIE_ASSIGN_OR_RETURN(
      const Operation operation,
      client.Call(client.operations(), &Operations::StubInterface::GetOperation, get));
  const bool cancelled = operation.error().code() == static_cast<int>(absl::StatusCode::kCancelled);
  if (operation.done() && !cancelled) {
    return absl::FailedPreconditionError(absl::StrCat(ShortOperationName(name),
                                                      " had ended before: ", Outcome(operation),
                                                      "; nothing was cancelled"));
  }
  if (context.options.json) {
    context.out() << ToJson(operation);
  } else {
    context.out() << ShortOperationName(name) << " cancelled\n";
  }
  return kExitDone;
}

}  // namespace

void AddOperationCommands(CLI::App& app, Context& context) {
  CLI::App* operation = app.add_subcommand("operation", "builds that run or ran");
  operation->require_subcommand(1);
  operation->add_subcommand("list", "list them")->callback([&context] {
    context.action = [&context] { return ListOperations(context); };
  });
  auto name = std::make_shared<std::string>();
  CLI::App* watch = operation->add_subcommand("watch", "show the progress until the end");
  watch->add_option("NAME", *name, "as in op-71")->required();
  watch->callback([&context, name] {
    context.action = [&context, name] { return WatchOperation(context, *name); };
  });
  CLI::App* cancel = operation->add_subcommand("cancel", "stop the build and remove what it made");
  cancel->add_option("NAME", *name, "as in op-71")->required();
  cancel->callback([&context, name] {
    context.action = [&context, name] { return CancelOperation(context, *name); };
  });
}

}  // namespace icepie::cli
