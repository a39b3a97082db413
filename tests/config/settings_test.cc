#include "config/settings.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "core/base/status.h"

namespace icepie::config {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string FaultOf(const std::string& yaml) {
  const auto settings = ParseSettings(yaml, "icepie.yaml");
  if (settings.ok()) return "accepted";
  EXPECT_EQ(settings.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ErrorReason(settings.status()), "SETTINGS_INVALID");
  return std::string(settings.status().message());
}

TEST(SettingsTest, EmptyFileIsTheDefaults) {
  const auto settings = ParseSettings("", "icepie.yaml");
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->listen().grpc(), "127.0.0.1:7420");
  EXPECT_EQ(settings->data_directory(), "data");
}

TEST(SettingsTest, ShippedFileStatesTheDefaults) {
  const char* source = std::getenv("ICEPIE_SOURCE");
  ASSERT_NE(source, nullptr);
  const auto settings = LoadSettings(std::string(source) + "/config/icepie.yaml");
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(*settings, DefaultSettings()))
      << settings->DebugString();
}

TEST(SettingsTest, MissingFileIsNamed) {
  const auto settings = LoadSettings("/nonexistent/icepie.yaml");
  EXPECT_EQ(settings.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(settings.status().message()), HasSubstr("/nonexistent/icepie.yaml"));
}

TEST(SettingsTest, OverlaysDefaults) {
  const auto settings = ParseSettings(
      "data_directory: /var/lib/icepie\n"
      "listen: {grpc: \"[::1]:0\", http: \"\"}\n"
      "workers:\n"
      "  query_timeout_ms: 5s\n"
      "  memory_bytes: 512MB\n"
      "  snapshot_interval_ms: 2500\n"
      "core:\n",
      "icepie.yaml");
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->data_directory(), "/var/lib/icepie");
  EXPECT_EQ(settings->listen().grpc(), "[::1]:0");
  EXPECT_EQ(settings->listen().http(), "");
  EXPECT_EQ(settings->workers().query_timeout_ms(), 5000);
  EXPECT_EQ(settings->workers().memory_bytes(), 512'000'000);
  EXPECT_EQ(settings->workers().snapshot_interval_ms(), 2500);
  EXPECT_EQ(settings->workers().snapshots_kept(), DefaultSettings().workers().snapshots_kept());
}

TEST(SettingsTest, UnknownFieldsNameLineColumnAndWhatThereIs) {
  EXPECT_EQ(FaultOf("core:\n  batch_bytes: 1\n"),
            "icepie.yaml:2:3: core.batch_bytes: is not a setting (have: record_bytes_max, "
            "batch_bytes_max, batch_records_max, queue_bytes_max, free_bytes_min, ballast_bytes, "
            "origin, segment_bytes, hot_bytes_min, hot_age_min_ms, scrub_interval_ms, "
            "scrub_bytes_per_second)");
  EXPECT_THAT(FaultOf("listn: {}\n"), StartsWith("icepie.yaml:1:1: listn: is not a setting"));
  EXPECT_THAT(FaultOf("[a]: 1\n"), HasSubstr("is not a setting"));
}

TEST(SettingsTest, DuplicatesAreRefused) {
  EXPECT_EQ(FaultOf("logging: {level: info}\nlogging: {level: warn}\n"),
            "icepie.yaml:2:1: logging: is given twice; remove one");
}

TEST(SettingsTest, TypesAreChecked) {
  EXPECT_EQ(FaultOf("workers:\n  snapshots_kept: two\n"),
            "icepie.yaml:2:19: workers.snapshots_kept: \"two\" is not a whole number");
  EXPECT_THAT(FaultOf("workers: {query_timeout_ms: 5 parsecs}\n"), HasSubstr("is not millisec"));
  EXPECT_THAT(FaultOf("workers: {memory_bytes: 1.5GB}\n"), HasSubstr("is not bytes or a size"));
  EXPECT_THAT(FaultOf("workers: {memory_bytes: 99999999999GiB}\n"), HasSubstr("is not bytes"));
  EXPECT_THAT(FaultOf("workers: 7\n"), HasSubstr("must be a map"));
  EXPECT_THAT(FaultOf("data_directory: [a]\n"), HasSubstr("must be a single value"));
  EXPECT_THAT(FaultOf("workers: {snapshots_kept: }\n"), HasSubstr("must be a single value"));
}

