#include "server/supervisor/resting_start.h"

#include <unistd.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/file.h"
#include "server/base/proto_time.h"
#include "server/domain/domain_assignment.h"
#include "server/domain/promotion.h"
#include "server/domain/snapshot_files.h"
#include "slices/snapshot/snapshot_format.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;
namespace wv1 = icepie::worker::v1;
using Json = nlohmann::json;

google::protobuf::Timestamp FromMicros(int64_t micros) {
  return ToProto(absl::FromUnixMicros(micros));
}

// As slices/expectation/expectation_store.cc writes it.
void FillExpectation(const Json& json, v1::ExpectationResult& result) {
  result.set_name(json.at("name").get<std::string>());
  result.set_check(json.at("check").get<std::string>());
  const bool warns = json.at("severity").get<std::string>() == "warn";
  result.set_severity(warns ? v1::ExpectationResult::WARN : v1::ExpectationResult::ERROR);
  result.set_status(static_cast<v1::ExpectationResult::Status>(json.at("status").get<int>()));
  result.set_failing_rows(json.at("failing_rows").get<int64_t>());
  for (const Json& sample : json.at("samples")) result.add_samples(sample.get<std::string>());
  result.set_position(json.at("position").get<int64_t>());
  *result.mutable_time() = FromMicros(json.at("time_us").get<int64_t>());
  result.set_message(json.at("message").get<std::string>());
}

// As slices/snapshot/snapshot_store.cc writes it.
void FillFromManifest(const Json& json, wv1::SliceReport& report) {
  report.set_slice(json.at("slice").get<std::string>());
  report.set_generation(json.at("generation").get<int64_t>());
  report.set_definition_hash(json.at("definition_hash").get<std::string>());
  report.set_strategy(json.at("strategy").get<std::string>());
  report.mutable_snapshot()->set_rows(json.at("rows").get<int64_t>());
  report.mutable_snapshot()->set_sha256(json.at("sha256").get<std::string>());
  *report.mutable_snapshot()->mutable_time() = FromMicros(json.at("time_us").get<int64_t>());
  const Json& progress = json.at("progress");
  const auto number = [&](const char* name) { return progress.at(name).get<int64_t>(); };
  report.set_applied_position(number("applied_position"));
  report.set_content_version(number("content_version"));
  if (const int64_t applied = number("applied_time_us"); applied > 0) {
    *report.mutable_applied_time() = FromMicros(applied);
  }
  if (const int64_t newest = number("event_time_max_us"); newest != INT64_MIN) {
    *report.mutable_event_time_max() = FromMicros(newest);
  }
  report.mutable_counts()->set_input(number("input"));
  report.mutable_counts()->set_applied(number("applied"));
  report.mutable_counts()->set_filtered(number("filtered"));
  report.mutable_counts()->set_quarantined(number("quarantined"));
  report.mutable_snapshot()->set_position(report.applied_position());
  report.mutable_snapshot()->set_content_version(report.content_version());
  if (!json.contains("expectations")) return;
  for (const Json& each : json.at("expectations")) {
    FillExpectation(each, *report.add_expectations());
  }
}

std::optional<wv1::SliceReport> ReportOf(const std::string& directory, const std::string& path) {
  const std::string manifest =
      absl::StrCat(directory, "/", absl::StripSuffix(path, ".duckdb"), ".json");
  const auto text = ReadFile(manifest);
  if (!text.ok()) return std::nullopt;
  wv1::SliceReport report;
  try {
    const Json json = Json::parse(*text);
    if (json.at("format").get<int>() != slices::kSnapshotFormat) return std::nullopt;
    FillFromManifest(json, report);
  } catch (const Json::exception&) {
    return std::nullopt;  // the live worker finds out what is wrong with it
  }
  report.mutable_snapshot()->set_path(path);
  return report;
}

// An expectation keeps its newer state from becoming a snapshot
// (slices/expectation/expectation_store.h).
bool IsHeldBack(const std::string& directory, const wv1::GenerationSpec& spec) {
  const std::string path =
      absl::StrCat(directory, "/snapshots/", spec.slice(), "/g", spec.number(), "-held.json");
  return access(path.c_str(), F_OK) == 0;
}

// Nullopt: nothing could answer from it.
std::optional<wv1::SliceReport> AtRest(const DomainFacts& facts, const std::string& directory,
                                       const wv1::GenerationSpec& spec, bool& has_work) {
  has_work = true;
  if (!spec.serving() || spec.suspended()) return std::nullopt;
  const std::string path = NewestSnapshot(directory, spec.slice(), spec.number());
  if (path.empty()) return std::nullopt;
  auto report = ReportOf(directory, path);
  if (!report || report->definition_hash() != spec.definition_hash()) return std::nullopt;
  const bool unseen = !spec.frozen() && HasUnseen(facts, spec.slice(), report->applied_position());
  const bool quarantined = report->counts().quarantined() > 0;
  // How many of them are not acknowledged only a worker can count.
  if (quarantined) report->clear_counts();
  has_work = unseen || quarantined || IsHeldBack(directory, spec);
  report->set_serving(true);
  report->set_state(spec.frozen() ? v1::FROZEN : v1::RUNNING);
  *report->mutable_state_since() = report->snapshot().time();
  return report;
}

}  // namespace

RestingStart ReadRestingStart(const DomainFacts& facts, const std::string& directory) {
  const wv1::Assignment assignment = MakeAssignment(*facts.domain, facts.now);
  RestingStart out;
  if (assignment.generations().empty()) return out;
  auto all = std::make_shared<wv1::WorkerReport>();
  all->set_epoch(assignment.epoch());
  for (const wv1::GenerationSpec& spec : assignment.generations()) {
    bool has_work = false;
    auto report = AtRest(facts, directory, spec, has_work);
    out.has_work = out.has_work || has_work;
    if (report) *all->add_slices() = *std::move(report);
  }
  out.report = std::move(all);
  return out;
}

}  // namespace icepie::server
