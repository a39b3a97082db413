// verify
#include <grpcpp/support/sync_stream.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/progress.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/merkle/checkpoint.h"
#include "core/verify/verification.h"
#include "nlohmann/json.hpp"

namespace icepie::cli {
namespace {

using State = VerificationAnswer::State;

const char* Word(State state) {
  switch (state) {
    case State::kHolds:
      return "yes";
    case State::kFails:
      return "NO";
    case State::kNotChecked:
      return "not checked";
  }
  return "";
}

nlohmann::json Json(const VerificationAnswer& answer) {
  const char* state = answer.state == State::kHolds   ? "holds"
                      : answer.state == State::kFails ? "fails"
                                                      : "not_checked";
  return {{"state", state}, {"detail", answer.detail}};
}

nlohmann::json Json(const VerificationReport& report, absl::Duration took) {
  nlohmann::json findings = nlohmann::json::array();
  for (const VerificationFinding& finding : report.findings) {
    findings.push_back({{"position", finding.position},
                        {"end_position", finding.end_position},
                        {"what", finding.what}});
  }
  nlohmann::json unowned = nlohmann::json::array();
  for (const UnownedFile& file : report.unowned) {
    unowned.push_back({{"file", file.path}, {"fate", file.fate}});
  }
  return {{"ok", report.ok()},
          {"end_position", report.end_position},
          {"bytes", report.bytes},
          {"seconds", absl::ToDoubleSeconds(took)},
          {"bytes_rehashed", Json(report.bytes_rehashed)},
          {"tree_recomputed", Json(report.tree_recomputed)},
          {"consistent", Json(report.consistent)},
          {"finding_count", report.finding_count},
          {"dropped", report.dropped},
          {"unowned_files", std::move(unowned)},
          {"findings", std::move(findings)}};
}

void Print(Context& context, const VerificationReport& report) {
  const auto line = [&context](absl::string_view question, const VerificationAnswer& answer) {
    context.out() << question << "  " << Word(answer.state) << ": " << answer.detail << '\n';
  };
  context.out() << "positions 0 to " << FormatCount(report.end_position) << " · "
                << FormatCount(report.bytes) << " stored bytes\n";
  if (!report.dropped.empty()) {
    context.out() << "note: " << report.dropped << "; the next start drops it\n";
  }
  for (const UnownedFile& file : report.unowned) {
    context.out() << "note: the core's index does not name " << file.path << ": " << file.fate
                  << '\n';
  }
  line("bytes re-hashed               ", report.bytes_rehashed);
  line("tree recomputed to signed root", report.tree_recomputed);
  line("consistent with older one     ", report.consistent);
  for (const VerificationFinding& finding : report.findings) {
    context.out() << "  position " << FormatCount(finding.position);
    if (finding.end_position > finding.position + 1) {
      context.out() << " to " << FormatCount(finding.end_position);
    }
    context.out() << ": " << finding.what << '\n';
  }
  const auto shown = static_cast<int64_t>(report.findings.size());
  if (report.finding_count > shown) {
    context.out() << "  and " << FormatCount(report.finding_count - shown) << " more\n";
  }
}

struct VerifyArguments {
  std::string data_directory;
  std::string since;
};

VerificationAnswer FromMessage(const icepie::v1::VerificationAnswer& message) {
  const State state = message.state() == icepie::v1::VerificationAnswer::STATE_HOLDS ? State::kHolds
                      : message.state() == icepie::v1::VerificationAnswer::STATE_FAILS
                          ? State::kFails
                          : State::kNotChecked;
  return {state, message.detail()};
}

VerificationReport FromMessage(const icepie::v1::VerifyCoreResponse& message) {
  VerificationReport report;
  report.end_position = message.position();
  report.bytes = message.bytes();
  report.bytes_rehashed = FromMessage(message.report().bytes_rehashed());
  report.tree_recomputed = FromMessage(message.report().tree_recomputed());
  report.consistent = FromMessage(message.report().consistent());
  report.finding_count = message.report().finding_count();
  for (const auto& finding : message.report().findings()) {
    report.findings.push_back({finding.position(), finding.end_position(), finding.what()});
  }
  return report;
}

// By the running daemon. A core that has grown since its last checkpoint gets a new one first, if
// that is to be had: without, the tree is compared with the last.
absl::StatusOr<VerificationReport> VerifyOnline(Context& context, const std::string& older,
                                                const VerificationProgress& show) {
  using icepie::v1::Core;
  Client& client = context.client();
  client
      .Call(client.core(), &Core::StubInterface::GetCheckpoint, icepie::v1::GetCheckpointRequest())
      .status()
      .IgnoreError();
  icepie::v1::VerifyCoreRequest request;
  request.set_older_checkpoint(older);
  grpc::ClientContext call_context;
  const auto reader = client.core().VerifyCore(&call_context, request);
  icepie::v1::VerifyCoreResponse message;
  bool has_report = false;
  while (reader->Read(&message)) {
    show(message.position(), message.end_position(), message.bytes());
    has_report = message.has_report();
  }
  ICEPIE_RETURN_IF_ERROR(client.ErrorOf(reader->Finish()));
  if (!has_report) return absl::UnavailableError("the daemon ended before the verification did");
  return FromMessage(message);
}

// Whoever mistakes the file is told so before everything is read.
absl::StatusOr<std::string> ReadCheckpoint(const std::string& file) {
  ICEPIE_ASSIGN_OR_RETURN(std::string note, ReadFile(file));
  // The signature is judged with the core's key.
  const absl::Status status = DecodeCheckpoint(note.substr(0, note.find("\n\n") + 1)).status();
  if (status.ok()) return note;
  return absl::InvalidArgumentError(
      absl::StrCat("--since: ", file, " is no signed checkpoint (", status.message(),
                   "); give a file with what icepie checkpoint has printed"));
}

absl::StatusOr<int> Verify(Context& context, const VerifyArguments& arguments) {
  std::string older;
  if (!arguments.since.empty()) {
    ICEPIE_ASSIGN_OR_RETURN(older, ReadCheckpoint(arguments.since));
  }
  const absl::Time start = absl::Now();
  const RateMeter meter(0, start);
  Progress progress(context.terminal, context.options.json);
  ProgressState state;
  state.label = "verify";
  const auto show = [&](int64_t position, int64_t end, int64_t bytes) {
    state.done = position;
    state.total = end;
    state.note = absl::StrCat(FormatShortCount(static_cast<double>(bytes)), " bytes");
    meter.Fill(&state, absl::Now());
    progress.Show(state, absl::Now());
  };
  ICEPIE_ASSIGN_OR_RETURN(const VerificationReport report,
                          arguments.data_directory.empty()
                              ? VerifyOnline(context, older, show)
                              : VerifyDirectory(arguments.data_directory + "/core", older, show));
  const absl::Duration took = absl::Now() - start;
  state.took = took;
  progress.Finish(state);
  if (context.options.json) {
    context.out() << Json(report, took).dump(2) << '\n';
  } else {
    Print(context, report);
  }
  return report.ok() ? kExitDone : kExitError;
}

}  // namespace

void AddVerifyCommand(CLI::App& app, Context& context) {
  CLI::App* verify = app.add_subcommand(
      "verify", "read and hash every record again, and compare with what was signed");
  auto arguments = std::make_shared<VerifyArguments>();
  verify->add_option("--data-dir", arguments->data_directory,
                     "verify this directory of a stopped daemon (or a copy) instead of asking one");
  verify->add_option("--since", arguments->since,
                     "a checkpoint of before (icepie checkpoint): does the core continue it?");
  verify->callback([&context, arguments] {
    context.action = [&context, arguments] { return Verify(context, *arguments); };
  });
}

}  // namespace icepie::cli
