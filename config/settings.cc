#include "config/settings.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <exception>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "core/base/file.h"
#include "core/base/status.h"

namespace icepie::config {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using icepie::config::v1::Settings;

constexpr size_t kFileBytesMax = 256 * 1024;
constexpr int64_t kKiB = 1024;
constexpr int64_t kMiB = 1024 * kKiB;
constexpr int64_t kGiB = 1024 * kMiB;
constexpr int64_t kHourMs = 3600 * 1000;

struct Range {
  const char* field;
  int64_t min;
  int64_t max;
};

// Every integer of Settings has its range here; settings_test.cc checks that none is missing.
constexpr std::array<Range, 38> kRanges = {{
    {"listen.grpc_connections_max", 8, 65536},
    {"listen.http_connections_max", 8, 65536},
    {"listen.grpc_memory_bytes", 32 * kMiB, 64 * kGiB},
    {"listen.grpc_keepalive_ms", 1000, 2 * kHourMs},
    {"listen.grpc_keepalive_timeout_ms", 100, 10 * 60 * 1000},
    // gRPC's own limit of a message is 4 MiB, and headers and framing need some of it.
    {"core.record_bytes_max", kKiB, 3 * kMiB},
    {"core.batch_bytes_max", kKiB, 3 * kMiB},
    {"core.batch_records_max", 1, 65536},
    {"core.queue_bytes_max", kMiB, 4 * kGiB},
    // RocksDB writes about as much in the background after the last append.
    {"core.free_bytes_min", 128 * kMiB, 1024 * kGiB},
    {"core.ballast_bytes", kMiB, 1024 * kGiB},
    {"core.segment_bytes", 64 * kKiB, kGiB},
    {"core.hot_bytes_min", 0, 64 * kGiB},
    {"core.hot_age_min_ms", 0, 24 * kHourMs},
    {"core.scrub_interval_ms", 100, 720 * kHourMs},
    {"core.scrub_bytes_per_second", 64 * kKiB, 16 * kGiB},
    {"readers.stall_timeout_ms", 100, kHourMs},
    {"readers.message_bytes_max", 64 * kKiB, 3 * kMiB},
    {"readers.shared_bytes_max", 0, 4 * kGiB},
    {"readers.answer_bytes_max", 8 * kMiB, 1024 * kGiB},
    {"readers.domain_answer_bytes_max", 8 * kMiB, 1024 * kGiB},
    {"workers.query_timeout_ms", 10, kHourMs},
    {"workers.memory_bytes", 64 * kMiB, 1024 * kGiB},
    {"workers.heartbeat_interval_ms", 10, 60 * 1000},
    {"workers.heartbeat_timeout_ms", 50, 10 * 60 * 1000},
    {"workers.snapshot_interval_ms", 100, kHourMs},
    {"workers.snapshots_kept", 1, 1000},
    {"workers.snapshots_kept_ms", 0, 365 * 24 * kHourMs},
    {"workers.snapshot_bytes_max", 0, 1024 * 1024 * kGiB},
    {"drain_timeout_ms", 0, 10 * 60 * 1000},
    {"stop_timeout_ms", 0, kHourMs},
    {"workers.restart_backoff_ms", 1, 60 * 1000},
    {"workers.suspension_ms", 100, 24 * kHourMs},
    {"workers.idle_after_ms", 0, 720 * kHourMs},
    {"workers.awake_domains_max", 0, 1 << 20},
    {"workers.apply_timeout_ms", 100, 24 * kHourMs},
    {"workers.disk_bytes", -1, 1024 * 1024 * kGiB},
    {"workers.write_bytes_per_second", 64 * kKiB, 16 * kGiB},
}};

struct Unit {
  const char* suffix;
  int64_t factor;
};

constexpr std::array<Unit, 4> kDurationUnits = {
    {{"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", kHourMs}}};
// The longer suffixes first: "B" ends all of them.
constexpr std::array<Unit, 7> kByteUnits = {{{"KiB", kKiB},
                                             {"MiB", kMiB},
                                             {"GiB", kGiB},
                                             {"KB", 1000},
                                             {"MB", 1000 * 1000},
                                             {"GB", 1000 * 1000 * 1000},
                                             {"B", 1}}};

// "5s" with the units of durations; nullopt when it is no such text or overflows.
template <size_t n>
std::optional<int64_t> ParseWithUnit(absl::string_view text, const std::array<Unit, n>& units) {
  int64_t number = 0;
  for (const Unit& unit : units) {
    absl::string_view digits = text;
    if (!absl::ConsumeSuffix(&digits, unit.suffix)) continue;
    if (!absl::SimpleAtoi(absl::StripAsciiWhitespace(digits), &number)) continue;
    int64_t product = 0;
    if (__builtin_mul_overflow(number, unit.factor, &product)) return std::nullopt;
    return product;
  }
  return std::nullopt;
}

bool IsDuration(absl::string_view field) { return absl::EndsWith(field, "_ms"); }
bool IsBytes(absl::string_view field) { return absl::StrContains(field, "_bytes"); }

std::optional<int64_t> ParseInteger(absl::string_view field, absl::string_view text) {
  int64_t number = 0;
  if (absl::SimpleAtoi(text, &number)) return number;
  if (IsDuration(field)) return ParseWithUnit(text, kDurationUnits);
  if (IsBytes(field)) return ParseWithUnit(text, kByteUnits);
  return std::nullopt;
}

std::string Allowed(absl::string_view field) {
  if (IsDuration(field)) return "milliseconds or a duration such as 500ms, 5s, 2m";
  if (IsBytes(field)) return "bytes or a size such as 512MB, 1GiB";
  return "a whole number";
}

bool IsLoopback(absl::string_view host) {
  return host == "localhost" || host == "[::1]" ||
         (absl::StartsWith(host, "127.") &&
          host.find_first_not_of("0123456789.") == absl::string_view::npos);
}

// Why `address` cannot be listened on; empty when it can.
// C2SP's rules for the name of a key, less what is not ASCII.
std::string OriginFault(absl::string_view origin) {
  const bool fits = origin.size() <= 255 && std::all_of(origin.begin(), origin.end(), [](char c) {
                      return absl::ascii_isgraph(c) && c != '+';
                    });
  return fits ? "" : "must be visible ASCII without +, such as example.com/log";
}

std::string AddressFault(absl::string_view address) {
  const size_t colon = address.rfind(':');
  int port = -1;
  if (colon == absl::string_view::npos || !absl::SimpleAtoi(address.substr(colon + 1), &port) ||
      port < 0 || port > 65535) {
    return "must be host:port with a port from 0 to 65535, e.g. 127.0.0.1:7420";
  }
  if (!IsLoopback(address.substr(0, colon))) {
    return "must be a loopback address (127.0.0.1, [::1] or localhost): there is no "
           "authentication yet, so whoever reaches the port may change everything";
  }
  return "";
}

// Fills a Settings from YAML and collects everything that is wrong with it.
class Reader {
 public:
  explicit Reader(absl::string_view file_name) : file_name_(file_name) {}

