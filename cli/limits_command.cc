// domain limits: what a domain may use, and where each limit is stated.
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/limits_text.h"
#include "cli/table.h"
#include "core/base/status.h"

namespace icepie::cli {
namespace {

using icepie::v1::Admin;
using icepie::v1::DomainLimit;

std::string SourceText(const DomainLimit& limit) {
  switch (limit.source()) {
    case DomainLimit::FILE:
      return "the domain's file";
    case DomainLimit::SETTINGS:
      return "the daemon's settings";
    default:
      return "built in";
  }
}

std::string KeysText(const DomainLimit& limit) {
  if (limit.file_key().empty()) return limit.settings_key();
  if (limit.settings_key().empty()) return limit.file_key();
  return absl::StrCat(limit.file_key(), ", else ", limit.settings_key());
}

absl::StatusOr<int> Limits(Context& context, const std::string& name) {
  icepie::v1::GetDomainRequest request;
  request.set_name(name);
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(icepie::v1::Domain domain,
                          client.Call(client.admin(), &Admin::StubInterface::GetDomain, request));
  if (context.options.json) {
    domain.clear_file();  // icepie domain get has it
    domain.clear_workers();
    context.out() << ToJson(domain);
    return kExitDone;
  }
  Table table({{"limit"}, {"value", true}, {"from"}, {"stated by"}, {"what"}});
  for (const DomainLimit& limit : domain.limits()) {
    table.AddRow(
        {limit.name(), LimitText(limit), SourceText(limit), KeysText(limit), limit.what()});
  }
  table.Print(context.out(), context.terminal.width);
  return kExitDone;
}

}  // namespace

std::string LimitText(const DomainLimit& limit) {
  if (!limit.has_value()) return "none";
  switch (limit.unit()) {
    case DomainLimit::BYTES:
      return FormatBytes(limit.value());
    case DomainLimit::BYTES_PER_SECOND:
      return absl::StrCat(FormatBytes(limit.value()), "/s");
    case DomainLimit::MILLISECONDS:
      return FormatElapsed(absl::Milliseconds(limit.value()));
    default:
      return FormatCount(limit.value());
  }
}

void AddLimitsCommand(CLI::App* domain, Context& context) {
  auto name = std::make_shared<std::string>();
  CLI::App* limits =
      domain->add_subcommand("limits", "what a domain may use, and where each limit is stated");
  limits->add_option("DOMAIN", *name)->required();
  limits->callback(
      [&context, name] { context.action = [&context, name] { return Limits(context, *name); }; });
}

}  // namespace icepie::cli
