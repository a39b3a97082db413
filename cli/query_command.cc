// query DOMAIN SQL
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cli/answer.h"
#include "cli/commands.h"
#include "cli/consistency_options.h"
#include "core/base/status.h"

namespace icepie::cli {
namespace {

struct QueryArguments {
  std::string domain;
  std::string sql;
  std::vector<std::string> parameters;
  ConsistencyOptions consistency;
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
  ICEPIE_RETURN_IF_ERROR(SetConsistency(arguments.consistency, &request));
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
  AddConsistencyOptions(query, arguments->consistency);
  query->callback([&context, arguments] {
    context.action = [&context, arguments] { return Query(context, *arguments); };
  });
}

}  // namespace icepie::cli
