// icepie-flights-check: compares every slice of the sample domains with what DuckDB computes
// straight from the flights' Parquet file, row by row. Exit 0 when all agree, 1 when any differs or
// fails.
#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "icepie/v1/slices.grpc.pb.h"
#include "server/base/rpc_status.h"
#include "slices/duckdb/duckdb.h"
#include "slices/reading/row_diff.h"

namespace icepie {
namespace {

namespace v1 = icepie::v1;
using slices::DuckConnection;
using slices::QuoteIdentifier;
using slices::QuoteLiteral;

constexpr double kRelativeTolerance = 1e-9;
constexpr int kDeadlineSeconds = 60;

// One slice and the SELECT that it must equal.
struct Check {
  std::string domain;
  std::string slice;
  std::vector<std::string> key;
  std::string sql;
};

// reference.sql: each check begins with a line `-- slice: domain.slice key: a, b`.
absl::StatusOr<std::vector<Check>> ReadChecks(const std::string& path) {
  ICEPIE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  std::vector<Check> checks;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::StartsWith(line, "-- slice: ")) {
      const std::vector<std::string> parts =
          absl::StrSplit(line.substr(10), absl::MaxSplits(" key: ", 1));
      if (parts.size() != 2) {
        return absl::InvalidArgumentError(absl::StrCat(path, ": no key in line: ", line));
      }
      const std::vector<std::string> name = absl::StrSplit(parts[0], absl::MaxSplits('.', 1));
      checks.push_back({name.front(), name.back(), absl::StrSplit(parts[1], ", "), ""});
    } else if (!checks.empty() && !absl::StartsWith(line, "--")) {
      absl::StrAppend(&checks.back().sql, line, "\n");
    }
  }
  for (Check& check : checks) {
    absl::StripAsciiWhitespace(&check.sql);
    if (absl::EndsWith(check.sql, ";")) check.sql.pop_back();
  }
  return checks;
}

struct Answer {
  v1::Meta meta;
  std::vector<v1::Column> columns;
  std::string body;
  int64_t rows = 0;
};

absl::StatusOr<Answer> Ask(v1::Slices::Stub& stub, const Check& check) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(kDeadlineSeconds));
  v1::QueryRequest request;
  request.set_domain(check.domain);
  request.mutable_select()->set_slice(check.slice);
  const auto reader = stub.StreamQuery(&context, request);
  Answer answer;
  v1::StreamQueryResponse part;
  bool complete = false;
  while (reader->Read(&part)) {
    if (part.has_header()) {
      answer.meta = part.header().meta();
      answer.columns.assign(part.header().columns().begin(), part.header().columns().end());
    } else if (part.has_end()) {
      answer.rows = part.end().row_count();
      complete = true;
    } else {
      answer.body += part.body();
    }
  }
  ICEPIE_RETURN_IF_ERROR(server::FromGrpcStatus(reader->Finish()));
  if (!complete) return absl::DataLossError("the answer ended early");
  return answer;
}

// The answer's rows as `got.main.__result`.
absl::Status LoadAnswer(DuckConnection& connection, const Answer& answer,
                        const std::string& scratch) {
  ICEPIE_RETURN_IF_ERROR(WriteFileAtomically(scratch, answer.body));
  std::vector<std::string> types;
  for (const v1::Column& column : answer.columns) {
    types.push_back(absl::StrCat(QuoteLiteral(column.name()), ": ", QuoteLiteral(column.type())));
  }
  return connection.Run(absl::StrCat(
      "CREATE OR REPLACE TABLE got.main.__result AS SELECT * FROM read_json(",
      QuoteLiteral(scratch), ", format = 'array', columns = {", absl::StrJoin(types, ", "), "})"));
}

// The reference's rows, cast to the slice's types, as `want.main.__result`.
absl::Status ComputeReference(DuckConnection& connection, const Check& check,
                              const Answer& answer) {
  std::vector<std::string> columns;
  for (const v1::Column& column : answer.columns) {
    columns.push_back(absl::StrCat("CAST(", QuoteIdentifier(column.name()), " AS ", column.type(),
                                   ") AS ", QuoteIdentifier(column.name())));
  }
  return connection.Run(absl::StrCat("CREATE OR REPLACE TABLE want.main.__result AS SELECT ",
                                     absl::StrJoin(columns, ", "), " FROM (", check.sql, ")"));
}

