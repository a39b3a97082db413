#include "slices/reading/payload_schema.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/descriptor_database.h>
#include <google/protobuf/duration.pb.h>
#include <google/protobuf/timestamp.pb.h>
#include <google/protobuf/wrappers.pb.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "core/base/status.h"
#include "slices/definition/nearest_name.h"
#include "slices/reading/wire_fields.h"

namespace icepie::slices {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::OneofDescriptor;

constexpr absl::string_view kElement = "[]";
// As libprotobuf's own default.
constexpr int kDepthMax = 100;
// A payload of 1 MiB can name half a million empty messages, each of which has its defaults.
constexpr size_t kJsonBytesMax = 16 << 20;
constexpr int64_t kWorkMax = 8 << 20;

constexpr int64_t kTimestampSecondsMin = -62135596800;  // 0001-01-01
constexpr int64_t kTimestampSecondsMax = 253402300799;  // 9999-12-31
constexpr int64_t kDurationSecondsMax = 315576000000;   // 10,000 years
constexpr int kNanosPerSecond = 1'000'000'000;

void AppendJsonString(absl::string_view text, std::string& out) {
  out.push_back('"');
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out.push_back('\\');
      out.push_back(c);
    } else if (static_cast<unsigned char>(c) < 0x20) {
      absl::StrAppendFormat(&out, "\\u%04x", static_cast<unsigned>(c));
    } else {
      out.push_back(c);
    }
  }
  out.push_back('"');
}

// The shortest text that reads back as the same number; what JSON has no number for is a text.
template <typename Real>
void AppendReal(Real value, std::string& out) {
  if (!std::isfinite(value)) {
    absl::StrAppend(&out, std::isnan(value) ? "\"NaN\""
                          : value > 0       ? "\"Infinity\""
                                            : "\"-Infinity\"");
    return;
  }
  char text[64];
  const auto end = std::to_chars(std::begin(text), std::end(text), value);
  out.append(static_cast<const char*>(text), static_cast<size_t>(end.ptr - text));
}

int64_t ZigZag(uint64_t value) {
  return static_cast<int64_t>(value >> 1) ^ -static_cast<int64_t>(value & 1);
}

template <typename Real, typename Bits>
Real RealOf(uint64_t value) {
  const auto bits = static_cast<Bits>(value);
  Real real = 0;
  std::memcpy(&real, &bits, sizeof real);
  return real;
}

WireType WireTypeOf(const FieldDescriptor& field) {
  switch (field.type()) {
    case FieldDescriptor::TYPE_DOUBLE:
    case FieldDescriptor::TYPE_FIXED64:
    case FieldDescriptor::TYPE_SFIXED64:
      return WireType::kFixed64;
    case FieldDescriptor::TYPE_FLOAT:
    case FieldDescriptor::TYPE_FIXED32:
    case FieldDescriptor::TYPE_SFIXED32:
      return WireType::kFixed32;
    case FieldDescriptor::TYPE_STRING:
    case FieldDescriptor::TYPE_BYTES:
    case FieldDescriptor::TYPE_MESSAGE:
      return WireType::kBytes;
    case FieldDescriptor::TYPE_GROUP:
      return WireType::kGroup;
    default:
      return WireType::kVarint;
  }
}

bool IsWrapper(const Descriptor& type) {
  return type.file()->name() == "google/protobuf/wrappers.proto" && type.field_count() == 1;
}

// Writes one payload.
class JsonWriter {
 public:
  JsonWriter(std::string& json, std::string& error) : json_(json), error_(error) {}

  // A message whose bytes came in several pieces is all of them together.
  using Pieces = std::vector<absl::string_view>;
  bool WriteMessage(const Descriptor& type, const Pieces& pieces, int depth);

 private:
  struct Entry {
    const FieldDescriptor* field = nullptr;
    size_t order = 0;
    uint64_t value = 0;
    absl::string_view bytes;
  };
  // Of one message, by field and then in the order of the bytes.
  using Entries = std::vector<Entry>;
  using EntryRange = std::pair<Entries::const_iterator, Entries::const_iterator>;

