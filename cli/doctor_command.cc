// doctor: why a daemon does not start, or is odd. Works without one and writes nothing.
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/commands.h"
#include "cli/doctor_checks.h"
#include "cli/format.h"
#include "cli/status_text.h"
#include "cli/table.h"
#include "config/settings.h"
#include "core/base/status.h"

namespace icepie::cli {
namespace {

using icepie::config::v1::Settings;
using Severity = DoctorFinding::Severity;

constexpr absl::Duration kDaemonTimeout = absl::Seconds(10);

struct DoctorArguments {
  std::string data_directory;
  std::string config;
};

// What the daemon that runs says of itself: nobody else may look into its log.
void CheckDaemon(const Settings& settings, DoctorFindings& out) {
  Client client(settings.listen().grpc(), kDaemonTimeout);
  const auto status =
      client.Call(client.admin(), &icepie::v1::Admin::StubInterface::GetServerStatus,
                  icepie::v1::GetServerStatusRequest());
  if (!status.ok()) {
    out.push_back({Severity::kProblem, "daemon",
                   absl::StrCat("it does not say how it is: ", status.status().message()),
                   "look at the daemon's log; restart it if it hangs"});
  } else if (!IsCoreWell(*status)) {
    out.push_back({Severity::kProblem, "daemon", absl::StrCat("core ", CoreText(*status)), ""});
  } else {
    out.push_back({Severity::kOk, "daemon", absl::StrCat("core OK; ", StatesText(*status)), ""});
  }
}

// Damaged settings are a finding; the checks go on with the defaults.
Settings SettingsFor(const DoctorArguments& arguments, DoctorFindings& out) {
  Settings settings = config::DefaultSettings();
  if (!arguments.config.empty()) {
    const auto loaded = config::LoadSettings(arguments.config);
    if (loaded.ok()) {
      settings = *loaded;
      out.push_back({Severity::kOk, "settings", absl::StrCat(arguments.config, " is valid"), ""});
    } else {
      out.push_back({Severity::kProblem, "settings", std::string(loaded.status().message()),
                     "correct the file; config/icepie.yaml shows every setting"});
    }
  }
  if (!arguments.data_directory.empty()) settings.set_data_directory(arguments.data_directory);
  return settings;
}

DoctorFindings Examine(const DoctorArguments& arguments) {
  DoctorFindings findings;
  Settings settings = SettingsFor(arguments, findings);
  const std::string data = settings.data_directory();
  CheckVersions(ICEPIE_VERSION, findings);
  CheckKernel(settings.workers().require_sandbox(), findings);
  CheckLimits(settings, findings);
  const bool exists = CheckDirectory(data, findings);
  const int64_t daemon = exists ? LockOwner(data) : 0;
  if (daemon != 0) ReadAnnouncement(data, settings);
  CheckPorts(settings, daemon, findings);
  if (!exists) return findings;
  CheckDisk(settings, findings);
  CheckLock(data, daemon, findings);
  // RocksDB defines nothing for a reader beside its writer.
  if (daemon == 0) {
    CheckCore(data, findings);
  } else {
    CheckDaemon(settings, findings);
  }
  CheckSnapshots(data, findings);
  return findings;
}

void Print(Context& context, const DoctorFindings& findings) {
  for (const DoctorFinding& finding : findings) {
    const std::string head = absl::StrCat(absl::StrFormat("%-9s", SeverityName(finding.severity)),
                                          finding.check, ": ", Printable(finding.what));
    const bool bad = finding.severity == Severity::kProblem;
    const bool warns = finding.severity == Severity::kWarning;
    context.out() << (bad     ? context.terminal.Red(head)
                      : warns ? context.terminal.Yellow(head)
                              : head)
                  << '\n';
    if (!finding.remedy.empty())
      context.out() << "         → " << Printable(finding.remedy) << '\n';
  }
}

std::string Json(const DoctorFindings& findings) {
  nlohmann::json list = nlohmann::json::array();
  for (const DoctorFinding& finding : findings) {
    list.push_back({{"severity", SeverityName(finding.severity)},
                    {"check", finding.check},
                    {"what", finding.what},
                    {"remedy", finding.remedy}});
  }
  return nlohmann::json{{"findings", list}}.dump(2, ' ', false,
                                                 nlohmann::json::error_handler_t::replace) +
         "\n";
}

absl::StatusOr<int> Doctor(Context& context, const DoctorArguments& arguments) {
  DoctorFindings findings = Examine(arguments);
  std::stable_sort(findings.begin(), findings.end(),
                   [](const DoctorFinding& a, const DoctorFinding& b) {
                     return a.severity > b.severity;  // what needs somebody first
                   });
  const auto problems = std::count_if(findings.begin(), findings.end(), [](const auto& finding) {
    return finding.severity == Severity::kProblem;
  });
  if (context.options.json) {
    context.out() << Json(findings);
  } else {
    Print(context, findings);
    context.out() << (problems == 0 ? "no problem found" : FormatCounted(problems, "problem"))
                  << '\n';
  }
  return problems == 0 ? kExitDone : kExitError;
}

}  // namespace

void AddDoctorCommand(CLI::App& app, Context& context) {
  auto arguments = std::make_shared<DoctorArguments>();
  CLI::App* doctor = app.add_subcommand(
      "doctor", "why a daemon does not start or is odd; needs none, and writes nothing");
  doctor->add_option("--data-dir", arguments->data_directory,
                     "the daemon's data directory (default: as --config says, else data)");
  doctor->add_option("--config", arguments->config, "the daemon's settings file, checked too");
  doctor->footer("Exit code 1 when there is a problem. Reads and hashes every snapshot.");
  doctor->callback([&context, arguments] {
    context.action = [&context, arguments] { return Doctor(context, *arguments); };
  });
}

}  // namespace icepie::cli
