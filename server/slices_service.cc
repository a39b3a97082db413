#include "server/slices_service.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/status.h"
#include "server/rpc_status.h"
#include "server/unary_on.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;

constexpr absl::Duration kDefaultDeadline = absl::Seconds(30);
constexpr absl::Duration kDeadlineMax = absl::Minutes(10);
constexpr size_t kUnaryBytesMax = 3 << 20;
constexpr size_t kPieceBytes = 1 << 20;

// A client without a deadline sends a time far in the future.
absl::Time DeadlineOf(const grpc::CallbackServerContext& context) {
  const absl::Time now = absl::Now();
  const absl::Time deadline = absl::FromChrono(context.deadline());
  return deadline > now + kDeadlineMax ? now + kDefaultDeadline : deadline;
}

absl::StatusOr<v1::QueryResponse> WithinUnaryLimit(absl::StatusOr<v1::QueryResponse> answer) {
  if (!answer.ok() || answer->ByteSizeLong() <= kUnaryBytesMax) return answer;
  return MakeError(absl::StatusCode::kResourceExhausted,
                   absl::StrCat("the answer has ", answer->body().size(),
                                " bytes, more than the 3 MiB of a unary answer; use StreamQuery "
                                "or select fewer rows"),
                   "RESULT_TOO_LARGE", {{"bytes", absl::StrCat(answer->body().size())}});
}

// Sends one answer in pieces; deletes itself when the call is over.
class AnswerWriter final : public grpc::ServerWriteReactor<v1::StreamQueryResponse> {
 public:
  void Send(absl::StatusOr<v1::QueryResponse> answer) {
    if (!answer.ok()) {
      Finish(ToGrpcStatus(answer.status()));
      return;
    }
    answer_ = *std::move(answer);
    *part_.mutable_header()->mutable_meta() = answer_.meta();
    *part_.mutable_header()->mutable_columns() = answer_.columns();
    StartWrite(&part_);
  }

  void OnWriteDone(bool ok) override {
    if (!ok) {
      Finish(grpc::Status(grpc::StatusCode::CANCELLED, "the client has gone"));
    } else if (sent_ < answer_.body().size()) {
      part_.set_body(answer_.body().substr(sent_, kPieceBytes));
      sent_ += part_.body().size();
      StartWrite(&part_);
    } else if (!part_.has_end()) {
      part_.mutable_end()->set_row_count(answer_.row_count());
      part_.mutable_end()->set_byte_count(static_cast<int64_t>(answer_.body().size()));
      StartWrite(&part_);
    } else {
      Finish(grpc::Status::OK);
    }
  }

  void OnDone() override { delete this; }

 private:
  v1::QueryResponse answer_;
  v1::StreamQueryResponse part_;
  size_t sent_ = 0;
};

}  // namespace

grpc::ServerUnaryReactor* SlicesService::Query(grpc::CallbackServerContext* context,
                                               const v1::QueryRequest* request,
                                               v1::QueryResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  router_.Ask(*request, DeadlineOf(*context), [reactor, response](auto answer) {
    FinishWith(reactor, WithinUnaryLimit(std::move(answer)), response);
  });
  return reactor;
}

grpc::ServerWriteReactor<v1::StreamQueryResponse>* SlicesService::StreamQuery(
    grpc::CallbackServerContext* context, const v1::QueryRequest* request) {
  auto* writer = new AnswerWriter;
  router_.Ask(*request, DeadlineOf(*context),
              [writer](auto answer) { writer->Send(std::move(answer)); });
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
