#include "cli/answer.h"

#include <grpcpp/support/sync_stream.h>

#include <algorithm>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "cli/format.h"
#include "cli/status_text.h"
#include "cli/table.h"
#include "core/base/status.h"

namespace icepie::cli {
namespace {

using icepie::v1::QueryResponse;
using icepie::v1::Slices;

bool IsDecimal(const std::string& text) {
  double number = 0;
  return text.find_first_not_of("+-.0123456789") == std::string::npos &&
         absl::SimpleAtod(text, &number);
}

// The rows as they came, not as protobuf's text of bytes.
void PrintJson(Context& context, const QueryResponse& answer) {
  context.out() << "{\"meta\": " << ToJson(answer.meta()) << ",\n\"columns\": [";
  const char* separator = "";
  for (const auto& column : answer.columns()) {
    context.out() << separator << ToJson(column);
    separator = ",";
  }
  context.out() << "],\n\"row_count\": " << answer.row_count() << ",\n\"rows\": " << answer.body()
                << "}\n";
}

absl::Status PrintTable(Context& context, const QueryResponse& answer) {
  std::vector<Table::Column> columns;
  std::vector<std::string> names;
  for (const auto& column : answer.columns()) {
    columns.push_back({column.name(), IsNumericType(column.type())});
    names.push_back(column.name());
  }
  Table table(std::move(columns));
  ICEPIE_RETURN_IF_ERROR(AddJsonRows(answer.body(), names, &table));
  table.Print(context.out(), context.terminal.width);
  return absl::OkStatus();
}

// Why a slice stands still, in its owner's words; empty when the daemon cannot say.
std::string WhyStale(Context& context, const icepie::v1::SliceMeta& meta) {
  icepie::v1::GetSliceRequest request;
  request.set_name(meta.slice());
  Client& client = context.client();
  const auto slice = client.Call(client.slices(), &Slices::StubInterface::GetSlice, request);
  if (!slice.ok()) return "";
  const auto mode = slice->desired().mode();
  const bool wanted = (meta.stale_reason() == icepie::v1::SLICE_FROZEN &&
                       mode == icepie::v1::DesiredState::FREEZE) ||
                      (meta.stale_reason() == icepie::v1::SLICE_SUSPENDED &&
                       mode == icepie::v1::DesiredState::SUSPEND);
  if (wanted) return slice->desired().reason();
  if (IsStoppedByError(*slice)) return slice->last_error().reason();
  return IsInSafeMode(*slice) ? "safe mode" : "";
}

}  // namespace

absl::StatusOr<QueryResponse> Ask(Context& context, const icepie::v1::QueryRequest& request) {
  Client& client = context.client();
  grpc::ClientContext call_context;
  client.SetDeadline(&call_context);
  const auto reader = client.slices().StreamQuery(&call_context, request);
  QueryResponse answer;
  bool complete = false;
  icepie::v1::StreamQueryResponse part;
  while (reader->Read(&part)) {
    if (part.has_header()) {
      *answer.mutable_meta() = part.header().meta();
      *answer.mutable_columns() = part.header().columns();
    } else if (part.has_end()) {
      answer.set_row_count(part.end().row_count());
      complete = true;
    } else {
      answer.mutable_body()->append(part.body());
    }
  }
  ICEPIE_RETURN_IF_ERROR(client.ErrorOf(reader->Finish()));
  if (!complete) return absl::DataLossError("the answer is incomplete; ask again");
  return answer;
}

icepie::v1::Value ValueOf(const std::string& text) {
  icepie::v1::Value value;
  int64_t integer = 0;
  if (text == "null") {
    value.set_null(true);
  } else if (text == "true" || text == "false") {
    value.set_boolean(text == "true");
  } else if (absl::SimpleAtoi(text, &integer)) {
    value.set_integer(integer);
  } else if (IsDecimal(text)) {
    value.set_decimal(text);
  } else {
    value.set_text(text);
  }
  return value;
}

std::string AnswerLine(const icepie::v1::Meta& meta, int64_t row_count, absl::Duration took) {
  std::string line = FormatCounted(row_count, "row");
  const auto& slices = meta.slices();
  if (!slices.empty()) {
    const auto oldest = std::min_element(
        slices.begin(), slices.end(),
        [](const auto& a, const auto& b) { return a.applied_position() < b.applied_position(); });
    absl::StrAppend(&line, " · as of position ", FormatCount(oldest->applied_position()), " (",
                    FormatCount(oldest->lag_records()), " behind)");
    if (slices.size() == 1) absl::StrAppend(&line, " · generation ", oldest->generation());
    if (oldest->source() == icepie::v1::STANDBY) absl::StrAppend(&line, " · from the standby");
    if (oldest->source() == icepie::v1::SNAPSHOT) {
      absl::StrAppend(&line, " · from the snapshot of ", FormatTime(oldest->snapshot_time()));
    }
    if (oldest->quarantined_count() > 0) {
      absl::StrAppend(&line, " · ", FormatCount(oldest->quarantined_count()), " quarantined");
    }
  }
  return absl::StrCat(line, " · ", FormatElapsed(took));
}

std::string StaleLine(const icepie::v1::SliceMeta& slice, const std::string& why) {
  return absl::StrCat("STALE since ", FormatTime(slice.stale_since()), "  ", slice.slice(), " (",
                      icepie::v1::StaleReason_Name(slice.stale_reason()), why.empty() ? "" : ": ",
                      why, ")");
}

std::string FailedLine(const icepie::v1::SliceMeta& slice) {
  return absl::StrCat("FAILED expectations of ", slice.slice(), ": ",
                      absl::StrJoin(slice.failed_expectations(), ", "), " (icepie slice expect ",
                      slice.slice(), ")");
}

absl::StatusOr<int> AskAndPrint(Context& context, const icepie::v1::QueryRequest& request) {
  const absl::Time start = absl::Now();
  ICEPIE_ASSIGN_OR_RETURN(const QueryResponse answer, Ask(context, request));
  const absl::Duration took = absl::Now() - start;
  if (context.options.json) {
    PrintJson(context, answer);
    return kExitDone;
  }
  ICEPIE_RETURN_IF_ERROR(PrintTable(context, answer));
  context.out() << AnswerLine(answer.meta(), answer.row_count(), took) << '\n';
  for (const auto& slice : answer.meta().slices()) {
    if (slice.stale()) {
      context.out() << context.terminal.Yellow(StaleLine(slice, WhyStale(context, slice))) << '\n';
    }
    if (slice.failed_expectations_size() > 0) {
      context.out() << context.terminal.Yellow(FailedLine(slice)) << '\n';
    }
  }
  return kExitDone;
}

}  // namespace icepie::cli