  void ReadMap(const YAML::Node& map, const std::string& prefix, Message* message) {
    if (map.IsNull()) return;  // a section whose every line is commented out
    if (!map.IsMap()) {
      Fail(map.Mark(), prefix, "must be a map of settings");
      return;
    }
    std::set<std::string> seen;
    for (const auto& entry : map) ReadEntry(entry.first, entry.second, prefix, &seen, message);
  }

  void CheckAcross(const Settings& settings) {
    const auto& core = settings.core();
    if (core.batch_bytes_max() < core.record_bytes_max()) {
      FailAt("core.batch_bytes_max",
             absl::StrCat(core.batch_bytes_max(), " is less than core.record_bytes_max (",
                          core.record_bytes_max(), "): no largest record could be appended"));
    }
    if (core.queue_bytes_max() < core.batch_bytes_max()) {
      FailAt("core.queue_bytes_max",
             absl::StrCat(core.queue_bytes_max(), " is less than core.batch_bytes_max (",
                          core.batch_bytes_max(), "): no largest batch could be queued"));
    }
    const auto& workers = settings.workers();
    if (workers.heartbeat_timeout_ms() <= workers.heartbeat_interval_ms()) {
      FailAt("workers.heartbeat_timeout_ms",
             absl::StrCat(workers.heartbeat_timeout_ms(),
                          " must be more than workers.heartbeat_interval_ms (",
                          workers.heartbeat_interval_ms(), ")"));
    }
  }

  void FailSyntax(const YAML::Mark& mark, const std::string& text) { Fail(mark, "", text); }

  absl::Status Result() const {
    if (detail_.violations.empty()) return absl::OkStatus();
    std::string message = detail_.violations.front().description;
    if (detail_.violations.size() > 1) {
      absl::StrAppend(&message, " (and ", detail_.violations.size() - 1, " more)");
    }
    return MakeError(absl::StatusCode::kInvalidArgument, message, detail_);
  }