  bool Collect(const Descriptor& type, const Pieces& pieces, Entries& entries);
  bool AddEntry(const FieldDescriptor& field, const WireField& wire, Entries& entries);
  bool AddPacked(const FieldDescriptor& field, absl::string_view bytes, Entries& entries);
  static void KeepLastOfOneofs(Entries& entries);
  bool WriteFields(const Descriptor& type, const Entries& entries, int depth);
  bool WriteField(const FieldDescriptor& field, EntryRange range, int depth, bool& first);
  bool WriteValue(const FieldDescriptor& field, const Entry& entry, int depth);
  bool WriteSingular(const FieldDescriptor& field, EntryRange range, int depth);
  bool WriteMap(const FieldDescriptor& field, EntryRange range, int depth);
  bool WriteWellKnown(const Descriptor& type, const Entries& entries, int depth, bool& written);
  void WriteTimestamp(int64_t seconds, int64_t nanos);
  void WriteDuration(int64_t seconds, int64_t nanos);
  void WriteScalar(const FieldDescriptor& field, const Entry& entry);
  void WriteEnum(const FieldDescriptor& field, int number);
  void WriteDefault(const FieldDescriptor& field);
  bool Spend(int64_t work);
  bool Fail(std::string what) {
    error_ = std::move(what);
    return false;
  }

  std::string& json_;
  std::string& error_;
  int64_t work_ = 0;
};

bool JsonWriter::Spend(int64_t work) {
  work_ += work;
  if (work_ <= kWorkMax && json_.size() <= kJsonBytesMax) return true;
  return Fail(absl::StrCat("it unfolds to more than ", kJsonBytesMax >> 20, " MiB"));
}

bool JsonWriter::AddEntry(const FieldDescriptor& field, const WireField& wire, Entries& entries) {
  const WireType wanted = WireTypeOf(field);
  if (wire.type == wanted) {
    entries.push_back({&field, entries.size(), wire.value, wire.bytes});
    return true;
  }
  if (wire.type == WireType::kBytes && field.is_packable()) {
    return AddPacked(field, wire.bytes, entries);
  }
  return Fail(absl::StrCat("field ", field.name(), " (", field.number(), ") has wire type ",
                           static_cast<int>(wire.type), ", a ", field.type_name(), " has ",
                           static_cast<int>(wanted)));
}

bool JsonWriter::AddPacked(const FieldDescriptor& field, absl::string_view bytes,
                           Entries& entries) {
  const WireType type = WireTypeOf(field);
  while (!bytes.empty()) {
    uint64_t value = 0;
    const bool taken = type == WireType::kVarint
                           ? TakeVarint(bytes, value)
                           : TakeFixed(bytes, type == WireType::kFixed64 ? 8 : 4, value);
    if (!taken) return Fail(absl::StrCat("field ", field.name(), " ends within a number"));
    entries.push_back({&field, entries.size(), value, {}});
  }
  return true;
}

bool JsonWriter::Collect(const Descriptor& type, const Pieces& pieces, Entries& entries) {
  for (const absl::string_view piece : pieces) {
    WireFields fields(piece);
    WireField wire;
    while (fields.Next(wire)) {
      const FieldDescriptor* field = type.FindFieldByNumber(wire.number);
      if (field != nullptr && !AddEntry(*field, wire, entries)) return false;
    }
    if (fields.broken()) return Fail(absl::StrCat("the bytes are no ", type.full_name()));
  }
  KeepLastOfOneofs(entries);
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.field->index() < b.field->index();
  });
  return Spend(static_cast<int64_t>(entries.size()) + type.field_count());
}

