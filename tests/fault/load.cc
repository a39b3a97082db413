#include "tests/fault/load.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "server/base/rpc_status.h"
#include "tests/server/http_client.h"

namespace icepie::fault {
namespace {

namespace v1 = icepie::v1;
using Json = nlohmann::json;

// Clients that append are numbered from 0; the one that sends poison comes after them.
constexpr int kPoisoner = kAppenders;

void Sleep(absl::Duration how_long) {
  std::this_thread::sleep_for(absl::ToChronoMicroseconds(how_long));
}

std::unique_ptr<grpc::ClientContext> Within(absl::Duration timeout) {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  return context;
}

v1::AppendRecordsRequest MakeRequest(int client, int64_t batch,
                                     const std::vector<StoredRecord>& records) {
  v1::AppendRecordsRequest request;
  for (const StoredRecord& record : records) {
    auto& out = *request.add_records();
    out.set_stream(record.stream);
    out.set_payload(record.payload);
  }
  if (client % 2 == 0) {
    request.set_request_id(absl::StrCat("load-", client, "-", batch));
  } else {
    request.mutable_producer()->set_producer_id(absl::StrCat("load-", client));
    request.mutable_producer()->set_sequence(batch);
  }
  return request;
}

// What a client sends again: the outcome is unknown, or it is asked to come back.
bool IsWorthRetrying(grpc::StatusCode code) {
  return code == grpc::StatusCode::UNAVAILABLE || code == grpc::StatusCode::DEADLINE_EXCEEDED ||
         code == grpc::StatusCode::CANCELLED || code == grpc::StatusCode::RESOURCE_EXHAUSTED;
}

std::string Text(const grpc::Status& status) {
  return absl::StrCat(absl::StatusCodeToString(static_cast<absl::StatusCode>(status.error_code())),
                      " ", ErrorReason(server::FromGrpcStatus(status)), ": ",
                      status.error_message());
}

SliceStand StandOf(const Json& slice) {
  SliceStand stand;
  stand.slice = slice.value("slice", "");
  stand.applied_position = slice.value("applied_position", int64_t{-1});
  stand.quarantined = slice.value("quarantined_count", int64_t{-1});
  stand.stale = slice.value("stale", false);
  stand.stale_reason = slice.value("stale_reason", "");
  stand.source = slice.value("source", "");
  stand.state = slice.value("state", "");
  stand.generation = slice.value("generation", int64_t{0});
  return stand;
}

void TakeHttp(const server::ClientAnswer& answer, ReadCall* read) {
  const Json body = Json::parse(answer.body, nullptr, false);
  if (answer.status != 200 || !body.is_object()) {
    read->error = absl::StrCat("HTTP ", answer.status, " ", answer.body.substr(0, 300));
    if (body.is_object()) read->reason = body.value("reason", "");
    // A whole answer has a body.
    read->unheard = answer.status == 0 || (answer.status == 200 && !body.is_object());
    return;
  }
  read->answered = true;
  read->rows = body["rows"].dump();
  read->stale = body["meta"].value("stale", false);
  for (const Json& slice : body["meta"]["slices"]) read->slices.push_back(StandOf(slice));
}

std::string HttpBody(const ReadCall& read) {
  Json body = {{"sql", Questions()[static_cast<size_t>(read.question)].sql}};
  if (read.min_position >= 0) body["min_position"] = read.min_position;
  return body.dump();
}

}  // namespace

void Whereabouts::Set(const std::string& grpc_address, const std::string& http_address) {
  grpc::ChannelArguments arguments;
  // A pool of its own, so that no connection of an earlier daemon is waited for.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  int port = 0;
  (void)absl::SimpleAtoi(http_address.substr(http_address.rfind(':') + 1), &port);
  const MutexLock lock(mutex_);
  channel_ = grpc::CreateCustomChannel(grpc_address, grpc::InsecureChannelCredentials(), arguments);
  http_port_ = port;
}

std::shared_ptr<grpc::Channel> Whereabouts::channel() const {
  const MutexLock lock(mutex_);
  return channel_;
}

int Whereabouts::http_port() const {
  const MutexLock lock(mutex_);
  return http_port_;
}

grpc::Status AskGrpc(const std::shared_ptr<grpc::Channel>& channel, const Question& question,
                     int64_t min_position, absl::Duration timeout, v1::QueryResponse* response) {
  v1::QueryRequest request;
  request.set_domain(question.domain);
  request.set_sql(question.sql);
  if (min_position >= 0) request.mutable_consistency()->set_min_position(min_position);
  return v1::Slices::NewStub(channel)->Query(Within(timeout).get(), request, response);
}

void TakeMeta(const v1::Meta& meta, ReadCall* read) {
  read->stale = meta.stale();
  for (const v1::SliceMeta& slice : meta.slices()) {
    SliceStand stand;
    stand.slice = slice.slice();
    stand.applied_position = slice.applied_position();
    stand.quarantined = slice.quarantined_count();
    stand.stale = slice.stale();
    if (slice.stale_reason() != v1::STALE_REASON_UNSPECIFIED) {
      stand.stale_reason = v1::StaleReason_Name(slice.stale_reason());
    }
    stand.source = v1::Source_Name(slice.source());
    stand.state = v1::SliceState_Name(slice.state());
    stand.generation = slice.generation();
    read->slices.push_back(std::move(stand));
  }
}

Load::~Load() { Stop(absl::ZeroDuration()); }

void Load::Start() {
  for (int client = 0; client < kAppenders; ++client) {
    threads_.emplace_back([this, client] { AppendFor(client); });
  }
  int reader = 0;
  for (const std::string& domain : Domains()) {
    for (const bool by_http : {false, true}) {
      threads_.emplace_back([this, reader, domain, by_http] { ReadFor(reader, domain, by_http); });
      ++reader;
    }
  }
}

void Load::Stop(absl::Duration patience) {
  give_up_at_ns_ = absl::ToUnixNanos(absl::Now() + patience);
  stopping_ = true;
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void Load::Record(AppendCall call) {
  const MutexLock lock(mutex_);
  appends_.push_back(std::move(call));
}

void Load::Record(ReadCall call) {
  const MutexLock lock(mutex_);
  reads_.push_back(std::move(call));
}

void Load::Take(CallRecord* record) {
  const MutexLock lock(mutex_);
  record->appends = std::move(appends_);
  record->reads = std::move(reads_);
}

AppendCall Load::Acknowledge(int client, int64_t batch, std::vector<StoredRecord> records) {
  AppendCall call;
  call.client = client;
  call.batch = batch;
  call.records = std::move(records);
  call.begin = absl::Now();
  const v1::AppendRecordsRequest request = MakeRequest(client, batch, call.records);
  do {
    v1::AppendRecordsResponse response;
    ++call.attempts;
    const grpc::Status status =
        v1::Core::NewStub(where_.channel())
            ->AppendRecords(Within(options_.append_timeout).get(), request, &response);
    call.end = absl::Now();
    if (status.ok()) {
      call.acknowledged = true;
      call.first_position = response.first_position();
      call.end_position = response.end_position();
      int64_t seen = acknowledged_;
      while (seen < call.end_position &&
             !acknowledged_.compare_exchange_weak(seen, call.end_position)) {
      }
      return call;
    }
    call.error = Text(status);
    if (!IsWorthRetrying(status.error_code())) return call;
    Sleep(absl::Milliseconds(10));
  } while (absl::ToUnixNanos(absl::Now()) < give_up_at_ns_);
  return call;
}

void Load::AppendFor(int client) {
  for (int64_t batch = 0; !stopping_; ++batch) {
    AppendCall call = Acknowledge(client, batch, MakeBatch(client, batch));
    const bool acknowledged = call.acknowledged;
    Record(std::move(call));
    if (!acknowledged) return;  // what comes after it could not be told apart
    Sleep(options_.append_pause);
  }
}

void Load::AppendPoison() {
  const int64_t batch = poison_++;
  Record(Acknowledge(kPoisoner, batch, MakePoison(kPoisoner, batch)));
}

ReadCall Load::Prepare(int reader, int question, bool by_http, bool with_min_position) const {
  ReadCall read;
  read.reader = reader;
  read.question = question;
  read.by_http = by_http;
  read.acknowledged_position = acknowledged_;
  if (with_min_position) read.min_position = read.acknowledged_position;
  read.begin = absl::Now();
  return read;
}

void Load::AskByGrpc(ReadCall* read) const {
  v1::QueryResponse response;
  const grpc::Status status =
      AskGrpc(where_.channel(), Questions()[static_cast<size_t>(read->question)],
              read->min_position, options_.read_timeout, &response);
  read->end = absl::Now();
  read->answered = status.ok();
  if (status.ok()) {
    read->rows = response.body();
    TakeMeta(response.meta(), read);
  } else {
    read->error = Text(status);
    read->reason = ErrorReason(server::FromGrpcStatus(status));
    // Whatever the daemon itself says has a reason.
    read->unheard = read->reason.empty() && (status.error_code() == grpc::StatusCode::UNAVAILABLE ||
                                             status.error_code() == grpc::StatusCode::CANCELLED);
  }
}

void Load::ReadFor(int reader, const std::string& domain, bool by_http) {
  std::vector<int> own;
  for (size_t i = 0; i < Questions().size(); ++i) {
    if (Questions()[i].domain == domain) own.push_back(static_cast<int>(i));
  }
  std::mt19937 random(options_.seed + static_cast<uint32_t>(reader));
  std::optional<server::HttpClient> http;
  while (!stopping_) {
    ReadCall read = Prepare(reader, own[random() % own.size()], by_http, random() % 5 == 0);
    if (by_http) {
      if (!http) {
        http.emplace(where_.http_port(),
                     static_cast<int>(absl::ToInt64Seconds(options_.read_timeout)));
      }
      TakeHttp(http->Post(absl::StrCat("/v1/domains/", domain, ":query"), HttpBody(read)), &read);
      read.end = absl::Now();
      // It may have broken off in the middle.
      if (!read.answered) http.reset();
    } else {
      AskByGrpc(&read);
    }
    const bool answered = read.answered;
    Record(std::move(read));
    Sleep(answered ? options_.read_pause : absl::Milliseconds(200));
  }
}

}  // namespace icepie::fault
