#include "server/admin/quarantine_calls.h"

#include <algorithm>
#include <future>
#include <iterator>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "core/base/utf8.h"
#include "server/admin/admin_reason.h"
#include "server/base/proto_time.h"
#include "server/domain/done_requests.h"
#include "server/domain/live_report.h"
#include "server/record/read_record.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;
namespace cv1 = icepie::catalog::v1;
namespace wv1 = icepie::worker::v1;
using Operations = std::vector<Catalog::Operation>;
using Retried = v1::RetryQuarantinedRecordsResponse;

constexpr absl::Duration kJudgeTimeout = absl::Seconds(10);
constexpr int kAcknowledgementsMax = 1000;
constexpr int kRecordsOfPage = 1000;
constexpr int64_t kRecordsLookedAtMax = 100'000;
constexpr absl::Duration kLookFor = absl::Seconds(10);  // promotions and roll backs wait meanwhile
constexpr int kHeaderRecords = 100;                     // whose headers are compared
constexpr size_t kHeaderBytesMax = 200;
constexpr size_t kJudgeBytesMax = size_t{1} << 20;  // in one call

absl::Status NotQuarantined(const std::string& slice, int64_t position) {
  return MakeError(
      absl::StatusCode::kNotFound,
      absl::StrCat("slice ", slice, " has no quarantined record at position ", position,
                   "; icepie slice quarantine ", slice, " --records 20 lists them"),
      "RECORD_NOT_QUARANTINED", {{"position", absl::StrCat(position)}});
}

bool IsOf(const v1::QuarantineGroup& group, const v1::QuarantinedRecord& record) {
  return record.code() == group.code() && record.column() == group.column() &&
         record.path() == group.path();
}

std::set<std::string> HeadersOf(const v1::Record& record) {
  std::set<std::string> texts;
  for (const auto& header : record.headers()) {
    const std::string text = absl::StrCat(header.name(), "=", header.value());
    if (text.size() <= kHeaderBytesMax && IsUtf8(text)) texts.insert(text);
  }
  return texts;
}

using JudgeResult = absl::StatusOr<wv1::JudgeRecordsResponse>;

JudgeResult Ask(WorkerClient& worker, const wv1::JudgeRecordsRequest& request) {
  auto judged = std::make_shared<std::promise<JudgeResult>>();
  auto result = judged->get_future();
  worker.JudgeRecords(request, kJudgeTimeout,
                      [judged](JudgeResult response) { judged->set_value(std::move(response)); });
  return result.get();
}

const v1::QuarantineAcknowledgement* FindAcknowledgement(const cv1::SliceEntry& slice,
                                                         int64_t position) {
  for (const auto& each : slice.acknowledgements()) {
    if (position >= each.first_position() && position < each.end_position()) return &each;
  }
  return nullptr;
}

// Adds it; those within it go.
absl::Status AddAcknowledgement(const v1::QuarantineAcknowledgement& added,
                                cv1::SliceEntry& slice) {
  auto& known = *slice.mutable_acknowledgements();
  known.erase(std::remove_if(known.begin(), known.end(),
                             [&](const v1::QuarantineAcknowledgement& old) {
                               return old.first_position() >= added.first_position() &&
                                      old.end_position() <= added.end_position();
                             }),
              known.end());
  *known.Add() = added;
  if (known.size() <= kAcknowledgementsMax) return absl::OkStatus();
  return BadParameter("first_position",
                      absl::StrCat("a slice keeps at most ", kAcknowledgementsMax,
                                   " acknowledgements; acknowledge a wider range instead"));
}

// Takes away what of the acknowledgements lies in [first, end). False when nothing does.
bool TakeAwayAcknowledgements(int64_t first, int64_t end, cv1::SliceEntry& slice) {
  google::protobuf::RepeatedPtrField<v1::QuarantineAcknowledgement> left;
  bool any = false;
  for (const auto& each : slice.acknowledgements()) {
    if (each.end_position() <= first || each.first_position() >= end) {
      *left.Add() = each;
      continue;
    }
    any = true;
    if (each.first_position() < first) {
      *left.Add() = each;
      left.rbegin()->set_end_position(first);
    }
    if (each.end_position() > end) {
      *left.Add() = each;
      left.rbegin()->set_first_position(end);
    }
  }
  *slice.mutable_acknowledgements() = std::move(left);
  return any;
}

absl::Status NotAcknowledged(const std::string& slice, int64_t first, int64_t end) {
  const std::string until = end == INT64_MAX ? "" : absl::StrCat(" to below ", end);
  return MakeError(absl::StatusCode::kNotFound,
                   absl::StrCat("slice ", slice, " has no acknowledgement of positions from ",
                                first, until, "; icepie slice quarantine ", slice,
                                " --records 1000 lists which records have one"),
                   "ACKNOWLEDGEMENT_NOT_FOUND", {{"slice", slice}});
}

}  // namespace