// Of the members of a oneof only what came since the last change counts.
void JsonWriter::KeepLastOfOneofs(Entries& entries) {
  std::map<const OneofDescriptor*, std::pair<const FieldDescriptor*, size_t>> last;
  for (const Entry& entry : entries) {
    const OneofDescriptor* oneof = entry.field->real_containing_oneof();
    if (oneof == nullptr) continue;
    auto& [field, since] = last[oneof];
    if (field != entry.field) since = entry.order;
    field = entry.field;
  }
  if (last.empty()) return;
  const auto given_up = [&](const Entry& entry) {
    const OneofDescriptor* oneof = entry.field->real_containing_oneof();
    return oneof != nullptr && entry.order < last.at(oneof).second;
  };
  entries.erase(std::remove_if(entries.begin(), entries.end(), given_up), entries.end());
}

bool JsonWriter::WriteMessage(const Descriptor& type, const Pieces& pieces, int depth) {
  if (depth > kDepthMax) {
    return Fail(absl::StrCat("messages are nested deeper than ", kDepthMax, " levels"));
  }
  Entries entries;
  if (!Collect(type, pieces, entries)) return false;
  bool written = false;
  if (!WriteWellKnown(type, entries, depth, written)) return false;
  return written || WriteFields(type, entries, depth);
}

bool JsonWriter::WriteFields(const Descriptor& type, const Entries& entries, int depth) {
  json_.push_back('{');
  bool first = true;
  auto at = entries.begin();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    const auto from = at;
    while (at != entries.end() && at->field == &field) ++at;
    if (!WriteField(field, {from, at}, depth, first)) return false;
  }
  json_.push_back('}');
  return true;
}

bool JsonWriter::WriteField(const FieldDescriptor& field, EntryRange range, int depth,
                            bool& first) {
  const bool absent = range.first == range.second;
  if (absent && field.is_required()) {
    return Fail(absl::StrCat("required field ", field.name(), " is missing"));
  }
  // In a oneof, a field knows whether it was set.
  if (absent && !field.is_repeated() && field.has_presence()) return true;
  if (!first) json_.push_back(',');
  first = false;
  AppendJsonString(field.name(), json_);
  json_.push_back(':');
  if (field.is_map()) return WriteMap(field, range, depth);
  if (!field.is_repeated()) return WriteSingular(field, range, depth);
  json_.push_back('[');
  for (auto entry = range.first; entry != range.second; ++entry) {
    if (entry != range.first) json_.push_back(',');
    if (!WriteValue(field, *entry, depth)) return false;
  }
  json_.push_back(']');
  return true;
}

bool JsonWriter::WriteSingular(const FieldDescriptor& field, EntryRange range, int depth) {
  if (range.first == range.second) {
    WriteDefault(field);
    return true;
  }
  if (field.cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
    return WriteValue(field, *std::prev(range.second), depth);
  }
  Pieces pieces;
  for (auto entry = range.first; entry != range.second; ++entry) pieces.push_back(entry->bytes);
  return WriteMessage(*field.message_type(), pieces, depth + 1);
}

bool JsonWriter::WriteValue(const FieldDescriptor& field, const Entry& entry, int depth) {
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
    return WriteMessage(*field.message_type(), {entry.bytes}, depth + 1);
  }
  WriteScalar(field, entry);
  return Spend(0);
}

// Each entry of a map is a message of its key and value.
bool JsonWriter::WriteMap(const FieldDescriptor& field, EntryRange range, int depth) {
  const FieldDescriptor& key = *field.message_type()->map_key();
  const FieldDescriptor& value = *field.message_type()->map_value();
  std::map<std::string, Entries> by_key;
  for (auto each = range.first; each != range.second; ++each) {
    Entries entries;
    if (!Collect(*field.message_type(), {each->bytes}, entries)) return false;
    const auto behind_key = std::find_if(entries.begin(), entries.end(),
                                         [&](const Entry& entry) { return entry.field == &value; });
    const size_t before = json_.size();
    if (!WriteSingular(key, {entries.begin(), behind_key}, depth)) return false;
    std::string name = json_.substr(before);
    json_.resize(before);
    if (name.front() != '"') name = absl::StrCat("\"", name, "\"");
    by_key[std::move(name)] = Entries(behind_key, entries.end());
  }
  json_.push_back('{');
  bool first = true;
  for (const auto& [name, entries] : by_key) {
    if (!std::exchange(first, false)) json_.push_back(',');
    absl::StrAppend(&json_, name, ":");
    const bool empty_message =
        entries.empty() && value.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
    const bool written = empty_message
                             ? WriteMessage(*value.message_type(), {}, depth + 1)
                             : WriteSingular(value, {entries.begin(), entries.end()}, depth);
    if (!written) return false;
  }
  json_.push_back('}');
  return true;
}