TEST(SettingsTest, RangesAreChecked) {
  EXPECT_EQ(FaultOf("core: {record_bytes_max: 1}\n"),
            "icepie.yaml:1:26: core.record_bytes_max: 1 is out of range (1024 to 3145728)");
  EXPECT_THAT(FaultOf("workers: {query_timeout_ms: -1}\n"), HasSubstr("out of range"));
  EXPECT_THAT(FaultOf("logging: {level: loud}\n"), HasSubstr("trace, debug, info"));
  EXPECT_THAT(FaultOf("data_directory: \"\"\n"), HasSubstr("must name a directory"));
}

// Found by reflection, so that a setting added later cannot forget its range.
TEST(SettingsTest, EveryIntegerHasARange) {
  const auto* settings = icepie::config::v1::Settings::descriptor();
  int integers = 0;
  for (int i = 0; i < settings->field_count(); ++i) {
    const auto* section = settings->field(i)->message_type();
    for (int j = 0; section != nullptr && j < section->field_count(); ++j) {
      if (section->field(j)->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_INT64) {
        continue;
      }
      ++integers;
      const std::string yaml =
          settings->field(i)->name() + ": {" + section->field(j)->name() + ": -2}\n";
      EXPECT_THAT(FaultOf(yaml), HasSubstr("out of range")) << yaml;
    }
  }
  EXPECT_GT(integers, 5);
}

TEST(SettingsTest, LimitsMustFitEachOther) {
  EXPECT_EQ(FaultOf("core:\n  record_bytes_max: 2MiB\n  batch_bytes_max: 1MiB\n"),
            "icepie.yaml:3:20: core.batch_bytes_max: 1048576 is less than core.record_bytes_max "
            "(2097152): no largest record could be appended");
  EXPECT_THAT(FaultOf("core: {queue_bytes_max: 1MiB}\n"), HasSubstr("no largest batch"));
  EXPECT_THAT(FaultOf("workers: {heartbeat_interval_ms: 6s}\n"),
              StartsWith("icepie.yaml: workers.heartbeat_timeout_ms: 5000 must be more"));
}

TEST(SettingsTest, OnlyLoopbackAddresses) {
  for (const char* address : {"0.0.0.0:7420", "10.0.0.1:7420", "[::]:7420", "example.org:7420",
                              "127.evil.example:7420"}) {
    EXPECT_THAT(FaultOf("listen: {grpc: \"" + std::string(address) + "\"}\n"),
                HasSubstr("no authentication yet"))
        << address;
  }
  for (const char* address : {"127.0.0.1", "127.0.0.1:", "127.0.0.1:70000", "127.0.0.1:-1", ""}) {
    EXPECT_THAT(FaultOf("listen: {grpc: \"" + std::string(address) + "\"}\n"),
                HasSubstr("must be host:port"))
        << address;
  }
  EXPECT_EQ(FaultOf("listen: {http: \"localhost:80\"}\n"), "accepted");
}

TEST(SettingsTest, AllFaultsAreListed) {
  const auto settings = ParseSettings("a: 1\nb: 2\nlogging: {level: x}\n", "f.yaml");
  const auto detail = GetErrorDetail(settings.status());
  ASSERT_TRUE(detail.has_value());
  EXPECT_EQ(detail->violations.size(), 3U);
  EXPECT_EQ(detail->metadata.at("line"), "1");
  EXPECT_THAT(std::string(settings.status().message()), HasSubstr("(and 2 more)"));
}

TEST(SettingsTest, BrokenYamlIsAnErrorWithItsPlace) {
  EXPECT_THAT(FaultOf("core: {\n"), StartsWith("icepie.yaml:2:1: not valid YAML: "));
  EXPECT_THAT(FaultOf("core: *nobody\n"), HasSubstr("not valid YAML"));
  EXPECT_THAT(FaultOf("logging: {level: info}\n---\nlogging: {level: info}\n"),
              HasSubstr("a second document"));
  EXPECT_THAT(FaultOf("- a\n"), HasSubstr("must be a map"));
  EXPECT_THAT(FaultOf(std::string(100'000, '[')), HasSubstr("icepie.yaml"));
  EXPECT_THAT(FaultOf(std::string(300'000, ' ')), HasSubstr("at most 262144"));
}

}  // namespace
}  // namespace icepie::config