 private:
  void ReadEntry(const YAML::Node& key, const YAML::Node& value, const std::string& prefix,
                 std::set<std::string>* seen, Message* message) {
    const std::string name = key.IsScalar() ? key.Scalar() : "";
    const std::string path = prefix.empty() ? name : absl::StrCat(prefix, ".", name);
    const FieldDescriptor* field = message->GetDescriptor()->FindFieldByName(name);
    if (field == nullptr) {
      Fail(key.Mark(), path,
           absl::StrCat("is not a setting (have: ", FieldNames(*message->GetDescriptor()), ")"));
      return;
    }
    if (!seen->insert(name).second) {
      Fail(key.Mark(), path, "is given twice; remove one");
      return;
    }
    marks_.emplace_back(path, value.Mark());
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      ReadMap(value, path, message->GetReflection()->MutableMessage(message, field));
    } else if (!value.IsScalar()) {
      Fail(value.Mark(), path, "must be a single value");
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
      SetText(value, path, field, message);
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_BOOL) {
      SetBool(value, path, field, message);
    } else {
      SetInteger(value, path, field, message);
    }
  }

  void SetBool(const YAML::Node& value, const std::string& path, const FieldDescriptor* field,
               Message* message) {
    const std::string& text = value.Scalar();
    if (text == "true" || text == "false") {
      message->GetReflection()->SetBool(message, field, text == "true");
    } else {
      Fail(value.Mark(), path, absl::StrCat("\"", text, "\" is neither true nor false"));
    }
  }

  void SetInteger(const YAML::Node& value, const std::string& path, const FieldDescriptor* field,
                  Message* message) {
    const std::string& text = value.Scalar();
    const std::optional<int64_t> number = ParseInteger(field->name(), text);
    if (!number) {
      Fail(value.Mark(), path, absl::StrCat("\"", text, "\" is not ", Allowed(field->name())));
      return;
    }
    for (const Range& range : kRanges) {
      if (path != range.field || (*number >= range.min && *number <= range.max)) continue;
      Fail(value.Mark(), path,
           absl::StrCat(text, " is out of range (", range.min, " to ", range.max, ")"));
      return;
    }
    message->GetReflection()->SetInt64(message, field, *number);
  }

  void SetText(const YAML::Node& value, const std::string& path, const FieldDescriptor* field,
               Message* message) {
    const std::string& text = value.Scalar();
    const std::string fault = TextFault(path, text);
    if (!fault.empty()) {
      Fail(value.Mark(), path, absl::StrCat("\"", text, "\" ", fault));
      return;
    }
    message->GetReflection()->SetString(message, field, text);
  }

  static std::string TextFault(const std::string& path, const std::string& text) {
    if (path == "listen.grpc") return AddressFault(text);
    if (path == "listen.http") return text.empty() ? "" : AddressFault(text);
    if (path == "data_directory") return text.empty() ? "must name a directory" : "";
    if (path == "core.origin") return OriginFault(text);
    if (path == "logging.level") {
      static const std::set<std::string> levels = {"trace", "debug", "info", "warn", "error"};
      return levels.count(text) == 1 ? "" : "must be trace, debug, info, warn or error";
    }
    return "";
  }

  static std::string FieldNames(const Descriptor& message) {
    std::vector<std::string> names;
    for (int i = 0; i < message.field_count(); ++i) names.push_back(message.field(i)->name());
    return absl::StrJoin(names, ", ");
  }

  // A fault found after reading: at the line of the field, or without one when it is a default.
  void FailAt(const std::string& path, const std::string& text) {
    YAML::Mark mark = YAML::Mark::null_mark();
    for (const auto& [field, at] : marks_) {
      if (field == path) mark = at;
    }
    Fail(mark, path, text);
  }

  void Fail(const YAML::Mark& mark, const std::string& path, const std::string& text) {
    std::string where = file_name_;
    if (!mark.is_null()) absl::StrAppend(&where, ":", mark.line + 1, ":", mark.column + 1);
    if (detail_.violations.empty()) {
      detail_.reason = "SETTINGS_INVALID";
      detail_.metadata = {{"file", file_name_}, {"field", path}};
      if (!mark.is_null()) {
        detail_.metadata["line"] = absl::StrCat(mark.line + 1);
        detail_.metadata["column"] = absl::StrCat(mark.column + 1);
      }
    }
    detail_.violations.push_back({path, path.empty()
                                            ? absl::StrCat(where, ": ", text)
                                            : absl::StrCat(where, ": ", path, ": ", text)});
  }

  const std::string file_name_;
  std::vector<std::pair<std::string, YAML::Mark>> marks_;
  ErrorDetail detail_;
};

