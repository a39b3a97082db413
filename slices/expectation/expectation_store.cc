#include "slices/expectation/expectation_store.h"

#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "spdlog/spdlog.h"

namespace icepie::slices {
namespace {

using Json = nlohmann::json;

ExpectationResult ResultFromJson(const Json& json) {
  ExpectationResult result;
  result.name = json.at("name").get<std::string>();
  result.check = json.at("check").get<std::string>();
  result.sql_digest = json.value("sql_digest", "");
  result.severity = json.at("severity").get<std::string>() == "warn" ? ExpectationSeverity::kWarn
                                                                     : ExpectationSeverity::kError;
  const int status = json.at("status").get<int>();
  if (status == 2) result.status = ExpectationResult::Status::kPassed;
  if (status == 3) result.status = ExpectationResult::Status::kFailed;
  result.failing_rows = json.at("failing_rows").get<int64_t>();
  result.samples = json.at("samples").get<std::vector<std::string>>();
  result.position = json.at("position").get<int64_t>();
  result.time = absl::FromUnixMicros(json.at("time_us").get<int64_t>());
  result.message = json.at("message").get<std::string>();
  result.endless = json.value("endless", false);
  return result;
}

}  // namespace

Json ExpectationsToJson(const std::vector<ExpectationResult>& results) {
  Json json = Json::array();
  for (const ExpectationResult& result : results) {
    json.push_back({{"name", result.name},
                    {"check", result.check},
                    {"sql_digest", result.sql_digest},
                    {"severity", result.severity == ExpectationSeverity::kWarn ? "warn" : "error"},
                    {"status", static_cast<int>(result.status)},
                    {"failing_rows", result.failing_rows},
                    {"samples", result.samples},
                    {"position", result.position},
                    {"time_us", absl::ToUnixMicros(result.time)},
                    {"message", result.message}});
    if (result.endless) json.back()["endless"] = true;
  }
  return json;
}

std::vector<ExpectationResult> ExpectationsFromJson(const Json& json) {
  std::vector<ExpectationResult> results;
  for (const Json& each : json) results.push_back(ResultFromJson(each));
  return results;
}

std::string HoldPath(const std::string& directory, const std::string& slice, int64_t generation) {
  return absl::StrCat(directory, "/snapshots/", slice, "/g", generation, "-held.json");
}

absl::Status WriteHold(const std::string& path, const ExpectationHold& hold) {
  const Json json = {{"position", hold.position},
                     {"time_us", absl::ToUnixMicros(hold.time)},
                     {"expectations", ExpectationsToJson(hold.results)}};
  ICEPIE_RETURN_IF_ERROR(MakeDirectories(std::filesystem::path(path).parent_path()));
  return WriteFileAtomically(path, json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

std::optional<ExpectationHold> ReadHold(const std::string& path) {
  if (::access(path.c_str(), F_OK) != 0) return std::nullopt;
  ExpectationHold hold;
  const auto text = ReadFile(path);
  try {
    const Json json = Json::parse(text.ok() ? *text : "");
    hold.position = json.at("position").get<int64_t>();
    hold.time = absl::FromUnixMicros(json.at("time_us").get<int64_t>());
    hold.results = ExpectationsFromJson(json.at("expectations"));
  } catch (const Json::exception& error) {
    spdlog::error("hold file {}: {}", path, error.what());
    return ExpectationHold();
  }
  return hold;
}

void RemoveHold(const std::string& path) { ::unlink(path.c_str()); }

}  // namespace icepie::slices
