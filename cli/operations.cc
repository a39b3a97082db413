#include "cli/operations.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "cli/format.h"
#include "cli/progress.h"
#include "core/base/status.h"

namespace icepie::cli {
namespace {

using google::longrunning::Operation;
using google::longrunning::Operations;
using icepie::v1::ResliceMetadata;

constexpr absl::Duration kOperationPollEvery = absl::Milliseconds(250);

absl::StatusOr<Operation> Wait(Context& context, const std::string& name) {
  google::longrunning::WaitOperationRequest request;
  request.set_name(name);
  request.mutable_timeout()->set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(kOperationPollEvery)));
  Client& client = context.client();
  return client.Call(client.operations(), &Operations::StubInterface::WaitOperation, request);
}

ProgressState StateOf(const std::string& name, const ResliceMetadata& metadata, bool ended) {
  ProgressState state;
  state.label = absl::StrCat(ShortOperationName(name), " ", metadata.slice(), " g",
                             metadata.generation(), " ", metadata.phase());
  state.done = metadata.done_records();
  state.total = metadata.total_records() > 0 ? metadata.total_records() : -1;
  state.per_second = metadata.records_per_second();
  if (metadata.eta_ms() > 0) state.eta = absl::Milliseconds(metadata.eta_ms());
  if (ended) state.took = absl::Milliseconds(metadata.elapsed_ms());
  state.note = absl::StrCat("quarantined ", FormatCount(metadata.quarantined()));
  if (metadata.done_before() > 0) {
    absl::StrAppend(&state.note, ", ", FormatCount(metadata.done_before()), " saved before");
  }
  return state;
}

absl::Status Follow(Context& context, const std::string& name) {
  Progress progress(context.terminal, context.options.json);
  while (true) {
    ICEPIE_ASSIGN_OR_RETURN(const Operation operation, Wait(context, name));
    const ResliceMetadata metadata = MetadataOf(operation);
    const ProgressState state = StateOf(name, metadata, operation.done());
    if (!operation.done()) {
      progress.Show(state, absl::Now());
      continue;
    }
    progress.Finish(state);
    if (!operation.has_error()) return absl::OkStatus();
    return absl::Status(static_cast<absl::StatusCode>(operation.error().code()),
                        absl::StrCat(metadata.slice(), " g", metadata.generation(), ": ",
                                     operation.error().message()));
  }
}

}  // namespace

std::string OperationName(const std::string& name) {
  return absl::StartsWith(name, "operations/") ? name : absl::StrCat("operations/", name);
}

std::string ShortOperationName(const std::string& name) {
  return std::string(absl::StripPrefix(name, "operations/"));
}

ResliceMetadata MetadataOf(const Operation& operation) {
  ResliceMetadata metadata;
  operation.metadata().UnpackTo(&metadata);
  return metadata;
}

absl::Status FollowOperations(Context& context, const std::vector<std::string>& names) {
  absl::Status first_error;
  for (const std::string& name : names) {
    const absl::Status status = Follow(context, OperationName(name));
    if (!status.ok() && first_error.ok()) first_error = status;
  }
  return first_error;
}

}  // namespace icepie::cli
