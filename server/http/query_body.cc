#include "server/http/query_body.h"

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "server/query/as_of.h"
#include "server/query/row_format.h"
#include "server/query/staleness.h"

namespace icepie::server {
namespace {

using icepie::v1::QueryRequest;
using icepie::v1::Value;
using nlohmann::json;

absl::Status InvalidBody(absl::string_view message) {
  return MakeError(absl::StatusCode::kInvalidArgument, message, "BODY_INVALID");
}

absl::Status SetValue(const std::string& name, const json& given, Value* value) {
  if (given.is_null()) {
    value->set_null(true);
  } else if (given.is_boolean()) {
    value->set_boolean(given.get<bool>());
  } else if (given.is_number_unsigned() &&
             given.get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()}) {
    value->set_decimal(given.dump());
  } else if (given.is_number_integer()) {
    value->set_integer(given.get<int64_t>());
  } else if (given.is_number()) {
    value->set_double_(given.get<double>());
  } else if (given.is_string()) {
    value->set_text(given.get<std::string>());
  } else {
    return InvalidBody(
        absl::StrCat("parameters.", name, " must be null, a boolean, a number or a text"));
  }
  return absl::OkStatus();
}

absl::Status SetParameters(const json& parameters, QueryRequest* query) {
  if (!parameters.is_object())
    return InvalidBody("parameters must be an object of names and values");
  for (const auto& [name, value] : parameters.items()) {
    ICEPIE_RETURN_IF_ERROR(SetValue(name, value, &(*query->mutable_parameters())[name]));
  }
  return absl::OkStatus();
}

absl::Status SetField(const std::string& name, const json& value, QueryRequest* query) {
  if (name == "sql") {
    if (!value.is_string()) return InvalidBody("sql must be a text");
    query->set_sql(value.get<std::string>());
    return absl::OkStatus();
  }
  if (name == "parameters") return SetParameters(value, query);
  if (name == "min_position") {
    if (!value.is_number_unsigned())
      return InvalidBody("min_position must be a whole number from 0");
    query->mutable_consistency()->set_min_position(value.get<int64_t>());
    return absl::OkStatus();
  }
  if (name == "as_of") {
    const bool position = value.is_number_unsigned();
    if (!position && !value.is_string()) {
      return InvalidBody("as_of must be a position, or a time or the name of a snapshot as text");
    }
    return SetAsOf(position ? value.dump() : value.get<std::string>(),
                   query->mutable_consistency());
  }
  if (name == "max_staleness" || name == "on_stale") {
    if (!value.is_string()) return InvalidBody(name + " must be a text");
    auto* const consistency = query->mutable_consistency();
    return name == "on_stale" ? SetOnStale(value.get<std::string>(), consistency)
                              : SetMaxStaleness(value.get<std::string>(), consistency);
  }
  if (name == "format" || name == "numbers") {
    if (!value.is_string()) return InvalidBody(name + " must be a text");
    return name == "format" ? SetFormat(value.get<std::string>(), query)
                            : SetNumbers(value.get<std::string>(), query);
  }
  return InvalidBody(absl::StrCat("\"", name,
                                  "\" is not known (have: as_of, format, max_staleness, "
                                  "min_position, numbers, on_stale, parameters, sql)"));
}

}  // namespace

absl::StatusOr<QueryRequest> ParseQueryBody(const std::string& body) {
  const json parsed = json::parse(body, nullptr, false);
  if (parsed.is_discarded()) return InvalidBody("the body is not well-formed JSON");
  if (!parsed.is_object()) return InvalidBody("the body must be an object with the field sql");
  QueryRequest query;
  for (const auto& [name, value] : parsed.items()) {
    ICEPIE_RETURN_IF_ERROR(SetField(name, value, &query));
  }
  if (query.sql().empty()) return InvalidBody("sql is missing: the body needs one SELECT");
  return query;
}

}  // namespace icepie::server