QuarantineCalls::QuarantineCalls(Core& core, Catalog& catalog, Supervisor& supervisor,
                                 DomainManager& manager)
    : core_(core),
      catalog_(catalog),
      supervisor_(supervisor),
      manager_(manager),
      reader_(manager.reader()) {}

// ---- Looking ------------------------------------------------------------------------------------

absl::StatusOr<v1::Record> QuarantineCalls::Read(int64_t position) const {
  v1::GetRecordRequest request;
  request.set_position(position);
  return ReadRecord(core_, request);
}

// What every record of the group has that is listed, its first and its last one. A damaged record
// has none.
std::vector<std::string> QuarantineCalls::CommonHeaders(
    const v1::QuarantineGroup& group, const std::vector<v1::QuarantinedRecord>& records) const {
  std::set<int64_t> positions = {group.first_position(), group.last_position()};
  for (const auto& record : records) {
    if (IsOf(group, record)) positions.insert(record.position());
  }
  std::optional<std::set<std::string>> common;
  for (const int64_t position : positions) {
    const absl::StatusOr<v1::Record> record = Read(position);
    std::set<std::string> own = record.ok() ? HeadersOf(*record) : std::set<std::string>();
    if (!common) common = own;
    std::set<std::string> both;
    std::set_intersection(common->begin(), common->end(), own.begin(), own.end(),
                          std::inserter(both, both.begin()));
    common = std::move(both);
    if (common->empty()) break;
  }
  return {common->begin(), common->end()};
}

absl::StatusOr<v1::ListQuarantineGroupsResponse> QuarantineCalls::Groups(
    const v1::ListQuarantineGroupsRequest& request) const {
  v1::ListQuarantinedRecordsRequest page;
  page.set_name(request.name());
  page.set_page_size(kHeaderRecords);
  ICEPIE_ASSIGN_OR_RETURN(const auto listed, manager_.Quarantined(page));
  v1::ListQuarantineGroupsResponse response;
  *response.mutable_groups() = listed.groups();
  response.set_total(listed.total());
  const std::vector<v1::QuarantinedRecord> records(listed.records().begin(),
                                                   listed.records().end());
  for (v1::QuarantineGroup& group : *response.mutable_groups()) {
    response.set_unacknowledged(response.unacknowledged() + group.unacknowledged());
    for (const std::string& header : CommonHeaders(group, records)) {
      group.add_common_headers(header);
    }
  }
  return response;
}

absl::StatusOr<QuarantineCalls::Judgements> QuarantineCalls::Judge(
    const SliceName& slice, const std::vector<v1::Record>& records) const {
  const DomainView view = supervisor_.AwakeView(slice.domain, kAwakeTimeout);
  JudgeResult last = MakeError(absl::StatusCode::kUnavailable,
                               absl::StrCat("no worker of domain ", slice.domain,
                                            " is running; they are being restarted, try again"),
                               "WORKER_LOST", {{"domain", slice.domain}});
  // Who reads no records does not know the schemas of streams.
  const bool with_schema = std::any_of(records.begin(), records.end(), [&](const v1::Record& each) {
    const auto stream = core_.GetStream(each.stream());
    return stream.ok() && stream->schema != nullptr;
  });
  Judgements judgements;
  for (size_t i = 0; i < records.size();) {
    wv1::JudgeRecordsRequest request;
    request.set_slice(slice.slice);
    size_t bytes = 0;
    for (; i < records.size() && bytes < kJudgeBytesMax; ++i) {
      bytes += records[i].payload().size();
      *request.add_records() = records[i];
    }
    for (const WorkerView* worker : {&view.live, &view.standby}) {
      if (!worker->client || (worker == &view.standby && with_schema)) continue;
      last = Ask(*worker->client, request);
      if (last.ok() || !absl::IsUnavailable(last.status())) break;
    }
    if (!last.ok()) return last.status();
    judgements.insert(judgements.end(), last->judgements().begin(), last->judgements().end());
  }
  if (judgements.size() == records.size()) return judgements;
  return MakeError(absl::StatusCode::kInternal, "a worker did not judge every record",
                   "WORKER_ANSWERED_WRONGLY");
}