bool JsonWriter::WriteWellKnown(const Descriptor& type, const Entries& entries, int depth,
                                bool& written) {
  const bool timestamp = type.full_name() == "google.protobuf.Timestamp";
  if (timestamp || type.full_name() == "google.protobuf.Duration") {
    written = true;
    int64_t parts[] = {0, 0};
    for (const Entry& entry : entries) {
      if (entry.field->number() <= 2) {
        parts[entry.field->number() - 1] = static_cast<int64_t>(entry.value);
      }
    }
    if (timestamp) {
      WriteTimestamp(parts[0], parts[1]);
    } else {
      WriteDuration(parts[0], parts[1]);
    }
  } else if (IsWrapper(type)) {
    written = true;
    return WriteSingular(*type.field(0), {entries.begin(), entries.end()}, depth);
  }
  return true;
}

// What is no time is a text that no time's reading takes.
void JsonWriter::WriteTimestamp(int64_t seconds, int64_t nanos) {
  if (seconds < kTimestampSecondsMin || seconds > kTimestampSecondsMax || nanos < 0 ||
      nanos >= kNanosPerSecond) {
    absl::StrAppend(&json_, "\"seconds ", seconds, ", nanos ", nanos, "\"");
    return;
  }
  std::string fraction = nanos == 0 ? "" : absl::StrFormat(".%09d", nanos);
  while (!fraction.empty() && fraction.back() == '0') fraction.pop_back();
  const std::string second =
      absl::FormatTime("%E4Y-%m-%dT%H:%M:%S", absl::FromUnixSeconds(seconds), absl::UTCTimeZone());
  absl::StrAppend(&json_, "\"", second, fraction, "Z\"");
}

void JsonWriter::WriteDuration(int64_t seconds, int64_t nanos) {
  const bool whole = std::abs(nanos) < kNanosPerSecond && (seconds >= 0 || nanos <= 0) &&
                     (seconds <= 0 || nanos >= 0);
  if (!whole || seconds < -kDurationSecondsMax || seconds > kDurationSecondsMax) {
    absl::StrAppend(&json_, "\"seconds ", seconds, ", nanos ", nanos, "\"");
    return;
  }
  std::string fraction = nanos == 0 ? "" : absl::StrFormat(".%09d", std::abs(nanos));
  while (!fraction.empty() && fraction.back() == '0') fraction.pop_back();
  const bool negative = seconds < 0 || nanos < 0;
  absl::StrAppend(&json_, "\"", negative ? "-" : "", std::abs(seconds), fraction, "s\"");
}

void JsonWriter::WriteEnum(const FieldDescriptor& field, int number) {
  const auto* value = field.enum_type()->FindValueByNumber(number);
  if (value == nullptr) {
    absl::StrAppend(&json_, number);
  } else {
    AppendJsonString(value->name(), json_);
  }
}

