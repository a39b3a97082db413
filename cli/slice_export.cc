// slice export SLICE FILE: one state of a slice as a Parquet, CSV or JSONL file.
//
// The rows come from a retained snapshot, page by page, so that all are of one state whatever is
// applied meanwhile. Each value travels as its text, which DuckDB reads back exactly: a JSON number
// would lose digits of a DECIMAL.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "cli/answer.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/interrupt.h"
#include "cli/partial_file.h"
#include "cli/progress.h"
#include "core/base/status.h"
#include "nlohmann/json.hpp"
#include "server/query/as_of.h"
#include "slices/duckdb/duckdb.h"

namespace icepie::cli {
namespace {

using icepie::v1::QueryResponse;
using icepie::v1::Slice;
using icepie::v1::Slices;

constexpr int64_t kPageRows = 100'000;  // less when the domain's limit is lower
constexpr int64_t kPageRowsMin = 100;

struct SliceExportArguments {
  std::string slice;
  std::string path;
  std::string format;
  std::string as_of;
  bool overwrite = false;
};

// Options of DuckDB's COPY, by the name or the ending of a format.
absl::StatusOr<std::string> CopyOptions(const SliceExportArguments& arguments) {
  const std::string path = absl::AsciiStrToLower(arguments.path);
  const auto is = [&](const char* name) {
    return arguments.format.empty() ? absl::EndsWith(path, absl::StrCat(".", name))
                                    : arguments.format == name;
  };
  if (is("parquet")) return std::string("(FORMAT parquet, COMPRESSION zstd)");
  if (is("csv")) return std::string("(FORMAT csv, HEADER)");
  if (is("jsonl") || is("ndjson")) return std::string("(FORMAT json)");
  return absl::InvalidArgumentError(absl::StrCat(
      arguments.path, ": the ending names no format; give --format parquet, csv or jsonl"));
}

// A directory for the pages, which goes with them.
class PageDirectory {
 public:
  explicit PageDirectory(std::string path) : path_(std::move(path)) {}
  ~PageDirectory() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  PageDirectory(const PageDirectory&) = delete;
  PageDirectory& operator=(const PageDirectory&) = delete;

  absl::Status Add(const std::string& body) {
    std::error_code error;
    std::filesystem::create_directories(path_, error);
    files_.push_back(absl::StrCat(path_, "/", files_.size(), ".json"));
    std::ofstream out(files_.back(), std::ios::binary);
    out << body;
    out.close();
    if (out) return absl::OkStatus();
    return absl::UnavailableError(absl::StrCat("writing ", files_.back(), " failed; free space"));
  }

  const std::vector<std::string>& files() const { return files_; }

 private:
  const std::string path_;
  std::vector<std::string> files_;
};

class SliceExport {
 public:
  SliceExport(Context& context, SliceExportArguments arguments)
      : context_(context),
        arguments_(std::move(arguments)),
        file_(arguments_.path),
        pages_(file_.path() + ".pages"),
        progress_(context.terminal, context.options.json) {}

  absl::StatusOr<int> Run() {
    const absl::Time start = absl::Now();
    ICEPIE_ASSIGN_OR_RETURN(const std::string options, CopyOptions(arguments_));
    ICEPIE_RETURN_IF_ERROR(file_.CheckTarget(arguments_.overwrite));
    icepie::v1::GetSliceRequest get;
    get.set_name(arguments_.slice);
    Client& client = context_.client();
    ICEPIE_ASSIGN_OR_RETURN(slice_,
                            client.Call(client.slices(), &Slices::StubInterface::GetSlice, get));
    ICEPIE_RETURN_IF_ERROR(ChooseState());
    CatchInterrupts();
    ICEPIE_RETURN_IF_ERROR(Annotate(FetchAll(start), "no file was written"));
    ICEPIE_RETURN_IF_ERROR(Copy(options));
    ICEPIE_RETURN_IF_ERROR(file_.MoveToTarget());
    return Summary(absl::Now() - start);
  }

 private:
  absl::Status ChooseState() {
    icepie::v1::Consistency* consistency = request_.mutable_consistency();
    if (!arguments_.as_of.empty()) return server::SetAsOf(arguments_.as_of, consistency);
    if (slice_.standby_position() < 0) {
      return absl::UnavailableError(
          absl::StrCat(arguments_.slice, " has no snapshot yet; try again in some seconds"));
    }
    consistency->set_as_of_position(slice_.standby_position());
    return absl::OkStatus();
  }

  absl::Status FetchAll(absl::Time start) {
    const RateMeter meter(0, start);
    while (true) {
      if (Interrupted()) return absl::CancelledError("interrupted");
      ICEPIE_ASSIGN_OR_RETURN(const QueryResponse page, FetchPage());
      ICEPIE_RETURN_IF_ERROR(CheckState(page));
      ICEPIE_RETURN_IF_ERROR(pages_.Add(page.body()));
      rows_ += page.row_count();
      ProgressState state;
      state.label = absl::StrCat("export ", arguments_.slice);
      state.done = rows_;
      meter.Fill(&state, absl::Now());
      if (page.row_count() < page_rows_) {
        progress_.Finish(state);
        return absl::OkStatus();
      }
      progress_.Show(state, absl::Now());
    }
  }