absl::StatusOr<v1::GetQuarantinedRecordResponse> QuarantineCalls::Get(
    const v1::GetQuarantinedRecordRequest& request) const {
  ICEPIE_ASSIGN_OR_RETURN(const SliceName parts, ParseSliceName(request.name()));
  ICEPIE_ASSIGN_OR_RETURN(const auto domain, reader_.Find(parts.domain));
  ICEPIE_ASSIGN_OR_RETURN(const auto* slice, reader_.FindSlice(*domain, parts.slice));
  v1::ListQuarantinedRecordsRequest page;
  page.set_name(request.name());
  page.set_after_position(std::max<int64_t>(0, request.position() - 1));
  page.set_page_size(2);  // the first page begins with position 0
  ICEPIE_ASSIGN_OR_RETURN(const auto listed, manager_.Quarantined(page));
  v1::GetQuarantinedRecordResponse response;
  for (const auto& record : listed.records()) {
    if (record.position() == request.position()) *response.mutable_quarantined() = record;
  }
  if (!response.has_quarantined()) return NotQuarantined(request.name(), request.position());
  ICEPIE_ASSIGN_OR_RETURN(*response.mutable_record(), Read(request.position()));
  const auto judged = Judge(parts, {response.record()});
  if (judged.ok()) *response.mutable_judgement() = judged->front();
  if (const auto* known = FindAcknowledgement(*slice, request.position())) {
    *response.mutable_acknowledgement() = *known;
  }
  return response;
}

// ---- Retrying -----------------------------------------------------------------------------------

absl::StatusOr<int64_t> QuarantineCalls::CountReadable(
    const SliceName& slice, const v1::ListQuarantinedRecordsResponse& listed) const {
  std::vector<v1::Record> records;
  for (const auto& record : listed.records()) {
    ICEPIE_ASSIGN_OR_RETURN(v1::Record read, Read(record.position()));
    records.push_back(std::move(read));
  }
  ICEPIE_ASSIGN_OR_RETURN(const Judgements judgements, Judge(slice, records));
  return std::count_if(judgements.begin(), judgements.end(), [](const auto& judgement) {
    return judgement.verdict() != v1::RecordJudgement::BAD;
  });
}

// One that can be read is enough for a retry, wherever it stands among those that cannot.
absl::Status QuarantineCalls::LookForReadable(const std::string& name, const SliceName& slice,
                                              Retried& response) const {
  v1::ListQuarantinedRecordsRequest page;
  page.set_name(name);
  page.set_page_size(kRecordsOfPage);
  const absl::Time end = SteadyNow() + kLookFor;
  bool more = true;
  while (more && response.readable() == 0 && response.looked_at() < kRecordsLookedAtMax &&
         SteadyNow() < end) {
    ICEPIE_ASSIGN_OR_RETURN(const auto listed, manager_.Quarantined(page));
    ICEPIE_ASSIGN_OR_RETURN(const int64_t readable, CountReadable(slice, listed));
    response.set_total(listed.total());
    response.set_looked_at(response.looked_at() + listed.records_size());
    response.set_readable(readable);
    more = listed.more() && listed.records_size() > 0;
    if (more) page.set_after_position(listed.records().rbegin()->position());
  }
  return absl::OkStatus();
}

absl::Status QuarantineCalls::RunRetry(const v1::RetryQuarantinedRecordsRequest& request,
                                       AdminAction& action, Retried& response) {
  v1::ResliceSliceRequest reslice;
  reslice.set_name(request.name());
  reslice.set_reason(request.reason().empty() ? "records of the quarantine are tried again"
                                              : request.reason());
  reslice.set_actor(request.actor());
  reslice.set_request_id(request.request_id());
  ICEPIE_ASSIGN_OR_RETURN(const auto operation,
                          manager_.Reslice(reslice, action, request.promote(), /*retry=*/true));
  response.set_operation(operation.name());
  return absl::OkStatus();
}

absl::StatusOr<Retried> QuarantineCalls::Retry(const v1::RetryQuarantinedRecordsRequest& request,
                                               AdminAction& action) {
  ICEPIE_ASSIGN_OR_RETURN(const SliceName parts, ParseSliceName(request.name()));
  ICEPIE_RETURN_IF_ERROR(reader_.GetSlice(request.name()).status());
  ICEPIE_RETURN_IF_ERROR(CheckReason(request.reason(), /*required=*/false));
  Retried response;
  const auto begun = manager_.BuildFor(parts, request.request_id());
  if (begun && !request.validate_only()) {
    // By now its records may be out of quarantine, so how many there were is not told again.
    response.set_method(Retried::NEW_GENERATION);
    response.set_operation(OperationName(begun->number()));
    ICEPIE_ASSIGN_OR_RETURN(*response.mutable_slice(), reader_.GetSlice(request.name()));
    return response;
  }
  ICEPIE_RETURN_IF_ERROR(LookForReadable(request.name(), parts, response));
  const int64_t readable = response.readable();
  // Also of a slice that is recomputed: whenever that is run, it leaves out what it has in
  // quarantine.
  response.set_method(readable == 0 ? Retried::NOTHING_TO_DO : Retried::NEW_GENERATION);
  if (!request.validate_only() && readable > 0) {
    ICEPIE_RETURN_IF_ERROR(action.Begin());
    ICEPIE_RETURN_IF_ERROR(RunRetry(request, action, response));
  }
  ICEPIE_ASSIGN_OR_RETURN(*response.mutable_slice(), reader_.GetSlice(request.name()));
  return response;
}