void ReadDocument(absl::string_view yaml, Reader* reader, Settings* settings) {
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(std::string(yaml));
    if (documents.size() > 1) {
      reader->FailSyntax(documents[1].Mark(), "a second document; the settings are one");
      return;
    }
    if (!documents.empty()) reader->ReadMap(documents.front(), "", settings);
  } catch (const YAML::Exception& error) {
    reader->FailSyntax(error.mark, absl::StrCat("not valid YAML: ", error.msg));
  }
}

}  // namespace

Settings DefaultSettings() {
  Settings settings;
  settings.set_data_directory("data");
  settings.mutable_listen()->set_grpc("127.0.0.1:7420");
  settings.mutable_listen()->set_http("127.0.0.1:7421");
  settings.mutable_listen()->set_grpc_connections_max(1024);
  settings.mutable_listen()->set_http_connections_max(512);
  settings.mutable_listen()->set_grpc_memory_bytes(512 * kMiB);
  settings.mutable_listen()->set_grpc_keepalive_ms(60 * 1000);
  settings.mutable_listen()->set_grpc_keepalive_timeout_ms(20 * 1000);
  settings.mutable_core()->set_record_bytes_max(kMiB);
  settings.mutable_core()->set_batch_bytes_max(3 * kMiB);
  settings.mutable_core()->set_batch_records_max(65536);
  settings.mutable_core()->set_queue_bytes_max(64 * kMiB);
  settings.mutable_core()->set_free_bytes_min(256 * kMiB);
  settings.mutable_core()->set_ballast_bytes(64 * kMiB);
  settings.mutable_core()->set_segment_bytes(32 * kMiB);
  settings.mutable_core()->set_hot_bytes_min(16 * kMiB);
  settings.mutable_core()->set_hot_age_min_ms(1000);
  settings.mutable_core()->set_scrub_interval_ms(24 * kHourMs);
  settings.mutable_core()->set_scrub_bytes_per_second(16 * kMiB);
  settings.mutable_readers()->set_stall_timeout_ms(30 * 1000);
  settings.mutable_readers()->set_message_bytes_max(kMiB);
  settings.mutable_readers()->set_shared_bytes_max(32 * kMiB);
  settings.mutable_readers()->set_answer_bytes_max(kGiB);
  settings.mutable_readers()->set_domain_answer_bytes_max(256 * kMiB);
  settings.mutable_workers()->set_query_timeout_ms(10 * 1000);
  settings.mutable_workers()->set_memory_bytes(kGiB);
  settings.mutable_workers()->set_heartbeat_interval_ms(500);
  settings.mutable_workers()->set_heartbeat_timeout_ms(5 * 1000);
  settings.mutable_workers()->set_snapshot_interval_ms(10 * 1000);
  settings.mutable_workers()->set_snapshots_kept(2);
  settings.mutable_workers()->set_snapshots_kept_ms(0);
  settings.mutable_workers()->set_snapshot_bytes_max(0);
  settings.mutable_workers()->set_disk_bytes(-1);
  settings.mutable_workers()->set_apply_timeout_ms(10 * 60 * 1000);
  settings.mutable_workers()->set_write_bytes_per_second(64 * kMiB);
  settings.mutable_workers()->set_require_sandbox(false);
  settings.mutable_workers()->set_restart_backoff_ms(1000);
  settings.mutable_workers()->set_suspension_ms(5 * 60 * 1000);
  settings.set_drain_timeout_ms(10 * 1000);
  settings.set_stop_timeout_ms(30 * 1000);
  settings.mutable_workers()->set_idle_after_ms(0);
  settings.mutable_workers()->set_awake_domains_max(0);
  settings.mutable_workers()->set_standby_on_demand(false);
  settings.mutable_logging()->set_level("info");
  return settings;
}

absl::StatusOr<Settings> ParseSettings(absl::string_view yaml, absl::string_view file_name) {
  Reader reader(file_name);
  Settings settings = DefaultSettings();
  if (yaml.size() > kFileBytesMax) {
    reader.FailSyntax(YAML::Mark::null_mark(),
                      absl::StrCat(yaml.size(), " bytes; settings have at most ", kFileBytesMax));
    return reader.Result();
  }
  ReadDocument(yaml, &reader, &settings);
  ICEPIE_RETURN_IF_ERROR(reader.Result());
  reader.CheckAcross(settings);
  ICEPIE_RETURN_IF_ERROR(reader.Result());
  return settings;
}

absl::StatusOr<Settings> LoadSettings(const std::string& path) {
  absl::StatusOr<std::string> yaml = ReadFile(path);
  if (!yaml.ok()) return Annotate(yaml.status(), absl::StrCat("settings file ", path));
  return ParseSettings(*yaml, path);
}

}  // namespace icepie::config