// Prints one line for the check; true when the slice equals the reference.
absl::StatusOr<bool> RunCheck(DuckConnection& connection, v1::Slices::Stub& stub,
                              const Check& check, const std::string& scratch) {
  ICEPIE_ASSIGN_OR_RETURN(const Answer answer, Ask(stub, check));
  ICEPIE_RETURN_IF_ERROR(LoadAnswer(connection, answer, scratch));
  ICEPIE_RETURN_IF_ERROR(ComputeReference(connection, check, answer));
  std::map<std::string, double> tolerance;
  for (const v1::Column& column : answer.columns) {
    if (column.type() == "DOUBLE") tolerance[column.name()] = kRelativeTolerance;
  }
  ICEPIE_ASSIGN_OR_RETURN(const slices::RowDiff diff,
                          slices::DiffResults(connection, "want", "got", check.key, tolerance));
  const bool equal = diff.empty() && diff.rows > 0;
  std::printf("  %s %-28s %8ld rows%s\n", equal ? "equal " : "DIFFER",
              absl::StrCat(check.domain, ".", check.slice).c_str(), static_cast<long>(answer.rows),
              answer.meta.stale() ? "  (stale)" : "");
  if (!equal) {
    std::printf("    DuckDB has %ld rows; %ld missing, %ld too many, %ld with other values\n",
                static_cast<long>(diff.base_rows), static_cast<long>(diff.removed),
                static_cast<long>(diff.added), static_cast<long>(diff.changed));
    if (!diff.not_by_key.empty()) {
      std::printf("    compared as whole rows: %s\n", diff.not_by_key.c_str());
    }
    for (size_t i = 0; i < diff.samples.size() && i < 3; ++i) {
      std::printf("    %s\n", diff.samples[i].c_str());
    }
  }
  std::fflush(stdout);
  return equal;
}

struct Options {
  std::string address = "127.0.0.1:7420";
  std::string flights;
  std::string airports;
  std::string drifted;
  std::string reference;
  std::vector<std::string> only;
};

absl::StatusOr<std::unique_ptr<DuckConnection>> OpenReference(slices::DuckDatabase& database,
                                                              const Options& options) {
  ICEPIE_ASSIGN_OR_RETURN(auto connection, DuckConnection::Connect(database));
  std::string flights = absl::StrCat("SELECT date, delay, distance, origin, destination FROM ",
                                     QuoteLiteral(options.flights));
  if (!options.drifted.empty()) {
    absl::StrAppend(&flights, " UNION ALL SELECT date, CAST(delay AS BIGINT), distance, origin, ",
                    "destination FROM read_json(", QuoteLiteral(options.drifted),
                    ", columns = {date: 'TIMESTAMP', delay: 'VARCHAR', distance: 'BIGINT', ",
                    "origin: 'VARCHAR', destination: 'VARCHAR'})");
  }
  ICEPIE_RETURN_IF_ERROR(connection->Run(
      absl::StrCat("SET TimeZone = 'UTC'; ATTACH ':memory:' AS want; ATTACH ':memory:' AS got; "
                   "CREATE VIEW flights AS ",
                   flights, "; CREATE VIEW airports AS FROM ", QuoteLiteral(options.airports))));
  return connection;
}

absl::Status CheckAll(const Options& options) {
  ICEPIE_ASSIGN_OR_RETURN(const std::vector<Check> checks, ReadChecks(options.reference));
  ICEPIE_ASSIGN_OR_RETURN(auto database, slices::DuckDatabase::OpenInMemory({}));
  ICEPIE_ASSIGN_OR_RETURN(auto connection, OpenReference(*database, options));
  const auto stub =
      v1::Slices::NewStub(grpc::CreateChannel(options.address, grpc::InsecureChannelCredentials()));
  const std::string scratch =
      (std::filesystem::temp_directory_path() / absl::StrCat("icepie-check-", ::getpid(), ".json"))
          .string();
  int done = 0;
  int different = 0;
  for (const Check& check : checks) {
    const std::string name = absl::StrCat(check.domain, ".", check.slice);
    if (!options.only.empty() &&
        std::find(options.only.begin(), options.only.end(), name) == options.only.end()) {
      continue;
    }
    const absl::StatusOr<bool> equal = RunCheck(*connection, *stub, check, scratch);
    std::filesystem::remove(scratch);
    if (!equal.ok()) return Annotate(equal.status(), name);
    ++done;
    if (!*equal) ++different;
  }
  if (done == 0) return absl::InvalidArgumentError("no check was chosen");
  if (different > 0) {
    return absl::InternalError(absl::StrCat(different, " of ", done, " slices differ from DuckDB"));
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace icepie

int main(int argc, char** argv) {
  CLI::App app("Compares the sample domains' slices with DuckDB over the source files.");
  icepie::Options options;
  app.add_option("--address", options.address, "icepied's gRPC address")->envname("ICEPIE_ADDRESS");
  app.add_option("--flights", options.flights, "flights-3m.parquet")->required();
  app.add_option("--airports", options.airports, "airports.csv")->required();
  app.add_option("--drifted", options.drifted, "JSONL of the flights whose delay is text");
  app.add_option("--reference", options.reference, "reference.sql")->required();
  app.add_option("slices", options.only, "check only these (domain.slice)");
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = icepie::CheckAll(options);
  if (status.ok()) return 0;
  std::fprintf(stderr, "icepie-flights-check: %s\n", std::string(status.message()).c_str());
  return 1;
}