// ---- Acknowledging ------------------------------------------------------------------------------

absl::StatusOr<v1::Slice> QuarantineCalls::Acknowledge(
    const v1::AcknowledgeQuarantineRequest& request, AdminAction& action) {
  ICEPIE_ASSIGN_OR_RETURN(const SliceName parts, ParseSliceName(request.name()));
  ICEPIE_ASSIGN_OR_RETURN(const auto current, reader_.Find(parts.domain));
  ICEPIE_ASSIGN_OR_RETURN(const auto* known, reader_.FindSlice(*current, parts.slice));
  const std::string digest = action.RequestDigest();
  if (IsDone(*known, digest, absl::Now())) return TellWorkers(parts);
  ICEPIE_RETURN_IF_ERROR(CheckReason(request.reason(), /*required=*/true));
  const int64_t head = core_.head_position();
  v1::QuarantineAcknowledgement added;
  added.set_first_position(request.first_position());
  added.set_end_position(request.end_position() == 0 ? head : request.end_position());
  if (added.first_position() < 0 || added.first_position() >= added.end_position() ||
      added.end_position() > head) {
    return BadParameter("end_position",
                        absl::StrCat("no positions from ", added.first_position(), " to below ",
                                     added.end_position(), " (the core's head is ", head, ")"));
  }
  added.set_actor(ActorOr(request.actor()));
  added.set_reason(request.reason());
  *added.mutable_create_time() = ToProto(absl::Now());
  ICEPIE_RETURN_IF_ERROR(action.Begin());
  ICEPIE_RETURN_IF_ERROR(
      catalog_.Change(parts.domain, [&](CatalogDomain& domain, Operations& /*operations*/) {
        auto slice = domain.slices.find(parts.slice);
        if (slice == domain.slices.end()) {
          return ChangedMeanwhile("the slice was deleted meanwhile");
        }
        NoteDone(digest, absl::Now(), slice->second);
        return AddAcknowledgement(added, slice->second);
      }));
  return TellWorkers(parts);
}

absl::StatusOr<v1::Slice> QuarantineCalls::Withdraw(
    const v1::WithdrawAcknowledgementRequest& request, AdminAction& action) {
  ICEPIE_ASSIGN_OR_RETURN(const SliceName parts, ParseSliceName(request.name()));
  ICEPIE_ASSIGN_OR_RETURN(const auto current, reader_.Find(parts.domain));
  ICEPIE_ASSIGN_OR_RETURN(const cv1::SliceEntry* const known,
                          reader_.FindSlice(*current, parts.slice));
  const std::string digest = action.RequestDigest();
  if (IsDone(*known, digest, absl::Now())) return TellWorkers(parts);
  ICEPIE_RETURN_IF_ERROR(CheckReason(request.reason(), /*required=*/true));
  const int64_t first = request.first_position();
  const int64_t end = request.end_position() == 0 ? INT64_MAX : request.end_position();
  if (first < 0 || first >= end) {
    return BadParameter("end_position",
                        absl::StrCat("no positions from ", first, " to below ", end));
  }
  cv1::SliceEntry trial = *known;
  if (!TakeAwayAcknowledgements(first, end, trial)) {
    return NotAcknowledged(request.name(), first, end);
  }
  ICEPIE_RETURN_IF_ERROR(action.Begin());
  ICEPIE_RETURN_IF_ERROR(
      catalog_.Change(parts.domain, [&](CatalogDomain& domain, Operations& /*operations*/) {
        auto slice = domain.slices.find(parts.slice);
        if (slice == domain.slices.end() || !TakeAwayAcknowledgements(first, end, slice->second)) {
          return ChangedMeanwhile("the slice or its acknowledgement went away meanwhile");
        }
        NoteDone(digest, absl::Now(), slice->second);
        if (slice->second.acknowledgements_size() <= kAcknowledgementsMax) return absl::OkStatus();
        return BadParameter("first_position", "the rest would be too many parts; withdraw more");
      }));
  return TellWorkers(parts);
}

absl::StatusOr<v1::Slice> QuarantineCalls::TellWorkers(const SliceName& slice) {
  const int64_t epoch = manager_.Configure(slice.domain);
  supervisor_.WaitFor(slice.domain, Supervisor::kTakenOnTimeout, [&](const DomainView& view) {
    return LiveHas(view, epoch, slice.slice, [](const wv1::SliceReport& report) {
      return report.state() != v1::FAULTED && report.state() != v1::HELD;
    });
  });
  return reader_.GetSlice(absl::StrCat(slice.domain, ".", slice.slice));
}

}  // namespace icepie::server