void JsonWriter::WriteScalar(const FieldDescriptor& field, const Entry& entry) {
  switch (field.type()) {
    case FieldDescriptor::TYPE_DOUBLE:
      return AppendReal(RealOf<double, uint64_t>(entry.value), json_);
    case FieldDescriptor::TYPE_FLOAT:
      return AppendReal(RealOf<float, uint32_t>(entry.value), json_);
    case FieldDescriptor::TYPE_BOOL:
      return absl::StrAppend(&json_, entry.value != 0 ? "true" : "false");
    case FieldDescriptor::TYPE_STRING:
      return AppendJsonString(entry.bytes, json_);
    case FieldDescriptor::TYPE_BYTES:
      return AppendJsonString(absl::Base64Escape(entry.bytes), json_);
    case FieldDescriptor::TYPE_ENUM:
      return WriteEnum(field, static_cast<int>(entry.value));
    case FieldDescriptor::TYPE_UINT64:
    case FieldDescriptor::TYPE_FIXED64:
      return absl::StrAppend(&json_, entry.value);
    case FieldDescriptor::TYPE_UINT32:
    case FieldDescriptor::TYPE_FIXED32:
      return absl::StrAppend(&json_, static_cast<uint32_t>(entry.value));
    case FieldDescriptor::TYPE_INT32:
    case FieldDescriptor::TYPE_SFIXED32:
      return absl::StrAppend(&json_, static_cast<int32_t>(entry.value));
    case FieldDescriptor::TYPE_SINT32:
      return absl::StrAppend(&json_,
                             static_cast<int32_t>(ZigZag(static_cast<uint32_t>(entry.value))));
    case FieldDescriptor::TYPE_SINT64:
      return absl::StrAppend(&json_, ZigZag(entry.value));
    default:  // INT64, SFIXED64; messages do not come here
      return absl::StrAppend(&json_, static_cast<int64_t>(entry.value));
  }
}

// Only fields that cannot tell whether they were set have one.
void JsonWriter::WriteDefault(const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return absl::StrAppend(&json_, "false");
    case FieldDescriptor::CPPTYPE_STRING:
      return absl::StrAppend(&json_, "\"\"");
    case FieldDescriptor::CPPTYPE_ENUM:
      return WriteEnum(field, field.default_value_enum()->number());
    default:
      return absl::StrAppend(&json_, "0");
  }
}

// Whether its JSON is an object.
bool HasMembers(const Descriptor& type) {
  return !IsWrapper(type) && type.full_name() != "google.protobuf.Timestamp" &&
         type.full_name() != "google.protobuf.Duration";
}

std::vector<std::string> FieldsOf(const Descriptor& type) {
  std::vector<std::string> names;
  for (int i = 0; i < type.field_count(); ++i) names.push_back(type.field(i)->name());
  return names;
}

absl::Status Invalid(const std::string& field, const std::string& what) {
  return MakeError(absl::StatusCode::kInvalidArgument, absl::StrCat(field, ": ", what),
                   ErrorDetail{"PARAMETER_INVALID", {}, {{field, what}}, std::nullopt});
}

// What libprotobuf has against a set of files: the first word counts.
class FirstError : public google::protobuf::DescriptorPool::ErrorCollector {
 public:
  void AddError(const std::string& file, const std::string& element,
                const google::protobuf::Message* /*descriptor*/, ErrorLocation /*location*/,
                const std::string& message) override {
    if (text.empty()) text = absl::StrCat(file, ": ", element, ": ", message);
  }
  std::string text;
};

}  // namespace

struct PayloadSchema::Files {
  google::protobuf::SimpleDescriptorDatabase given;
  google::protobuf::DescriptorPoolDatabase linked{
      *google::protobuf::DescriptorPool::generated_pool()};
  google::protobuf::MergedDescriptorDatabase all{&given, &linked};
  FirstError error;
  google::protobuf::DescriptorPool pool{&all, &error};
  const Descriptor* message = nullptr;
};

PayloadSchema::PayloadSchema(std::unique_ptr<Files> files) : files_(std::move(files)) {}
PayloadSchema::~PayloadSchema() = default;

