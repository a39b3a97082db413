// stream create|list|describe, append, import, export
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/exporter.h"
#include "cli/format.h"
#include "cli/importer.h"
#include "cli/table.h"
#include "cli/whole_number.h"
#include "core/base/file.h"
#include "core/base/status.h"

namespace icepie::cli {
namespace {

using icepie::v1::AppendRecordsRequest;
using icepie::v1::AppendRecordsResponse;
using icepie::v1::Core;
using icepie::v1::PayloadFormat;
using icepie::v1::Stream;

// The daemon's own limit of a batch; more is for import.
constexpr int64_t kAppendBytesMax = 3 << 20;
constexpr int32_t kStreamsPageSize = 1000;

constexpr const char* kKeyPathHelp = "records without a key take it from here, e.g. $.from.wallet";
constexpr const char* kEventTimeHelp = "records without an event time take it from here, e.g. $.at";

const char* FormatName(PayloadFormat format) {
  if (format == icepie::v1::PAYLOAD_FORMAT_PROTOBUF) return "protobuf";
  return format == icepie::v1::PAYLOAD_FORMAT_BYTES ? "bytes" : "json";
}

struct CreateArguments {
  icepie::v1::CreateStreamRequest request;
  std::string format = "json";
  std::string descriptor_set;  // a file
  std::string message;
};

absl::Status SetFormat(CreateArguments& arguments) {
  icepie::v1::CreateStreamRequest& request = arguments.request;
  if (arguments.descriptor_set.empty()) {
    request.set_format(arguments.format == "bytes" ? icepie::v1::PAYLOAD_FORMAT_BYTES
                                                   : icepie::v1::PAYLOAD_FORMAT_JSON);
    return absl::OkStatus();
  }
  request.set_format(icepie::v1::PAYLOAD_FORMAT_PROTOBUF);
  ICEPIE_ASSIGN_OR_RETURN(*request.mutable_schema()->mutable_descriptor_set(),
                          ReadFile(arguments.descriptor_set));
  request.mutable_schema()->set_message(arguments.message);
  return absl::OkStatus();
}

absl::StatusOr<int> CreateStream(Context& context, CreateArguments& arguments) {
  ICEPIE_RETURN_IF_ERROR(SetFormat(arguments));
  const icepie::v1::CreateStreamRequest& request = arguments.request;
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(const Stream stream,
                          client.Call(client.core(), &Core::StubInterface::CreateStream, request));
  if (context.options.json) {
    context.out() << ToJson(stream);
  } else {
    context.out() << "stream " << stream.name() << " (" << FormatName(stream.format()) << ", "
                  << FormatCounted(stream.end_offset(), "record") << ")\n";
  }
  return kExitDone;
}

// "position 0, 2026-11-22 02:58:41Z" of the record at `offset`.
absl::StatusOr<std::string> WhereAndWhen(Client& client, const std::string& stream,
                                         int64_t offset) {
  icepie::v1::GetRecordRequest request;
  request.mutable_stream_offset()->set_stream(stream);
  request.mutable_stream_offset()->set_offset(offset);
  ICEPIE_ASSIGN_OR_RETURN(const icepie::v1::Record record,
                          client.Call(client.core(), &Core::StubInterface::GetRecord, request));
  return absl::StrCat("position ", FormatCount(record.position()), ", ",
                      FormatTime(record.ingest_time()));
}

absl::StatusOr<int> DescribeStream(Context& context, const std::string& name) {
  Client& client = context.client();
  icepie::v1::GetStreamRequest request;
  request.set_name(name);
  ICEPIE_ASSIGN_OR_RETURN(const Stream stream,
                          client.Call(client.core(), &Core::StubInterface::GetStream, request));
  if (context.options.json) {
    context.out() << ToJson(stream);
    return kExitDone;
  }
  context.out() << "stream   " << stream.name() << "\nformat   " << FormatName(stream.format())
                << "\ncreated  " << FormatTime(stream.create_time()) << "\nrecords  "
                << FormatCount(stream.end_offset()) << '\n';
  if (stream.has_schema()) context.out() << "message  " << stream.schema().message() << '\n';
  if (!stream.key_path().empty()) context.out() << "key      " << stream.key_path() << '\n';
  if (!stream.event_time_path().empty()) {
    context.out() << "time     " << stream.event_time_path() << '\n';
  }
  if (stream.end_offset() == 0) return kExitDone;
  ICEPIE_ASSIGN_OR_RETURN(const std::string first, WhereAndWhen(client, name, 0));
  ICEPIE_ASSIGN_OR_RETURN(const std::string last,
                          WhereAndWhen(client, name, stream.end_offset() - 1));
  context.out() << "first    " << first << "\nlast     " << last << '\n';
  return kExitDone;
}

absl::StatusOr<int> UpdateStream(Context& context, const icepie::v1::UpdateStreamRequest& request) {
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(const Stream stream,
                          client.Call(client.core(), &Core::StubInterface::UpdateStream, request));
  return DescribeStream(context, stream.name());
}

// All pages as one.
absl::StatusOr<icepie::v1::ListStreamsResponse> AllStreams(Client& client) {
  icepie::v1::ListStreamsResponse all;
  icepie::v1::ListStreamsRequest request;
  request.set_page_size(kStreamsPageSize);
  while (true) {
    ICEPIE_ASSIGN_OR_RETURN(const auto page,
                            client.Call(client.core(), &Core::StubInterface::ListStreams, request));
    all.MergeFrom(page);
    if (!page.more() || page.streams().empty()) break;
    request.set_after_name(page.streams().rbegin()->name());
  }
  all.set_more(false);
  return all;
}

absl::StatusOr<int> ListStreams(Context& context) {
  ICEPIE_ASSIGN_OR_RETURN(const icepie::v1::ListStreamsResponse answer,
                          AllStreams(context.client()));
  if (context.options.json) {
    context.out() << ToJson(answer);
    return kExitDone;
  }
  Table table({{"stream"}, {"format"}, {"records", true}, {"created"}});
  for (const Stream& stream : answer.streams()) {
    table.AddRow({stream.name(), FormatName(stream.format()), FormatCount(stream.end_offset()),
                  FormatTime(stream.create_time())});
  }
  table.Print(context.out(), context.terminal.width);
  context.out() << FormatCounted(answer.streams_size(), "stream") << " · head position "
                << FormatCount(answer.head_position()) << '\n';
  return kExitDone;
}

struct AppendArguments {
  std::string stream;
  std::string key;
  bool has_key = false;
  std::string payload;
  bool has_payload = false;
  std::string request_id;
  bool validate_only = false;
  int64_t end_offset = -1;  // -1: whatever it is
};

absl::Status ReadPayloads(Context& context, const AppendArguments& arguments,
                          AppendRecordsRequest* request) {
  if (arguments.has_payload) {
    request->add_records()->set_payload(arguments.payload);
    return absl::OkStatus();
  }
  int64_t bytes = 0;
  for (std::string line; std::getline(*context.terminal.in, line);) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    bytes += static_cast<int64_t>(line.size());
    if (bytes > kAppendBytesMax) {
      return absl::InvalidArgumentError(absl::StrCat("standard input holds more than one batch (",
                                                     kAppendBytesMax, " bytes); use icepie import ",
                                                     arguments.stream, " -"));
    }
    request->add_records()->set_payload(line);
  }
  return absl::OkStatus();
}

absl::StatusOr<int> Append(Context& context, const AppendArguments& arguments) {
  AppendRecordsRequest request;
  ICEPIE_RETURN_IF_ERROR(ReadPayloads(context, arguments, &request));
  for (auto& record : *request.mutable_records()) {
    record.set_stream(arguments.stream);
    if (arguments.has_key) record.set_key(arguments.key);
  }
  if (!arguments.request_id.empty()) request.set_request_id(arguments.request_id);
  request.set_validate_only(arguments.validate_only);
  if (arguments.end_offset >= 0) {
    auto& condition = *request.add_conditions();
    condition.set_stream(arguments.stream);
    condition.set_end_offset(arguments.end_offset);
  }
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(const AppendRecordsResponse answer,
                          client.Call(client.core(), &Core::StubInterface::AppendRecords, request));
  if (context.options.json) {
    context.out() << ToJson(answer);
  } else if (arguments.validate_only && !answer.replayed()) {
    context.out() << FormatCounted(request.records_size(), "record")
                  << " would be stored at position " << FormatCount(answer.first_position())
                  << '\n';
  } else {
    if (answer.replayed()) context.out() << "already stored: ";
    context.out() << FormatCounted(answer.end_position() - answer.first_position(), "record")
                  << " at position " << FormatCount(answer.first_position()) << " · end position "
                  << FormatCount(answer.end_position()) << '\n';
  }
  return kExitDone;
}

void AddStream(CLI::App& app, Context& context) {
  CLI::App* stream = app.add_subcommand("stream", "streams of the raw core");
  stream->require_subcommand(1);

  CLI::App* create = stream->add_subcommand("create", "create a stream");
  auto created = std::make_shared<CreateArguments>();
  create
      ->add_option("NAME", *created->request.mutable_name(),
                   "[a-z][a-z0-9_]*, at most 63 characters")
      ->required();
  CLI::Option* format =
      create
          ->add_option("--format", created->format,
                       "json: every payload must be well-formed; bytes: anything (default json)")
          ->check(CLI::IsMember({"json", "bytes"}));
  CLI::Option* descriptor_set =
      create
          ->add_option("--descriptor-set", created->descriptor_set,
                       "payloads are protobuf messages: their types, from protoc "
                       "--include_imports --descriptor_set_out=FILE")
          ->excludes(format);
  CLI::Option* message = create->add_option("--message", created->message,
                                            "the type of every payload, as in shop.v1.Order");
  descriptor_set->needs(message);
  message->needs(descriptor_set);
  create->add_option("--key-path", *created->request.mutable_key_path(), kKeyPathHelp);
  create->add_option("--event-time-path", *created->request.mutable_event_time_path(),
                     kEventTimeHelp);
  create->callback([&context, created] {
    context.action = [&context, created] {
      created->request.set_actor(context.options.actor);
      return CreateStream(context, *created);
    };
  });

  CLI::App* update = stream->add_subcommand("update", "change where keys and event times are read");
  auto updated = std::make_shared<icepie::v1::UpdateStreamRequest>();
  update->add_option("NAME", *updated->mutable_name())->required();
  update->add_option_function<std::string>(
      "--key-path", [updated](const std::string& path) { updated->set_key_path(path); },
      absl::StrCat(kKeyPathHelp, "; \"\" for none"));
  update->add_option_function<std::string>(
      "--event-time-path",
      [updated](const std::string& path) { updated->set_event_time_path(path); },
      absl::StrCat(kEventTimeHelp, "; \"\" for none"));
  update->callback([&context, updated] {
    context.action = [&context, updated] {
      updated->set_actor(context.options.actor);
      return UpdateStream(context, *updated);
    };
  });

  CLI::App* list = stream->add_subcommand("list", "list the streams");
  list->callback([&context] { context.action = [&context] { return ListStreams(context); }; });

  CLI::App* describe =
      stream->add_subcommand("describe", "format, size, and where the stream begins and ends");
  auto described = std::make_shared<std::string>();
  describe->add_option("NAME", *described)->required();
  describe->callback([&context, described] {
    context.action = [&context, described] { return DescribeStream(context, *described); };
  });
}

void AddAppend(CLI::App& app, Context& context) {
  CLI::App* append = app.add_subcommand(
      "append", "append one payload, or the lines of standard input, atomically");
  auto arguments = std::make_shared<AppendArguments>();
  append->add_option("STREAM", arguments->stream)->required();
  CLI::Option* payload = append->add_option("PAYLOAD,--payload", arguments->payload,
                                            "the record; without it standard input is read");
  CLI::Option* key = append->add_option("--key", arguments->key, "key of the records");
  append->add_option("--request-id", arguments->request_id,
                     "stored once however often it is sent with this id (kept for a day)");
  append
      ->add_option("--expect-end", arguments->end_offset,
                   "only if the stream has exactly so many records")
      ->check(WholeNumberFrom(0));
  append->add_flag("--validate-only", arguments->validate_only, "check everything, store nothing");
  append->callback([&context, arguments, payload, key] {
    arguments->has_payload = payload->count() > 0;
    arguments->has_key = key->count() > 0;
    context.action = [&context, arguments] { return Append(context, *arguments); };
  });
}

// What the user wrote behind --retry-for; CLI11 takes exceptions for errors of the command line.
absl::Duration RetryFor(const std::string& text) {
  absl::Duration duration;
  if (!absl::ParseDuration(text, &duration) || duration < absl::ZeroDuration()) {
    throw CLI::ValidationError("--retry-for",
                               "a duration such as 30s or 5m (0: not at all), not " + text);
  }
  return duration;
}

void AddImport(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("import", "append a file's records, in the file's order");
  auto request = std::make_shared<ImportRequest>();
  command->add_option("STREAM", request->stream)->required();
  command->add_option("FILE", request->file.path, "JSONL, CSV or Parquet; - is standard input")
      ->required();
  command->add_option("--format", request->file.format, "else by the file's ending")
      ->check(CLI::IsMember({"jsonl", "csv", "parquet"}));
  command->add_flag("--create", request->create, "create the stream when it is missing");
  command->add_flag("--resume", request->resume,
                    "go on after an interrupted import of this file; nothing is doubled");
  command
      ->add_option("--base-offset", request->base_offset,
                   "with --resume: records that the stream held before the import (default 0)")
      ->check(WholeNumberFrom(0))
      ->needs("--resume");
  command->add_option("--batch-records", request->batch.records_max, "records of one batch")
      ->check(CLI::Range(1, 65536));
  command->add_option_function<std::string>(
      "--retry-for", [request](const std::string& text) { request->retry_for = RetryFor(text); },
      "how long to go on trying while the daemon is away or has too much to do (default 60s)");
  command->add_option("--limit", request->file.limit, "only the first N records of the file")
      ->check(WholeNumberFrom(0));
  command->add_option(
      "--event-time", request->file.event_time,
      "the column, or the member of a JSONL record, that is the event time; text of "
      "JSONL is ISO 8601, UTC unless it names an offset; null: the record has none");
  command->add_flag(
      "--envelope", request->file.envelope,
      "JSONL as icepie export --envelope writes it: with keys, headers and event times");
  command->footer(
      "Rows of CSV and Parquet become JSON objects. JSON has no NaN and no infinity: such a "
      "number\n"
      "in a column becomes null; inside a list or a struct the import stops and names the row.");
  command->callback([&context, request] {
    context.action = [&context, request] { return RunImport(context, *request); };
  });
}

void AddExport(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("export", "write a range of a stream into a file");
  auto request = std::make_shared<ExportRequest>();
  command->add_option("STREAM", request->stream)->required();
  command->add_option("FILE", request->path, "JSONL or Parquet; - is standard output")->required();
  command->add_option("--format", request->format, "else by the file's ending")
      ->check(CLI::IsMember({"jsonl", "parquet"}));
  command->add_flag("--envelope", request->envelope,
                    "JSONL with position, offset, times, key and headers around each payload");
  command->add_flag("--overwrite", request->overwrite, "replace the file when it exists");
  command->add_option("--offset", request->from_offset, "first offset (default 0)")
      ->check(WholeNumberFrom(0));
  command->add_option("--end-offset", request->end_offset, "exclusive (default: what there is now)")
      ->check(WholeNumberFrom(0));
  command->add_option("--limit", request->limit, "at most so many records")
      ->check(WholeNumberFrom(1));
  command->add_option("--key-prefix", request->key_prefix, "only records whose key begins so");
  command->footer(
      "Payloads are written byte for byte. Plain JSONL holds payloads without line ends only;\n"
      "--envelope (base64 where needed; icepie import --envelope reads it) and Parquet hold all.");
  command->callback([&context, request] {
    context.action = [&context, request] { return RunExport(context, *request); };
  });
}

}  // namespace

void AddStreamCommands(CLI::App& app, Context& context) {
  AddStream(app, context);
  AddAppend(app, context);
  AddImport(app, context);
  AddExport(app, context);
  AddReadCommand(app, context);
  AddTraceCommand(app, context);
}

}  // namespace icepie::cli
