#include "server/admin/log_calls.h"

#include <algorithm>
#include <deque>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "server/base/drain_gate.h"
#include "server/base/proto_time.h"
#include "server/base/rpc_status.h"

namespace icepie::server {
namespace {

using icepie::v1::LogLine;

constexpr absl::Duration kFollowInterval = absl::Milliseconds(200);
constexpr int32_t kLines = 1000;
constexpr int32_t kLinesMax = 10000;

// Ends at once with an error.
class Refusal final : public grpc::ServerWriteReactor<LogLine> {
 public:
  explicit Refusal(const absl::Status& status) { Finish(ToGrpcStatus(status)); }
  void OnDone() override { delete this; }
};

}  // namespace

// All but gRPC's own calls runs on the loop, so the members need no lock. Keeps itself alive until
// gRPC is done with it.
class LogTails::Call final : public grpc::ServerWriteReactor<LogLine>,
                             public std::enable_shared_from_this<Call> {
 public:
  Call(EventLoop& loop, std::shared_ptr<std::atomic<int>> calls,
       std::shared_ptr<const std::atomic<bool>> draining, std::unique_ptr<DomainLog> log,
       const icepie::v1::TailLogsRequest& request)
      : loop_(loop),
        calls_(std::move(calls)),
        draining_(std::move(draining)),
        log_(std::move(log)),
        follow_(request.follow()) {
    const int32_t asked = request.line_count_max() > 0 ? request.line_count_max() : kLines;
    lines_max_ = static_cast<size_t>(std::min(asked, kLinesMax));
  }

  void Begin() {
    self_ = shared_from_this();
    loop_.Post([self = self_] {
      for (LogLine& line : self->log_->ReadPast(self->lines_max_)) {
        self->waiting_.push_back(std::move(line));
      }
      self->Next();
    });
  }

  void OnWriteDone(bool ok) override {
    loop_.Post([self = shared_from_this(), ok] {
      self->writing_ = false;
      self->cancelled_ = self->cancelled_ || !ok;
      self->Next();
    });
  }

  void OnCancel() override {
    loop_.Post([self = shared_from_this()] {
      self->cancelled_ = true;
      self->Next();
    });
  }

  void OnDone() override {
    --*calls_;
    self_.reset();
  }

 private:
  void Next() {
    if (writing_ || finished_) return;
    if (cancelled_) return End(grpc::Status::CANCELLED);
    if (!waiting_.empty()) {
      line_ = std::move(waiting_.front());
      waiting_.pop_front();
      writing_ = true;
      return StartWrite(&line_);
    }
    if (!follow_) return End(grpc::Status::OK);
    if (*draining_) return End(ToGrpcStatus(Draining()));
    if (std::exchange(looking_, true)) return;
    loop_.RunAfter(kFollowInterval, [self = shared_from_this()] { self->Look(); });
  }

  void Look() {
    looking_ = false;
    if (finished_) return;
    for (LogLine& line : log_->ReadNew()) waiting_.push_back(std::move(line));
    Next();
  }

  void End(const grpc::Status& status) {
    finished_ = true;
    Finish(status);
  }

  EventLoop& loop_;
  const std::shared_ptr<std::atomic<int>> calls_;
  const std::shared_ptr<const std::atomic<bool>> draining_;
  const std::unique_ptr<DomainLog> log_;
  const bool follow_;
  size_t lines_max_ = 0;
  std::deque<LogLine> waiting_;
  LogLine line_;  // being sent
  bool writing_ = false;
  bool looking_ = false;
  bool cancelled_ = false;
  bool finished_ = false;
  std::shared_ptr<Call> self_;
};

LogTails::LogTails(const DomainReader& reader,
                   std::function<std::string(const std::string&)> directory_of)
    : reader_(reader),
      directory_of_(std::move(directory_of)),
      calls_(std::make_shared<std::atomic<int>>(0)) {}

LogTails::~LogTails() { loop_.Stop(); }

absl::StatusOr<std::unique_ptr<DomainLog>> LogTails::Open(
    const icepie::v1::TailLogsRequest& request) const {
  const std::string& name = request.name();
  const size_t dot = name.find('.');
  const std::string domain_name = name.substr(0, dot);
  ICEPIE_ASSIGN_OR_RETURN(const auto domain, reader_.Find(domain_name));
  LogFilter filter;
  if (dot != std::string::npos) {
    ICEPIE_RETURN_IF_ERROR(reader_.GetSlice(name).status());
    filter.slice = name;
  }
  if (request.has_since()) filter.since = FromProto(request.since());
  filter.level_min = request.level_min();
  return std::make_unique<DomainLog>(directory_of_(domain_name), domain_name, filter);
}

grpc::ServerWriteReactor<LogLine>* LogTails::Start(const icepie::v1::TailLogsRequest& request) {
  auto log = Open(request);
  if (!log.ok()) return new Refusal(log.status());
  if (++*calls_ > kCallsMax) {
    --*calls_;
    return new Refusal(MakeError(
        absl::StatusCode::kResourceExhausted,
        absl::StrCat(kCallsMax, " logs are being read already; end one of them or try again"),
        ErrorDetail{"TOO_MANY_CALLS", {}, {}, 1000}));
  }
  const auto call = std::make_shared<Call>(loop_, calls_, draining_, *std::move(log), request);
  call->Begin();
  return call.get();
}

}  // namespace icepie::server