absl::StatusOr<std::shared_ptr<const PayloadSchema>> PayloadSchema::Make(
    absl::string_view descriptor_set, absl::string_view message) {
  // So that their files are linked, for sets that leave them out.
  google::protobuf::Timestamp::descriptor();
  google::protobuf::Duration::descriptor();
  google::protobuf::StringValue::descriptor();
  if (descriptor_set.size() > kDescriptorSetBytesMax) {
    return Invalid("descriptor_set", absl::StrCat("has ", descriptor_set.size(), " bytes, at most ",
                                                  kDescriptorSetBytesMax, " are taken"));
  }
  google::protobuf::FileDescriptorSet set;
  if (!set.ParseFromArray(descriptor_set.data(), static_cast<int>(descriptor_set.size()))) {
    return Invalid("descriptor_set",
                   "is no google.protobuf.FileDescriptorSet; make it with protoc "
                   "--include_imports --descriptor_set_out=FILE");
  }
  auto files = std::make_unique<Files>();
  for (const auto& file : set.file()) {
    if (!files->given.Add(file)) {
      return Invalid("descriptor_set", absl::StrCat("has file ", file.name(),
                                                    " twice, or other types of the same name"));
    }
  }
  files->message = files->pool.FindMessageTypeByName(std::string(message));
  if (!files->error.text.empty()) {
    return Invalid("descriptor_set", absl::StrCat(files->error.text,
                                                  " (protoc --include_imports puts in all files)"));
  }
  if (files->message == nullptr) {
    return Invalid("message", absl::StrCat("the descriptor set has no message \"",
                                           absl::CHexEscape(message.substr(0, 200)),
                                           "\"; write it with its package: shop.v1.Order"));
  }
  return std::shared_ptr<const PayloadSchema>(new PayloadSchema(std::move(files)));
}

bool PayloadSchema::ToJson(absl::string_view payload, std::string& json, std::string& error) const {
  json.clear();
  return JsonWriter(json, error).WriteMessage(*files_->message, {payload}, 1);
}

absl::Status PayloadSchema::CheckPath(const std::vector<std::string>& path) const {
  const Descriptor* type = files_->message;
  const FieldDescriptor* repeated = nullptr;  // of which one element is not chosen yet
  for (const std::string& name : path) {
    if (name == kElement) {
      if (repeated == nullptr) return absl::OkStatus();  // of another type, which is said by record
      repeated = nullptr;
      continue;
    }
    if (repeated != nullptr) {
      return absl::NotFoundError(absl::StrCat("field ", repeated->full_name(), " is repeated: ",
                                              "read it as a list, and unnest that in the SQL"));
    }
    if (type == nullptr || !HasMembers(*type)) {
      return absl::NotFoundError(absl::StrCat("there is no \"", name, "\" in a single value"));
    }
    const FieldDescriptor* field = type->FindFieldByName(name);
    if (field == nullptr) {
      return absl::NotFoundError(absl::StrCat("message ", type->full_name(), " has no field \"",
                                              name, "\"", SuggestName(name, FieldsOf(*type))));
    }
    if (field->is_map()) return absl::OkStatus();  // of any keys
    repeated = field->is_repeated() ? field : nullptr;
    type = field->message_type();
  }
  return absl::OkStatus();
}

PayloadSchemas& PayloadSchemas::Get() {
  static auto* const kSchemas = new PayloadSchemas;
  return *kSchemas;
}

absl::Status PayloadSchemas::Set(const std::string& stream, absl::string_view descriptor_set,
                                 absl::string_view message) {
  if (Find(stream) != nullptr) return absl::OkStatus();
  ICEPIE_ASSIGN_OR_RETURN(auto schema, PayloadSchema::Make(descriptor_set, message));
  const MutexLock lock(mutex_);
  schemas_.emplace(stream, std::move(schema));
  return absl::OkStatus();
}

std::shared_ptr<const PayloadSchema> PayloadSchemas::Find(const std::string& stream) const {
  const MutexLock lock(mutex_);
  const auto found = schemas_.find(stream);
  return found == schemas_.end() ? nullptr : found->second;
}

}  // namespace icepie::slices
