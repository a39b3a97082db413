#include "server/query/slices_service.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/status.h"
#include "server/base/rpc_status.h"
#include "server/base/unary_on.h"
#include "server/query/answer_writers.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;

constexpr absl::Duration kDefaultDeadline = absl::Seconds(30);
constexpr absl::Duration kDeadlineMax = absl::Minutes(10);
constexpr int64_t kUnaryBytesMax = 3 << 20;

// A client without a deadline sends a time far in the future.
absl::Time DeadlineOf(const grpc::CallbackServerContext& context) {
  const absl::Time now = absl::Now();
  const absl::Time deadline = absl::FromChrono(context.deadline());
  return deadline > now + kDeadlineMax ? now + kDefaultDeadline : deadline;
}

absl::StatusOr<v1::QueryResponse> WithinUnaryLimit(absl::StatusOr<v1::QueryResponse> answer) {
  const bool too_large = answer.ok() ? static_cast<int64_t>(answer->ByteSizeLong()) > kUnaryBytesMax
                                     : ErrorReason(answer.status()) == "RESULT_TOO_LARGE";
  // A limit of the domain's own is said as it is: StreamQuery does not help there.
  const auto detail = GetErrorDetail(answer.status());
  if (!too_large || (detail && !detail->metadata.empty())) return answer;
  return MakeError(absl::StatusCode::kResourceExhausted,
                   "the answer has more than the 3 MiB of a unary answer; use StreamQuery or "
                   "select fewer rows",
                   "RESULT_TOO_LARGE", {{"limit", absl::StrCat(kUnaryBytesMax)}});
}

}  // namespace

grpc::ServerUnaryReactor* SlicesService::Query(grpc::CallbackServerContext* context,
                                               const v1::QueryRequest* request,
                                               v1::QueryResponse* response) {
  auto* writer =
      new WholeAnswer(std::make_shared<StallWatch>(context, stalls_, stall_timeout_), response);
  writer->SetCallOff(
      router_.Ask(*request, DeadlineOf(*context), kUnaryBytesMax, [writer](auto answer, auto hold) {
        writer->Send(WithinUnaryLimit(std::move(answer)), std::move(hold));
      }));
  return writer;
}

grpc::ServerWriteReactor<v1::StreamQueryResponse>* SlicesService::StreamQuery(
    grpc::CallbackServerContext* context, const v1::QueryRequest* request) {
  auto* writer = new AnswerInPieces(std::make_shared<StallWatch>(context, stalls_, stall_timeout_));
  writer->SetCallOff(router_.Ask(
      *request, DeadlineOf(*context), kAnswerBytesMax,
      [writer](auto answer, auto hold) { writer->Send(std::move(answer), std::move(hold)); }));
  return writer;
}

grpc::ServerUnaryReactor* SlicesService::GetSlice(grpc::CallbackServerContext* context,
                                                  const v1::GetSliceRequest* request,
                                                  v1::Slice* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  FinishWith(reactor, reader_.GetSlice(request->name()), response);
  return reactor;
}

grpc::ServerUnaryReactor* SlicesService::ListSlices(grpc::CallbackServerContext* context,
                                                    const v1::ListSlicesRequest* request,
                                                    v1::ListSlicesResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  FinishWith(reactor, reader_.ListSlices(request->domain()), response);
  return reactor;
}

}  // namespace icepie::server
