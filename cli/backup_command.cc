// backup
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/progress.h"
#include "core/base/status.h"

namespace icepie::cli {
namespace {

using icepie::v1::BackUpCoreRequest;
using icepie::v1::BackUpCoreResponse;

void Print(Context& context, const std::string& directory, const BackUpCoreResponse& done,
           absl::Duration took) {
  const int64_t records = done.report().head_position();
  const std::string root = absl::BytesToHexString(done.report().root());
  if (context.options.json) {
    context.out() << nlohmann::json{{"directory", directory},
                                    {"head_position", records},
                                    {"root", root},
                                    {"bytes", done.done_bytes()},
                                    {"seconds", absl::ToDoubleSeconds(took)}}
                         .dump()
                  << '\n';
    return;
  }
  context.out() << FormatCounted(records, "record") << " (" << FormatCount(done.done_bytes())
                << " bytes) in " << directory << " after " << FormatElapsed(took) << " · root "
                << root << "\ncheck it: icepie verify --data-dir " << directory << '\n';
}

absl::StatusOr<int> BackUp(Context& context, const std::string& argument) {
  std::error_code error;
  BackUpCoreRequest request;
  request.set_directory(std::filesystem::absolute(argument, error).lexically_normal().string());
  request.set_actor(context.options.actor);
  const absl::Time start = absl::Now();
  const RateMeter meter(0, start);
  Progress progress(context.terminal, context.options.json);
  ProgressState state;
  state.label = "backup";
  state.note = "bytes";
  grpc::ClientContext call;  // no deadline: a large core takes its time
  const auto reader = context.client().core().BackUpCore(&call, request);
  BackUpCoreResponse message;
  while (reader->Read(&message)) {
    state.done = message.done_bytes();
    state.total = message.total_bytes();
    meter.Fill(&state, absl::Now());
    progress.Show(state, absl::Now());
  }
  progress.End();
  ICEPIE_RETURN_IF_ERROR(context.client().ErrorOf(reader->Finish()));
  if (!message.has_report()) {
    return absl::UnavailableError("the daemon ended before the backup did");
  }
  Print(context, request.directory(), message, absl::Now() - start);
  return kExitDone;
}

}  // namespace

void AddBackupCommand(CLI::App& app, Context& context) {
  CLI::App* backup = app.add_subcommand(
      "backup",
      "copy the running core, whole up to one position, to a directory of the daemon's machine");
  auto directory = std::make_shared<std::string>();
  backup
      ->add_option("DIR", *directory, "empty or new; on another disk, or it is lost with this one")
      ->required();
  backup->footer(
      "Restore: start icepied with --data-directory=DIR. What was appended after the backup is "
      "not\n"
      "in it, so it takes no appends until --accept-core-loss=POSITION says that this is known;\n"
      "slices are built again from the records.");
  backup->callback([&context, directory] {
    context.action = [&context, directory] { return BackUp(context, *directory); };
  });
}

}  // namespace icepie::cli
