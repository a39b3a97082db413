// domain list|get|history|delete|undelete, plan, apply
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "cli/commands.h"
#include "cli/confirm.h"
#include "cli/domain_files.h"
#include "cli/first_build.h"
#include "cli/format.h"
#include "cli/operations.h"
#include "cli/slice_history.h"
#include "cli/table.h"
#include "cli/time_span.h"
#include "cli/whole_number.h"
#include "core/base/status.h"

namespace icepie::cli {
namespace {

using icepie::v1::Admin;
using icepie::v1::ApplyDomainRequest;
using icepie::v1::ApplyDomainResponse;
using icepie::v1::Domain;
using icepie::v1::SliceChange;

struct ApplyArguments {
  std::string path;
  std::string overlay;
  std::string reason;
  bool prune = false;
  std::string promote;  // "", auto or manual
  std::string base;     // hash of the daemon's file that this one was made from
  bool overwrite = false;
  bool no_wait = false;
  bool verbose = false;
};

absl::StatusOr<ApplyDomainResponse> Apply(Context& context, const std::string& path,
                                          const ApplyArguments& arguments, bool validate_only) {
  ApplyDomainRequest request;
  ICEPIE_ASSIGN_OR_RETURN(const WholeDomainFile file, ReadDomainFile(path, arguments.overlay));
  request.set_file(file.text);
  request.set_file_name(file.name);
  request.set_validate_only(validate_only);
  request.set_prune(arguments.prune);
  if (!arguments.overwrite) request.set_base_hash(arguments.base);
  if (arguments.promote == "auto") request.set_promote(ApplyDomainRequest::AUTO);
  if (arguments.promote == "manual") request.set_promote(ApplyDomainRequest::MANUAL);
  request.set_reason(arguments.reason);
  request.set_actor(context.options.actor);
  context.AllowTime(kPlanTime);
  Client& client = context.client();
  auto applied = client.Call(client.admin(), &Admin::StubInterface::ApplyDomain, request);
  if (!applied.ok()) return file.InOwnFiles(applied.status());
  return applied;
}

const char* Mark(SliceChange::Kind kind) {
  switch (kind) {
    case SliceChange::CREATE:
      return "+ create   ";
    case SliceChange::REBUILD:
      return "~ rebuild  ";
    case SliceChange::DELETE:
      return "- delete   ";
    case SliceChange::UPDATE:
      return "* update   ";
    case SliceChange::RENAME:
      return "> rename   ";
    case SliceChange::ROLLED_BACK:
      return "! rolled back";
    default:
      return "= unchanged";
  }
}

// "81.2 M records ≈ 1m 50s at 740 k/s, state 0.9 GB of 1.0 GB".
std::string EstimateText(const icepie::v1::SliceEstimate& estimate) {
  std::string text = absl::StrCat(FormatCounted(estimate.records_to_read(), "record"), " to read");
  if (estimate.records_per_second() > 0) {
    absl::StrAppend(&text, " ≈ ", FormatElapsed(absl::Milliseconds(estimate.duration_ms())), " at ",
                    FormatRate(estimate.records_per_second()));
  }
  if (estimate.kept_records_max() > 0) {
    absl::StrAppend(&text, ", keeps at most ", FormatCount(estimate.kept_records_max()), " of ",
                    FormatCount(estimate.kept_records_limit()), " records");
  }
  if (estimate.state_bytes() > 0) {
    absl::StrAppend(&text, ", state now ", FormatBytes(estimate.state_bytes()));
  }
  absl::StrAppend(&text, ", memory ", FormatBytes(estimate.memory_limit_bytes()));
  return text;
}

void PrintWhy(Context& context, const SliceChange& change) {
  for (const auto& refused : change.why_not()) {
    context.out() << "      not " << refused.strategy() << ": " << Printable(refused.why()) << '\n';
  }
  for (const std::string& statement : change.statements()) {
    for (const absl::string_view line : absl::StrSplit(statement, '\n')) {
      context.out() << "      | " << Printable(line) << '\n';
    }
  }
}

void PrintChange(Context& context, const std::string& domain, const SliceChange& change,
                 bool verbose) {
  std::string line = absl::StrCat("  ", Mark(change.kind()), " ", domain, ".", change.slice());
  if (change.kind() != SliceChange::UNCHANGED && !change.why().empty()) {
    absl::StrAppend(&line, "  ", change.why());  // it begins with the strategy
  } else if (!change.strategy().empty()) {
    absl::StrAppend(&line, "  ", change.strategy());
  }
  if (!change.reads().empty())
    absl::StrAppend(&line, "  reads ", absl::StrJoin(change.reads(), ", "));
  if (!change.operation().empty()) {
    absl::StrAppend(&line, "  ", ShortOperationName(change.operation()));
  }
  if (!change.note().empty()) absl::StrAppend(&line, "  ", Printable(change.note()));
  context.out() << line << '\n';
  for (const std::string& breaking : change.breaking()) {
    context.out() << "      " << context.terminal.Red("BREAKING") << ": " << breaking << '\n';
  }
  if (change.has_estimate()) {
    context.out() << "      " << EstimateText(change.estimate()) << '\n';
  }
  if (verbose) PrintWhy(context, change);
}

void PrintChanges(Context& context, const ApplyDomainResponse& answer, const std::string& path,
                  bool verbose) {
  if (context.options.json) {
    context.out() << ToJson(answer);
    return;
  }
  context.out() << context.terminal.Bold(answer.domain()) << " from " << path;
  if (!answer.changed()) {
    context.out() << ": no changes\n";
    for (const SliceChange& change : answer.changes()) {
      const bool shown = change.kind() == SliceChange::ROLLED_BACK || verbose;
      if (shown) PrintChange(context, answer.domain(), change, verbose);
    }
    return;
  }
  context.out() << (answer.revision() > 0 ? absl::StrCat(", revision ", answer.revision()) : "")
                << (answer.base_hash().empty() ? "" : absl::StrCat(", base ", answer.base_hash()))
                << '\n';
  for (const SliceChange& change : answer.changes()) {
    PrintChange(context, answer.domain(), change, verbose);
  }
}

absl::StatusOr<int> Plan(Context& context, const ApplyArguments& arguments) {
  ICEPIE_ASSIGN_OR_RETURN(const auto files, DomainFiles(arguments.path));
  ICEPIE_RETURN_IF_ERROR(CheckOverlay(files, arguments.overlay));
  bool changed = false;
  for (const std::string& file : files) {
    ApplyArguments with_prune = arguments;
    with_prune.prune = true;  // a plan shows deletions instead of refusing them
    ICEPIE_ASSIGN_OR_RETURN(const auto answer, Apply(context, file, with_prune, true));
    PrintChanges(context, answer, file, arguments.verbose);
    changed = changed || answer.changed();
  }
  return changed ? kExitChangesPending : kExitDone;
}

absl::StatusOr<int64_t> GenerationOf(Context& context, const std::string& operation) {
  google::longrunning::GetOperationRequest request;
  request.set_name(OperationName(operation));
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(
      const auto answer,
      client.Call(client.operations(),
                  &google::longrunning::Operations::StubInterface::GetOperation, request));
  return MetadataOf(answer).generation();
}

// After its build: either it is promoted by itself, or somebody has to look at the difference.
absl::Status FinishRebuild(Context& context, const std::string& slice, int64_t generation) {
  icepie::v1::ListGenerationsRequest request;
  request.set_name(slice);
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(
      const auto answer,
      client.Call(client.admin(), &Admin::StubInterface::ListGenerations, request));
  for (const auto& each : answer.generations()) {
    if (each.number() != generation) continue;
    if (each.promote_when_ready() || each.has_not_promoted() ||
        each.state() == icepie::v1::Generation::SERVING) {
      return WaitForPromotion(context, slice, generation);
    }
  }
  if (!context.options.json) {
    context.out() << slice << " is ready beside the serving generation: icepie slice diff " << slice
                  << ", then icepie slice promote " << slice << '\n';
  }
  return absl::OkStatus();
}

absl::StatusOr<int> ApplyAll(Context& context, const ApplyArguments& arguments) {
  ICEPIE_ASSIGN_OR_RETURN(const auto files, DomainFiles(arguments.path));
  ICEPIE_RETURN_IF_ERROR(CheckOverlay(files, arguments.overlay));
  std::vector<std::string> operations;
  std::vector<std::pair<std::string, std::string>> rebuilt;  // slice, operation
  std::set<std::string> created;
  for (const std::string& file : files) {
    ICEPIE_ASSIGN_OR_RETURN(const auto answer, Apply(context, file, arguments, false));
    PrintChanges(context, answer, file, /*verbose=*/false);
    for (const SliceChange& change : answer.changes()) {
      if (change.kind() == SliceChange::CREATE) {
        created.insert(absl::StrCat(answer.domain(), ".", change.slice()));
      }
      if (change.operation().empty()) continue;
      operations.push_back(change.operation());
      if (change.kind() == SliceChange::REBUILD) {
        rebuilt.emplace_back(absl::StrCat(answer.domain(), ".", change.slice()),
                             change.operation());
      }
    }
  }
  context.out().flush();
  if (arguments.no_wait) return kExitDone;
  ICEPIE_RETURN_IF_ERROR(WaitForFirstBuilds(context, created));
  ICEPIE_RETURN_IF_ERROR(FollowOperations(context, operations));
  for (const auto& [slice, operation] : rebuilt) {
    ICEPIE_ASSIGN_OR_RETURN(const int64_t generation, GenerationOf(context, operation));
    ICEPIE_RETURN_IF_ERROR(FinishRebuild(context, slice, generation));
  }
  return kExitDone;
}

std::string WorkersText(const Domain& domain) {
  std::vector<std::string> texts;
  for (const auto& worker : domain.workers()) {
    texts.push_back(absl::StrCat(
        worker.role(), " ", worker.state(),
        worker.pid() > 0 ? absl::StrCat(" pid ", worker.pid()) : "",
        worker.restarts() > 0 ? absl::StrCat(", ", FormatCounted(worker.restarts(), "restart"))
                              : ""));
  }
  return absl::StrJoin(texts, "; ");
}

// "deleted by ana until 2026-12-03T…Z: not needed".
std::string DeletionText(const icepie::v1::DomainDeletion& deletion) {
  return absl::StrCat("deleted by ", deletion.actor(), ", kept until ",
                      FormatTime(deletion.purge_time()), deletion.reason().empty() ? "" : ": ",
                      deletion.reason());
}

absl::StatusOr<int> ListDomains(Context& context, bool show_deleted) {
  Client& client = context.client();
  icepie::v1::ListDomainsRequest request;
  request.set_show_deleted(show_deleted);
  ICEPIE_ASSIGN_OR_RETURN(const auto answer,
                          client.Call(client.admin(), &Admin::StubInterface::ListDomains, request));
  if (context.options.json) {
    context.out() << ToJson(answer);
    return kExitDone;
  }
  Table table({{"domain"}, {"revision", true}, {"applied"}, {"by"}, {"reason"}, {"workers"}});
  for (const Domain& domain : answer.domains()) {
    table.AddRow({domain.name(), FormatCount(domain.revision()), FormatTime(domain.apply_time()),
                  domain.actor(), domain.reason(),
                  domain.has_deletion() ? DeletionText(domain.deletion()) : WorkersText(domain)});
  }
  table.Print(context.out(), context.terminal.width);
  return kExitDone;
}

struct DeleteArguments {
  std::string name;
  std::string reason;
  std::string keep;  // "7d"
  bool yes = false;
};

absl::StatusOr<int> DeleteDomain(Context& context, const DeleteArguments& arguments) {
  icepie::v1::DeleteDomainRequest request;
  request.set_name(arguments.name);
  request.set_reason(arguments.reason);
  request.set_actor(context.options.actor);
  std::string kept = "its files stay for 7d";
  if (!arguments.keep.empty()) {
    const auto keep = ParseTimeSpan(arguments.keep);
    if (!keep) {
      return absl::InvalidArgumentError(
          absl::StrCat("--keep ", arguments.keep, ": write it as 0s, 12h or 30d"));
    }
    request.mutable_keep()->set_seconds(absl::ToInt64Seconds(*keep));
    kept = *keep > absl::ZeroDuration() ? absl::StrCat("its files stay for ", arguments.keep)
                                        : "its files go now, for good";
  }
  if (!arguments.yes) {
    ICEPIE_RETURN_IF_ERROR(Confirm(
        context, absl::StrCat("nobody can ask domain ", arguments.name, " any more; ", kept),
        "to delete it"));
  }
  context.AllowTime(kChangeTime);
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(
      const Domain domain,
      client.Call(client.admin(), &Admin::StubInterface::DeleteDomain, request));
  context.out() << (context.options.json
                        ? ToJson(domain)
                        : absl::StrCat(domain.name(), ": ", DeletionText(domain.deletion()),
                                       "; back with: icepie domain undelete ", domain.name(),
                                       "\n"));
  return kExitDone;
}

absl::StatusOr<int> UndeleteDomain(Context& context, const DeleteArguments& arguments) {
  icepie::v1::UndeleteDomainRequest request;
  request.set_name(arguments.name);
  request.set_reason(arguments.reason);
  request.set_actor(context.options.actor);
  context.AllowTime(kChangeTime);
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(
      const Domain domain,
      client.Call(client.admin(), &Admin::StubInterface::UndeleteDomain, request));
  context.out() << (context.options.json
                        ? ToJson(domain)
                        : absl::StrCat(domain.name(), " is back: ", WorkersText(domain), "\n"));
  return kExitDone;
}

struct DomainArguments {
  std::string name;
  int64_t revision = 0;
};

absl::StatusOr<Domain> FindDomain(Context& context, const DomainArguments& arguments) {
  icepie::v1::GetDomainRequest request;
  request.set_name(arguments.name);
  request.set_revision(arguments.revision);
  Client& client = context.client();
  return client.Call(client.admin(), &Admin::StubInterface::GetDomain, request);
}

// The file byte for byte, so that it can be edited and applied again.
absl::StatusOr<int> GetDomain(Context& context, const DomainArguments& arguments) {
  ICEPIE_ASSIGN_OR_RETURN(const Domain domain, FindDomain(context, arguments));
  context.out() << (context.options.json ? ToJson(domain) : domain.file());
  return kExitDone;
}

absl::StatusOr<int> History(Context& context, const DomainArguments& arguments) {
  if (arguments.revision > 0) return GetDomain(context, arguments);
  icepie::v1::ListDomainRevisionsRequest request;
  request.set_name(arguments.name);
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(
      const auto answer,
      client.Call(client.admin(), &Admin::StubInterface::ListDomainRevisions, request));
  if (context.options.json) {
    context.out() << ToJson(answer);
    return kExitDone;
  }
  Table table({{"revision", true}, {"applied"}, {"by"}, {"reason"}, {"hash"}});
  for (const Domain& revision : answer.revisions()) {
    table.AddRow({FormatCount(revision.revision()), FormatTime(revision.apply_time()),
                  revision.actor(), revision.reason(), revision.hash()});
  }
  table.Print(context.out(), context.terminal.width);
  return kExitDone;
}

void AddDeletion(CLI::App* domain, Context& context) {
  auto arguments = std::make_shared<DeleteArguments>();
  CLI::App* remove = domain->add_subcommand(
      "delete", "take a domain away; for a while it can be brought back as it was");
  remove->add_option("DOMAIN", arguments->name)->required();
  remove->add_option("--reason", arguments->reason, "written down with the change")->required();
  remove->add_option("--keep", arguments->keep,
                     "for how long it can be brought back, as 12h or 30d (default 7d); 0s: not at "
                     "all");
  remove->add_flag("-y,--yes", arguments->yes, "do not ask");
  remove->callback([&context, arguments] {
    context.action = [&context, arguments] { return DeleteDomain(context, *arguments); };
  });
  CLI::App* undelete = domain->add_subcommand("undelete", "bring a deleted domain back as it was");
  undelete->add_option("DOMAIN", arguments->name)->required();
  undelete->add_option("--reason", arguments->reason, "written down with the change");
  undelete->callback([&context, arguments] {
    context.action = [&context, arguments] { return UndeleteDomain(context, *arguments); };
  });
}

void AddDomain(CLI::App& app, Context& context) {
  CLI::App* domain = app.add_subcommand("domain", "domains and their files");
  domain->require_subcommand(1);
  AddDomainControl(domain, context);
  AddLimitsCommand(domain, context);
  auto deleted = std::make_shared<bool>(false);
  CLI::App* list = domain->add_subcommand("list", "list the domains and their workers");
  list->add_flag("--deleted", *deleted, "also those that can be brought back");
  list->callback([&context, deleted] {
    context.action = [&context, deleted] { return ListDomains(context, *deleted); };
  });
  AddDeletion(domain, context);
  auto arguments = std::make_shared<DomainArguments>();
  CLI::App* get = domain->add_subcommand("get", "print a domain's file as it was applied");
  get->add_option("DOMAIN", arguments->name)->required();
  get->add_option("--revision", arguments->revision, "an older one that is still kept")
      ->check(WholeNumberFrom(1));
  get->callback([&context, arguments] {
    context.action = [&context, arguments] { return GetDomain(context, *arguments); };
  });
  CLI::App* history =
      domain->add_subcommand("history", "the files that were applied, newest first");
  history->add_option("DOMAIN", arguments->name)->required();
  history->add_option("--show", arguments->revision, "print the file of this revision")
      ->check(WholeNumberFrom(1));
  history->callback([&context, arguments] {
    context.action = [&context, arguments] { return History(context, *arguments); };
  });
}

}  // namespace

void AddDomainCommands(CLI::App& app, Context& context) {
  AddDomain(app, context);
  auto arguments = std::make_shared<ApplyArguments>();
  const std::string base_help =
      "hash of the file that this one was made from (plan and domain history print it): refused "
      "when the daemon has another one by now";
  const std::string overlay_help =
      "a file with other limits, refreshes and snapshots, for one environment";
  CLI::App* plan = app.add_subcommand("plan", "what apply would do; exit 2 when it would change");
  plan->add_option("-f,--file", arguments->path, "a domain's file, or a directory of them")
      ->required();
  plan->add_option("--overlay", arguments->overlay, overlay_help);
  plan->add_option("--base", arguments->base, base_help);
  plan->add_flag("-v,--verbose", arguments->verbose,
                 "also why no cheaper strategy, and the statements that will run");
  plan->callback([&context, arguments] {
    context.action = [&context, arguments] { return Plan(context, *arguments); };
  });

  CLI::App* apply = app.add_subcommand("apply", "make files the domains' definitions");
  apply->add_option("-f,--file", arguments->path, "a domain's file, or a directory of them")
      ->required();
  apply->add_option("--overlay", arguments->overlay, overlay_help);
  apply->add_option("--base", arguments->base, base_help);
  apply->add_flag("--prune", arguments->prune, "delete slices that left the file");
  apply->add_option("--reason", arguments->reason, "written down with the change");
  apply
      ->add_option("--promote", arguments->promote,
                   "auto: rebuilt slices serve as soon as they are ready, within the limits of the "
                   "file; manual: never by themselves; otherwise as the file says")
      ->check(CLI::IsMember({"auto", "manual"}));
  apply->add_flag("--overwrite", arguments->overwrite, "whatever file the daemon has by now");
  apply->add_flag("--no-wait", arguments->no_wait, "do not follow the builds");
  apply->callback([&context, arguments] {
    context.action = [&context, arguments] { return ApplyAll(context, *arguments); };
  });
}

}  // namespace icepie::cli