  // In pieces that the domain's limit of rows allows.
  absl::StatusOr<QueryResponse> FetchPage() {
    const size_t dot = arguments_.slice.find('.');
    request_.set_domain(arguments_.slice.substr(0, dot));
    std::vector<std::string> texts;
    for (const auto& column : slice_.columns()) {
      const std::string name = slices::QuoteIdentifier(column.name());
      texts.push_back(absl::StrCat("CAST(", name, " AS VARCHAR) AS ", name));
    }
    while (true) {
      request_.set_sql(absl::StrCat("SELECT ", absl::StrJoin(texts, ", "), " FROM (SELECT * FROM ",
                                    slices::QuoteIdentifier(arguments_.slice.substr(dot + 1)),
                                    " ORDER BY ", Order(), " LIMIT ", page_rows_, " OFFSET ", rows_,
                                    ")"));
      absl::StatusOr<QueryResponse> page = Ask(context_, request_);
      if (ErrorReason(page.status()) != "RESULT_TOO_LARGE" || page_rows_ <= kPageRowsMin) {
        return page;
      }
      page_rows_ = std::max(page_rows_ / 4, kPageRowsMin);
    }
  }

  std::string Order() const {
    if (slice_.key().empty()) return "ALL";
    std::vector<std::string> key;
    for (const std::string& column : slice_.key()) key.push_back(slices::QuoteIdentifier(column));
    return absl::StrJoin(key, ", ");
  }

  // The first page settles which state is written.
  absl::Status CheckState(const QueryResponse& page) {
    if (page.meta().slices_size() != 1) return absl::DataLossError("the answer names no slice");
    const icepie::v1::SliceMeta& meta = page.meta().slices(0);
    if (rows_ == 0) meta_ = meta;
    if (meta.applied_position() == meta_.applied_position() &&
        meta.generation() == meta_.generation()) {
      return absl::OkStatus();
    }
    return absl::AbortedError(
        absl::StrCat("the snapshot at position ", meta_.applied_position(),
                     " was cleaned up meanwhile; keep one: ", "icepie slice snapshots ",
                     arguments_.slice, " --create NAME, then --as-of NAME"));
  }

  absl::Status Copy(const std::string& options) {
    std::vector<std::string> texts;
    std::vector<std::string> values;
    for (const auto& column : slice_.columns()) {
      const std::string name = slices::QuoteIdentifier(column.name());
      texts.push_back(absl::StrCat(slices::QuoteLiteral(column.name()), ": 'VARCHAR'"));
      values.push_back(absl::StrCat("CAST(", name, " AS ", column.type(), ") AS ", name));
    }
    std::vector<std::string> files;
    for (const std::string& file : pages_.files()) files.push_back(slices::QuoteLiteral(file));
    ICEPIE_ASSIGN_OR_RETURN(const auto database,
                            slices::DuckDatabase::OpenInMemory({{"threads", "1"}}));
    ICEPIE_ASSIGN_OR_RETURN(const auto connection, slices::DuckConnection::Connect(*database));
    ICEPIE_RETURN_IF_ERROR(connection->Run("SET TimeZone = 'UTC'"));
    return connection->Run(absl::StrCat(
        "COPY (SELECT ", absl::StrJoin(values, ", "), " FROM read_json([",
        absl::StrJoin(files, ", "),
        "], format = 'array', maximum_object_size = 67108864, columns = {",
        absl::StrJoin(texts, ", "), "})) TO ", slices::QuoteLiteral(file_.path()), " ", options));
  }

  int Summary(absl::Duration took) {
    if (context_.options.json) {
      const nlohmann::ordered_json summary = {{"slice", arguments_.slice},
                                              {"file", arguments_.path},
                                              {"rows", rows_},
                                              {"position", meta_.applied_position()},
                                              {"generation", meta_.generation()},
                                              {"seconds", absl::ToDoubleSeconds(took)}};
      context_.out() << summary.dump() << '\n';
      return kExitDone;
    }
    icepie::v1::Meta meta;
    *meta.add_slices() = meta_;
    context_.out() << arguments_.slice << " into " << arguments_.path << ": "
                   << AnswerLine(meta, rows_, took) << '\n';
    return kExitDone;
  }

  Context& context_;
  const SliceExportArguments arguments_;
  PartialFile file_;
  PageDirectory pages_;
  Progress progress_;
  Slice slice_;
  icepie::v1::QueryRequest request_;
  icepie::v1::SliceMeta meta_;  // of the first page
  int64_t page_rows_ = kPageRows;
  int64_t rows_ = 0;
};

}  // namespace

void AddSliceExportCommand(CLI::App* slice, Context& context) {
  CLI::App* command =
      slice->add_subcommand("export", "write one state of a slice, from a snapshot, into a file");
  auto arguments = std::make_shared<SliceExportArguments>();
  command->add_option("SLICE", arguments->slice, "domain.slice")->required();
  command->add_option("FILE", arguments->path, "Parquet, CSV or JSONL, by its ending")->required();
  command->add_option("--format", arguments->format, "instead of the ending's")
      ->check(CLI::IsMember({"parquet", "csv", "jsonl"}));
  command->add_option("--as-of", arguments->as_of,
                      "a position, a time or a snapshot's name (default: the newest snapshot)");
  command->add_flag("--overwrite", arguments->overwrite, "replace the file when it exists");
  command->callback([&context, arguments] {
    context.action = [&context, arguments] { return SliceExport(context, *arguments).Run(); };
  });
}

}  // namespace icepie::cli
