#include "core/append/stream_registry.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/field_errors.h"
#include "core/base/status.h"
#include "core/block/block.h"
#include "core/byte_order.h"
#include "core/log/catalog_keys.h"

namespace icepie {
namespace {

constexpr size_t kNameBytesMax = 63;
constexpr uint8_t kEntryVersion = 1;
constexpr uint8_t kEntryVersionWithPaths = 2;
constexpr uint8_t kEntryVersionWithSchema = 3;  // with paths, too
constexpr size_t kSchemaBytesMax = 512 << 10;
constexpr size_t kEntryBytes = 14;  // version, format, id, create time; then the paths

bool IsNameCharacter(char c) {
  return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '_';
}

absl::Status CheckName(absl::string_view name, bool internal) {
  const bool begins_well =
      !name.empty() && (absl::ascii_islower(name.front()) || (internal && name.front() == '_'));
  if (begins_well && name.size() <= kNameBytesMax &&
      std::all_of(name.begin(), name.end(), IsNameCharacter)) {
    return absl::OkStatus();
  }
  const absl::string_view shown = name.substr(0, kNameBytesMax + 1);
  const std::string message = absl::StrCat(
      "stream name \"", shown, "\" is not allowed: use a-z, 0-9 and _, begin with a letter, ",
      kNameBytesMax, " characters at most (names that begin with _ belong to the core)");
  return MakeError(absl::StatusCode::kInvalidArgument, message,
                   ErrorDetail{"STREAM_NAME_INVALID",
                               {{"stream", std::string(shown)}},
                               {{"name", message}},
                               std::nullopt});
}

// nullptr when neither is given.
absl::StatusOr<std::shared_ptr<const PayloadPaths>> ParsePaths(const StreamPaths& paths,
                                                               PayloadFormat format) {
  auto parsed = std::make_shared<PayloadPaths>();
  FieldErrors errors;
  absl::StatusOr<PayloadPath> key = ParsePayloadPath("key_path", paths.key);
  errors.Add(key.status());
  absl::StatusOr<PayloadPath> event_time = ParsePayloadPath("event_time_path", paths.event_time);
  errors.Add(event_time.status());
  if (!errors.empty()) return errors.ToStatus();
  parsed->key = *std::move(key);
  parsed->event_time = *std::move(event_time);
  if (paths.key.empty() && paths.event_time.empty()) return nullptr;
  if (format != PayloadFormat::kJson) {
    const std::string field = paths.key.empty() ? "event_time_path" : "key_path";
    const std::string what = "needs a stream whose payloads are JSON";
    return MakeError(absl::StatusCode::kInvalidArgument, absl::StrCat(field, " ", what),
                     ErrorDetail{"PARAMETER_INVALID", {}, {{field, what}}, std::nullopt});
  }
  return parsed;
}

StreamPaths TextOf(const std::shared_ptr<const PayloadPaths>& paths) {
  if (!paths) return {};
  return {paths->key.text, paths->event_time.text};
}

std::string EncodeEntry(const Stream& stream, const std::shared_ptr<const PayloadPaths>& paths) {
  std::string entry;
  entry.push_back(static_cast<char>(stream.schema ? kEntryVersionWithSchema
                                    : paths       ? kEntryVersionWithPaths
                                                  : kEntryVersion));
  entry.push_back(static_cast<char>(stream.format));
  PutLittleEndian(entry, stream.id);
  PutLittleEndian(entry, static_cast<int64_t>(absl::ToUnixMicros(stream.create_time)));
  if (paths || stream.schema) {
    PutBytes(entry, paths ? paths->key.text : "");
    PutBytes(entry, paths ? paths->event_time.text : "");
  }
  if (stream.schema) {
    PutBytes(entry, stream.schema->descriptor_set);
    PutBytes(entry, stream.schema->message);
  }
  return entry;
}

// What a stream may have.
struct Extras {
  StreamPaths paths;
  std::shared_ptr<const StreamSchema> schema;
};

// Of an entry; nullopt when it is damaged.
std::optional<Extras> DecodeExtras(absl::string_view entry) {
  if (entry.size() < kEntryBytes) return std::nullopt;
  const auto version = static_cast<uint8_t>(entry[0]);
  const bool protobuf = entry[1] == static_cast<char>(PayloadFormat::kProtobuf);
  if (protobuf != (version == kEntryVersionWithSchema)) return std::nullopt;
  entry.remove_prefix(kEntryBytes);
  Extras extras;
  if (version == kEntryVersion && entry.empty()) return extras;
  if (version != kEntryVersionWithPaths && !protobuf) return std::nullopt;
  const auto key = TakeBytes(entry);
  const auto event_time = key ? TakeBytes(entry) : std::nullopt;
  if (!event_time) return std::nullopt;
  extras.paths = {std::string(*key), std::string(*event_time)};
  if (protobuf) {
    const auto descriptor_set = TakeBytes(entry);
    const auto message = descriptor_set ? TakeBytes(entry) : std::nullopt;
    if (!message) return std::nullopt;
    extras.schema = std::make_shared<StreamSchema>(
        StreamSchema{std::string(*descriptor_set), std::string(*message)});
  }
  if (!entry.empty()) return std::nullopt;
  return extras;
}

absl::string_view FormatName(PayloadFormat format) {
  switch (format) {
    case PayloadFormat::kJson:
      return "json";
    case PayloadFormat::kBytes:
      return "bytes";
    case PayloadFormat::kProtobuf:
      return "protobuf";
  }
  return "";
}

absl::Status CheckSchema(PayloadFormat format, const std::shared_ptr<const StreamSchema>& schema) {
  std::string what;
  if ((format == PayloadFormat::kProtobuf) != (schema != nullptr)) {
    what =
        schema ? "is for streams of format protobuf" : "is needed by a stream of format protobuf";
  } else if (schema && schema->descriptor_set.size() + schema->message.size() > kSchemaBytesMax) {
    what = absl::StrCat("has more than ", kSchemaBytesMax, " bytes");
  }
  if (what.empty()) return absl::OkStatus();
  return MakeError(absl::StatusCode::kInvalidArgument, absl::StrCat("schema ", what),
                   ErrorDetail{"PARAMETER_INVALID", {}, {{"schema", what}}, std::nullopt});
}

bool SameSchema(const std::shared_ptr<const StreamSchema>& a,
                const std::shared_ptr<const StreamSchema>& b) {
  return a == b || (a && b && *a == *b);
}

// Whether a path that is asked for is another one than the stream's.
bool Differs(const std::string& asked, const std::string& has) {
  return !asked.empty() && asked != has;
}

absl::Status ExistsError(const Stream& stream, const StreamPaths& paths) {
  if (!paths.key.empty() || !paths.event_time.empty()) {
    const StreamPaths has = TextOf(stream.paths());
    return MakeError(absl::StatusCode::kAlreadyExists,
                     absl::StrCat("stream ", stream.name, " exists with key_path \"", has.key,
                                  "\" and event_time_path \"", has.event_time,
                                  "\"; change them with icepie stream update"),
                     "STREAM_EXISTS", {{"stream", stream.name}});
  }
  const absl::string_view format = FormatName(stream.format);
  const std::string schema =
      stream.schema ? absl::StrCat(" and a schema of message ", stream.schema->message) : "";
  return MakeError(absl::StatusCode::kAlreadyExists,
                   absl::StrCat("stream ", stream.name, " exists with format ", format, schema,
                                "; that never changes, choose another name"),
                   "STREAM_EXISTS", {{"stream", stream.name}, {"format", std::string(format)}});
}

// Where the stream ends, from its last block.
absl::StatusOr<int64_t> EndOffset(const LogStore& store, uint32_t stream_id) {
  ICEPIE_ASSIGN_OR_RETURN(const std::optional<std::string> block, store.LastBlock(stream_id));
  if (!block) return 0;
  ICEPIE_ASSIGN_OR_RETURN(const BlockHeader header, ReadBlockHeader(*block));
  return header.first_offset + header.record_count;
}

}  // namespace

StreamInfo InfoOf(const Stream& stream) {
  return {stream.id,          stream.name,
          stream.format,      stream.end_offset.load(),
          stream.create_time, TextOf(stream.paths()),
          stream.schema};
}

absl::StatusOr<std::unique_ptr<StreamRegistry>> StreamRegistry::Load(const LogStore& store) {
  auto registry = std::make_unique<StreamRegistry>();
  ICEPIE_ASSIGN_OR_RETURN(const auto entries, store.ScanCatalog(kStreamKeyPrefix));
  for (const auto& [key, entry] : entries) {
    ICEPIE_RETURN_IF_ERROR(
        registry->Add(absl::string_view(key).substr(kStreamKeyPrefix.size()), entry));
  }
  for (Stream* stream : registry->All()) {
    ICEPIE_ASSIGN_OR_RETURN(const int64_t end_offset, EndOffset(store, stream->id));
    stream->end_offset = end_offset;
  }
  return registry;
}

std::unique_ptr<StreamRegistry> StreamRegistry::Salvage(const LogStore& store) {
  auto registry = std::make_unique<StreamRegistry>();
  for (const auto& [key, entry] : store.SalvageCatalog(kStreamKeyPrefix)) {
    const absl::Status added =
        registry->Add(absl::string_view(key).substr(kStreamKeyPrefix.size()), entry);
    if (!added.ok()) spdlog::error("core: {}", std::string(added.message()));
  }
  return registry;
}

void StreamRegistry::AddNamed(uint32_t id, const std::string& name) {
  const MutexLock lock(mutex_);
  if (by_id_.count(id) > 0 || by_name_.count(name) > 0) return;
  auto stream = std::make_unique<Stream>();
  stream->id = id;
  stream->name = name;
  stream->format = PayloadFormat::kBytes;
  Insert(std::move(stream));
}

absl::Status StreamRegistry::Add(absl::string_view name, absl::string_view entry) {
  std::optional<Extras> extras = DecodeExtras(entry);
  if (!extras) {
    return MakeError(absl::StatusCode::kDataLoss,
                     absl::StrCat("catalog entry of stream ", name, " is damaged"),
                     "RECORD_DAMAGED", {{"stream", std::string(name)}});
  }
  auto stream = std::make_unique<Stream>();
  stream->name = std::string(name);
  stream->format = extras->schema  ? PayloadFormat::kProtobuf
                   : entry[1] == 0 ? PayloadFormat::kJson
                                   : PayloadFormat::kBytes;
  stream->schema = std::move(extras->schema);
  ICEPIE_ASSIGN_OR_RETURN(auto parsed, ParsePaths(extras->paths, stream->format));
  {
    const MutexLock paths_lock(stream->paths_mutex);
    stream->paths_now = std::move(parsed);
  }
  stream->id = GetLittleEndian<uint32_t>(entry.data() + 2);
  stream->create_time = absl::FromUnixMicros(GetLittleEndian<int64_t>(entry.data() + 6));
  const MutexLock lock(mutex_);
  Insert(std::move(stream));
  return absl::OkStatus();
}

Stream* StreamRegistry::Insert(std::unique_ptr<Stream> stream) {
  Stream* inserted = stream.get();
  stream->name_digest = Sha256(stream->name);
  by_id_[stream->id] = inserted;
  by_name_[stream->name] = std::move(stream);
  return inserted;
}

// nullptr when there is no stream of that name.
absl::StatusOr<Stream*> StreamRegistry::FindEqual(
    absl::string_view name, PayloadFormat format, const StreamPaths& paths,
    const std::shared_ptr<const StreamSchema>& schema) const {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return nullptr;
  const bool same = found->second->format == format && SameSchema(found->second->schema, schema);
  if (!same) return ExistsError(*found->second, {});
  const StreamPaths has = TextOf(found->second->paths());
  if (Differs(paths.key, has.key) || Differs(paths.event_time, has.event_time)) {
    return ExistsError(*found->second, paths);
  }
  return found->second.get();
}

absl::StatusOr<bool> StreamRegistry::CheckCreate(
    absl::string_view name, PayloadFormat format, const StreamPaths& paths,
    const std::shared_ptr<const StreamSchema>& schema) const {
  FieldErrors errors;
  errors.Add(CheckName(name, /*internal=*/false));
  errors.Add(CheckSchema(format, schema));
  errors.Add(ParsePaths(paths, format).status());
  if (!errors.empty()) return errors.ToStatus();
  const MutexLock lock(mutex_);
  ICEPIE_ASSIGN_OR_RETURN(const Stream* equal, FindEqual(name, format, paths, schema));
  return equal == nullptr;
}

absl::Status StreamRegistry::CheckUpdate(absl::string_view name,
                                         const Core::StreamChange& change) const {
  ICEPIE_ASSIGN_OR_RETURN(const Stream* stream, Find(name));
  return ParsePaths({change.key_path.value_or(""), change.event_time_path.value_or("")},
                    stream->format)
      .status();
}

absl::StatusOr<Stream*> StreamRegistry::Create(CatalogChanges& catalog, absl::string_view name,
                                               PayloadFormat format, const StreamPaths& paths,
                                               std::shared_ptr<const StreamSchema> schema,
                                               bool internal) {
  ICEPIE_RETURN_IF_ERROR(CheckName(name, internal));
  ICEPIE_RETURN_IF_ERROR(CheckSchema(format, schema));
  ICEPIE_ASSIGN_OR_RETURN(auto parsed, ParsePaths(paths, format));
  const MutexLock lock(mutex_);
  ICEPIE_ASSIGN_OR_RETURN(Stream * equal, FindEqual(name, format, paths, schema));
  if (equal != nullptr) return equal;
  auto stream = std::make_unique<Stream>();
  stream->id = by_id_.empty() ? 1 : by_id_.rbegin()->first + 1;
  stream->name = std::string(name);
  stream->format = format;
  stream->schema = std::move(schema);
  stream->create_time = absl::FromUnixMicros(absl::ToUnixMicros(absl::Now()));
  const LogStore::CatalogChange change{absl::StrCat(kStreamKeyPrefix, name),
                                       EncodeEntry(*stream, parsed)};
  ICEPIE_RETURN_IF_ERROR(catalog.Make({&change, 1}));
  {
    const MutexLock paths_lock(stream->paths_mutex);
    stream->paths_now = std::move(parsed);
  }
  return Insert(std::move(stream));
}

absl::StatusOr<Stream*> StreamRegistry::Update(CatalogChanges& catalog, absl::string_view name,
                                               const Core::StreamChange& change) {
  ICEPIE_ASSIGN_OR_RETURN(Stream * stream, Find(name));
  const MutexLock lock(mutex_);  // one change at a time
  StreamPaths paths = TextOf(stream->paths());
  if (change.key_path) paths.key = *change.key_path;
  if (change.event_time_path) paths.event_time = *change.event_time_path;
  ICEPIE_ASSIGN_OR_RETURN(auto parsed, ParsePaths(paths, stream->format));
  const LogStore::CatalogChange entry{absl::StrCat(kStreamKeyPrefix, name),
                                      EncodeEntry(*stream, parsed)};
  ICEPIE_RETURN_IF_ERROR(catalog.Make({&entry, 1}));
  const MutexLock paths_lock(stream->paths_mutex);
  stream->paths_now = std::move(parsed);
  return stream;
}

void StreamRegistry::Extend(uint32_t id, int64_t end_offset) {
  Stream* stream = FindById(id);
  if (stream != nullptr) stream->end_offset = std::max(stream->end_offset.load(), end_offset);
}

std::string HowStreamComesToBe(absl::string_view name) {
  if (absl::StartsWith(name, "_")) {
    return "names that begin with _ are the daemon's own, which makes such a stream with its first "
           "record (_admin: with the first change that somebody asks for)";
  }
  if (name.empty()) return "create one with `icepie stream create NAME`";
  if (!CheckName(name, /*internal=*/false).ok()) return "no stream can have that name";
  return absl::StrCat("create it with `icepie stream create ", name, "`");
}

absl::StatusOr<Stream*> StreamRegistry::Find(absl::string_view name) const {
  const MutexLock lock(mutex_);
  if (const auto found = by_name_.find(name); found != by_name_.end()) return found->second.get();
  const std::string shown(name.substr(0, kNameBytesMax + 1));
  return MakeError(absl::StatusCode::kNotFound,
                   absl::StrCat("there is no stream \"", shown, "\"; ", HowStreamComesToBe(name)),
                   "STREAM_NOT_FOUND", {{"stream", shown}});
}

Stream* StreamRegistry::FindById(uint32_t id) const {
  const MutexLock lock(mutex_);
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : found->second;
}

std::vector<Stream*> StreamRegistry::List(absl::string_view after, size_t count_max) const {
  const MutexLock lock(mutex_);
  std::vector<Stream*> streams;
  streams.reserve(std::min(by_name_.size(), count_max));
  for (auto next = by_name_.upper_bound(after);
       next != by_name_.end() && streams.size() < count_max; ++next) {
    streams.push_back(next->second.get());
  }
  return streams;
}

int64_t StreamRegistry::TotalRecords() const {
  int64_t total = 0;
  for (const Stream* stream : All()) total += stream->end_offset.load();
  return total;
}

}  // namespace icepie
