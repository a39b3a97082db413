// query DOMAIN SQL
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cli/answer.h"
#include "cli/commands.h"
#include "core/base/status.h"
#include "server/query/as_of.h"
#include "server/query/staleness.h"

namespace icepie::cli {
namespace {

struct QueryArguments {
  std::string domain;
  std::string sql;
  std::vector<std::string> parameters;
  std::optional<int64_t> min_position;
  std::string as_of;
  std::string max_staleness;
  std::string on_stale;
};

absl::StatusOr<int> Query(Context& context, const QueryArguments& arguments) {
  icepie::v1::QueryRequest request;
  request.set_domain(arguments.domain);
  request.set_sql(arguments.sql);
  for (const std::string& parameter : arguments.parameters) {
    const size_t equals = parameter.find('=');
    if (equals == std::string::npos || equals == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("--param ", parameter, ": give name=value, for $name in the SQL"));
    }
    (*request.mutable_parameters())[parameter.substr(0, equals)] =
        ValueOf(parameter.substr(equals + 1));
  }
  if (arguments.min_position) {
    request.mutable_consistency()->set_min_position(*arguments.min_position);
  }
  if (!arguments.as_of.empty()) {
    ICEPIE_RETURN_IF_ERROR(server::SetAsOf(arguments.as_of, request.mutable_consistency()));
  }
  if (!arguments.max_staleness.empty()) {
    ICEPIE_RETURN_IF_ERROR(
        server::SetMaxStaleness(arguments.max_staleness, request.mutable_consistency()));
    ICEPIE_RETURN_IF_ERROR(server::SetOnStale(arguments.on_stale, request.mutable_consistency()));
  }
  return AskAndPrint(context, request);
}

}  // namespace

void AddQueryCommand(CLI::App& app, Context& context) {
  CLI::App* query = app.add_subcommand("query", "one SELECT over a domain's slices");
  auto arguments = std::make_shared<QueryArguments>();
  query->add_option("DOMAIN", arguments->domain)->required();
  query->add_option("SQL", arguments->sql)->required();
  query->add_option("--param", arguments->parameters, "name=value, bound as $name")
      ->allow_extra_args(false);
  query
      ->add_option("--min-position", arguments->min_position,
                   "wait until every slice read shows all records below it")
      ->check(CLI::NonNegativeNumber);
  query->add_option("--as-of", arguments->as_of,
                    "answer from a snapshot: a position, a time such as 2026-11-22T02:58:41Z, or "
                    "a snapshot's name");
  CLI::Option* const max_staleness = query->add_option(
      "--max-staleness", arguments->max_staleness,
      "what has been stale for longer, such as 30s, is waited for, or no answer (--on-stale)");
  query->add_option("--on-stale", arguments->on_stale, "wait (for 5s), fail or serve")
      ->default_val("fail")
      ->needs(max_staleness);
  query->callback([&context, arguments] {
    context.action = [&context, arguments] { return Query(context, *arguments); };
  });
}

}  // namespace icepie::cli
