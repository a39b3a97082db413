#include "server/query/worker_query_router.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "server/base/drain_gate.h"
#include "server/base/proto_time.h"
#include "server/domain/domain_reader.h"
#include "server/domain/slice_facts.h"
#include "server/query/as_of.h"
#include "server/query/query_etag.h"
#include "server/query/query_fingerprint.h"
#include "server/query/query_text.h"
#include "server/query/staleness.h"
#include "slices/apply/flight_record.h"
#include "spdlog/spdlog.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;
namespace wv1 = icepie::worker::v1;

constexpr size_t kHungryMax = 1024;
constexpr absl::Duration kHungryFor = absl::Minutes(10);
// So many broken calls in a row, and the worker is asked whether it answers anything at all.
constexpr int kLossesInARow = 3;
constexpr absl::Duration kProbeTimeout = absl::Seconds(2);
// When a slice that is too stale may have been refreshed. A question over what is too stale is
// computed at each look: the first soon, the next ones later.
constexpr absl::Duration kStaleLook = absl::Milliseconds(100);
constexpr absl::Duration kStaleLookMax = absl::Seconds(1);

// The answer leaves a little before the client's deadline, so that our reason arrives and not its
// own DEADLINE_EXCEEDED.
absl::Duration Margin(absl::Duration left) { return std::min(absl::Milliseconds(200), left / 10); }

// The worker vanished or broke under the question; another may answer it.
bool IsLost(const absl::Status& error) {
  if (absl::IsInternal(error)) return true;
  const std::string reason = ErrorReason(error);
  const bool without_reason = reason.empty() || reason == "WORKER_LOST";
  return without_reason &&
         (absl::IsUnavailable(error) || absl::IsUnknown(error) || absl::IsCancelled(error) ||
          absl::IsResourceExhausted(error) || absl::IsUnimplemented(error));
}

// The worker answered that it cannot, and the other one (or a restarted one) perhaps can.
bool IsSoft(const absl::Status& error, v1::Source source) {
  const std::string reason = ErrorReason(error);
  if (reason == "NO_SNAPSHOT_YET" || reason == "SERVER_DRAINING") return true;
  if (source == v1::LIVE) return reason == "QUERY_MEMORY_LIMIT";
  return reason == "POSITION_UNREACHABLE" || reason == "SLICE_NOT_FOUND";
}

// The live worker has said no, and a standby that rests may be woken for the question.
bool IsWorthWaking(const absl::Status& error) { return ErrorReason(error) == "QUERY_MEMORY_LIMIT"; }

absl::Status CallerHasGone() { return absl::CancelledError("the caller has gone"); }

bool IsPreparing(const WorkerAnswer& answer) {
  return std::any_of(answer.header.slices().begin(), answer.header.slices().end(),
                     [](const wv1::SliceReport& slice) {
                       return slice.state() == v1::STARTING || slice.state() == v1::BACKFILLING;
                     });
}

}  // namespace

struct WorkerQueryRouter::Question {
  int64_t number = 0;
  v1::QueryRequest request;
  std::string hash;
  std::string fingerprint;
  int64_t bytes_max = 0;     // of its answer
  absl::Time start;          // as all of these of SteadyNow()
  absl::Time deadline;       // of our answer, a margin before the client's
  absl::Time wait_deadline;  // until then min_position may be waited for
  Done done;
  bool use_known = true;
  int losses = 0;              // calls whose worker vanished or broke under it
  std::set<int64_t> lost;      // the incarnations of these
  std::set<int64_t> died;      // those of them that are not to be asked again now
  std::set<int64_t> answered;  // incarnations that said no, or not yet
  // What is answered when nothing better comes.
  std::optional<absl::StatusOr<v1::QueryResponse>> fallback;
  AnswerHold fallback_hold;
  absl::Duration stale_look = kStaleLook;  // until the next one
  bool waits_for_fresh = false;            // until the next look, whatever becomes of the workers
  EventLoop::TimerId timer = 0;
};

WorkerQueryRouter::WorkerQueryRouter(QueryRouterSources sources, QueryRouterLimits limits,
                                     std::string ledger_file)
    : sources_(std::move(sources)),
      limits_(limits),
      answers_(limits.answers),
      ledger_(std::move(ledger_file)),
      silence_(loop_, sources_.workers, [this](const std::string& domain, int64_t incarnation) {
        if (!sources_.unanswered) return;
        const bool is_live = sources_.workers(domain).live.incarnation == incarnation;
        sources_.unanswered(domain, !is_live);
      }) {}

WorkerQueryRouter::~WorkerQueryRouter() {
  Drain();
  WaitEmpty(absl::InfiniteFuture());
  silence_.Stop();
}

absl::Status WorkerQueryRouter::Check(const v1::QueryRequest& request) const {
  ICEPIE_RETURN_IF_ERROR(CheckText(request));
  const std::string& name = request.domain();
  const auto domain = sources_.domain(name);
  if (!domain) {
    const auto names = sources_.domain_names();
    return MakeError(
        absl::StatusCode::kNotFound,
        absl::StrCat("there is no domain \"", name, "\" (",
                     names.empty() ? "none is applied yet"
                                   : absl::StrCat("have: ", absl::StrJoin(names, ", ")),
                     ")"),
        "DOMAIN_NOT_FOUND", {{"domain", name}});
  }
  // What is held answers from its snapshots, if there are any: the standby may be about to start.
  if (!domain->held.empty() && sources_.workers(name).standby.status.state().empty() &&
      !(sources_.has_states && sources_.has_states(*domain))) {
    return HeldError(name, domain->held);
  }
  if (request.question_case() == v1::QueryRequest::QUESTION_NOT_SET) {
    return MakeError(absl::StatusCode::kInvalidArgument, "the query has neither sql nor select",
                     "PARAMETER_INVALID", {{"field", "question"}});
  }
  const auto& consistency = request.consistency();
  const int64_t head = sources_.head_position();
  ICEPIE_RETURN_IF_ERROR(CheckAsOf(consistency, head));
  ICEPIE_RETURN_IF_ERROR(CheckStaleness(consistency));
  if (consistency.has_min_position() && consistency.min_position() > head) {
    return MakeError(absl::StatusCode::kOutOfRange,
                     absl::StrCat("min_position ", consistency.min_position(),
                                  " is ahead of the core, which has ", head,
                                  " records; the core was replaced by a shorter one, or the "
                                  "position is of another server"),
                     "POSITION_AHEAD_OF_CORE", {{"head", absl::StrCat(head)}});
  }
  return absl::OkStatus();
}

absl::Status WorkerQueryRouter::CheckBlocked(const Question& question) const {
  const auto until = ledger_.BlockedUntil(question.fingerprint, absl::Now());
  if (!until) return absl::OkStatus();
  const std::string time = absl::FormatTime(absl::RFC3339_sec, *until, absl::UTCTimeZone());
  return MakeError(absl::StatusCode::kFailedPrecondition,
                   absl::StrCat("this query, or one that differs in constants only, has ended "
                                "workers of domain ",
                                question.request.domain(), "; it is refused until ", time,
                                ": ask in another way"),
                   "QUERY_BLOCKED", {{"domain", question.request.domain()}, {"until", time}});
}

void WorkerQueryRouter::OnWorkerDeath(const WorkerDeath& death) {
  NoteAnswer(death.incarnation);
  const bool any_blamed = std::any_of(death.notes.begin(), death.notes.end(),
                                      [](const auto& note) { return note.blamed; });
  for (const slices::FlightNote& note : death.notes) {
    if (note.activity != slices::Activity::kQuery || note.subject.empty()) continue;
    if (any_blamed && !note.blamed) continue;
    if (!ledger_.OnDeath(note.subject, note.blamed, absl::Now())) continue;
    spdlog::warn("{}: query {} is refused for a while: its {} worker {}", death.domain,
                 note.subject, death.role, death.how);
  }
}

QueryRouter::CallOff WorkerQueryRouter::Ask(const v1::QueryRequest& request, absl::Time deadline,
                                            int64_t bytes_max, Done done) {
  if (const absl::Status valid = Check(request); !valid.ok()) {
    done(valid, nullptr);
    return nullptr;
  }
  auto question = std::make_shared<Question>();
  question->request = request;
  question->bytes_max = bytes_max;
  question->hash = QuestionHash(request);
  question->fingerprint = QueryFingerprint(request);
  question->start = SteadyNow();
  const absl::Duration left = deadline - absl::Now();
  question->deadline = question->start + left - Margin(left);
  const auto& consistency = request.consistency();
  question->wait_deadline =
      std::min(question->deadline,
               question->start + (consistency.has_max_wait() ? FromProto(consistency.max_wait())
                                                             : limits_.default_max_wait));
  question->done = std::move(done);
  absl::Status admitted = CheckBlocked(*question);
  if (admitted.ok()) {
    MutexLock lock(mutex_);
    int& in_flight = in_flight_[request.domain()];
    if (draining_) {
      admitted = Draining();
    } else if (in_flight >= limits_.in_flight_max) {
      admitted =
          MakeError(absl::StatusCode::kResourceExhausted,
                    absl::StrCat("domain ", request.domain(), " has ", in_flight,
                                 " queries under way, which is its limit; try again"),
                    ErrorDetail{"TOO_MANY_QUERIES", {{"domain", request.domain()}}, {}, 100});
    } else {
      ++in_flight;
      question->number = ++last_question_;
      under_way_[question->number] = {};
    }
  }
  if (!admitted.ok()) {
    question->done(admitted, nullptr);
    return nullptr;
  }
  if (sources_.asked) sources_.asked(request.domain());
  Step(question);
  return [this, number = question->number] { EndQuestion(number); };
}

void WorkerQueryRouter::EndQuestion(int64_t number) {
  std::shared_ptr<grpc::ClientContext> call;
  QuestionPtr parked;
  {
    MutexLock lock(mutex_);
    const auto found = under_way_.find(number);
    if (found == under_way_.end()) return;
    found->second.caller_gone = true;
    call = found->second.call;
    if (const auto waiting = parked_.find(number); waiting != parked_.end()) {
      parked = waiting->second;
      parked_.erase(waiting);
    }
  }
  if (call) call->TryCancel();  // OnAnswer follows
  if (!parked) return;
  loop_.Cancel(parked->timer);
  Finish(parked, CallerHasGone());
}

bool WorkerQueryRouter::SetCall(const Question& question,
                                std::shared_ptr<grpc::ClientContext> call) {
  MutexLock lock(mutex_);
  UnderWay& under_way = under_way_.at(question.number);
  under_way.call = std::move(call);
  return !under_way.caller_gone;
}

// Asks the best worker that has not failed this question yet, or waits for one.
void WorkerQueryRouter::Step(const QuestionPtr& question) {
  const absl::Time now = SteadyNow();
  const bool waited_enough = question->fallback && now >= question->wait_deadline;
  if (now >= question->deadline || waited_enough) {
    GiveUp(question);
    return;
  }
  const DomainView view = sources_.workers(question->request.domain());
  const auto usable = [&](const WorkerView& worker) {
    return worker.client != nullptr && question->died.count(worker.incarnation) == 0 &&
           question->answered.count(worker.incarnation) == 0;
  };
  const std::string& slice = question->request.select().slice();
  const bool live_prepares = question->request.has_select() && !LiveAnswers(view.live, slice);
  // The past is the standby's, so that old states do not take the live worker's memory.
  const bool past = IsAsOf(question->request.consistency());
  const bool standby_first =
      !silence_.IsSilent(view.standby) &&
      (live_prepares || past || silence_.IsSilent(view.live) || IsHungry(*question));
  if (usable(view.live) && !(standby_first && usable(view.standby))) {
    AskWorker(question, view, v1::LIVE);
  } else if (usable(view.standby)) {
    AskWorker(question, view, v1::STANDBY);
  } else if (IsSettled(*question, view)) {
    GiveUp(question);
  } else {
    Park(question);
  }
}

// A query that neither worker had memory for is asked of the standby alone for a while: what it
// takes there it does not take from the records that the live worker applies.
bool WorkerQueryRouter::IsHungry(const Question& question) {
  MutexLock lock(mutex_);
  if (hungry_.empty() || question.request.consistency().has_min_position()) return false;
  const auto found = hungry_.find(question.fingerprint);
  return found != hungry_.end() && found->second > SteadyNow();
}

void WorkerQueryRouter::NoteHungry(const Question& question, bool hungry) {
  MutexLock lock(mutex_);
  if (!hungry) {
    if (!hungry_.empty()) hungry_.erase(question.fingerprint);
    return;
  }
  if (hungry_.size() >= kHungryMax) hungry_.clear();
  hungry_[question.fingerprint] = SteadyNow() + kHungryFor;
}

// Nobody will know better soon: the live worker itself has spoken, or nothing starts by itself. An
// error of the live worker is not the last word while a standby is on its way: that one may hold an
// older state than the live worker, which found none.
bool WorkerQueryRouter::IsSettled(const Question& question, const DomainView& view) {
  if (!question.fallback) return view.live.suspended && view.standby.suspended;
  const WorkerView& standby = view.standby;
  const absl::Status& said = question.fallback->status();
  const bool may_wake = !IsResting(standby) || IsWorthWaking(said);
  const bool comes = !standby.client && !standby.suspended && may_wake;
  if (!said.ok() && comes) return false;
  const bool spoke = view.live.client && question.answered.count(view.live.incarnation) > 0;
  return spoke || view.live.suspended;
}

void WorkerQueryRouter::AskWorker(const QuestionPtr& question, const DomainView& view,
                                  v1::Source source) {
  const WorkerView& worker = source == v1::LIVE ? view.live : view.standby;
  const v1::QueryRequest& request = question->request;
  wv1::WorkerQueryRequest ask;
  ask.set_fingerprint(question->fingerprint);
  if (request.has_sql()) {
    ask.set_sql(request.sql());
  } else {
    *ask.mutable_select() = request.select();
  }
  *ask.mutable_parameters() = request.parameters();
  // Where the standby stands too early, a live worker that is on its way, or is silent at present,
  // is waited for instead: nothing new comes to the standby without it.
  const bool live_works = view.live.client && !silence_.IsSilent(view.live);
  const bool waits_here = source == v1::LIVE || live_works;
  const absl::Duration wait =
      waits_here ? question->wait_deadline - SteadyNow() : absl::ZeroDuration();
  if (request.consistency().has_min_position()) {
    ask.set_min_position(request.consistency().min_position());
    ask.set_max_wait_ms(std::max<int64_t>(0, absl::ToInt64Milliseconds(wait)));
  }
  if (IsAsOf(request.consistency())) *ask.mutable_as_of() = request.consistency();
  if (request.has_max_rows()) ask.set_max_rows(request.max_rows());
  ask.set_format(request.format());
  ask.set_exact_as_text(request.exact_as_text());
  if (question->use_known) {
    const auto known = KnownVersions(request.if_none_match(), question->hash);
    if (known) ask.mutable_known()->Assign(known->begin(), known->end());
  }
  auto call = std::make_shared<grpc::ClientContext>();
  if (!SetCall(*question, call)) {
    Finish(question, CallerHasGone());
    return;
  }
  Asked asked{worker.incarnation, source, SteadyNow(), worker.flight_record, nullptr};
  WatchForSilence(question, worker, call, asked);
  worker.client->Query(
      ask, absl::Now() + (question->deadline - SteadyNow()),
      AnswerRoom{question->bytes_max, answers_.Open(request.domain())},
      [this, question, asked](auto answer) { OnAnswer(question, asked, std::move(answer)); },
      std::move(call));
}

// A worker that stands still loses the question to the other one, if that has not been asked yet
// and does not stand still as well.
void WorkerQueryRouter::WatchForSilence(const QuestionPtr& question, const WorkerView& worker,
                                        const std::shared_ptr<grpc::ClientContext>& call,
                                        Asked& asked) {
  asked.called_off = std::make_shared<std::atomic<bool>>(false);
  std::set<int64_t> tried = question->died;
  tried.insert(question->answered.begin(), question->answered.end());
  const std::string& domain = question->request.domain();
  const auto call_off = [this, domain, call, tried = std::move(tried), source = asked.source,
                         flag = asked.called_off] {
    const DomainView view = sources_.workers(domain);
    const WorkerView& other = source == v1::LIVE ? view.standby : view.live;
    if (!other.client || tried.count(other.incarnation) > 0 || silence_.IsSilent(other)) return;
    *flag = true;
    call->TryCancel();
  };
  silence_.Add(question->number, {domain, worker, question->deadline, call_off});
}

void WorkerQueryRouter::OnAnswer(const QuestionPtr& question, const Asked& asked,
                                 absl::StatusOr<WorkerAnswer> answer) {
  silence_.Remove(question->number);
  const bool caller_is_there = SetCall(*question, nullptr);
  if (answer.ok() || !IsLost(answer.status())) NoteAnswer(asked.incarnation);
  if (!answer.ok() && !caller_is_there) {  // no fault of the worker's
    Finish(question, CallerHasGone());
  } else if (!answer.ok()) {
    OnError(question, asked, answer.status());
  } else {
    OnRows(question, asked, *std::move(answer));
  }
}

namespace {

absl::Status Killed(const std::string& domain, const std::string& what) {
  return MakeError(absl::StatusCode::kResourceExhausted, what, "QUERY_KILLED",
                   {{"domain", domain}});
}

// The worker's own record says that it was this query.
bool IsBlamed(const std::string& flight_record, const std::string& fingerprint) {
  const auto notes = slices::ReadFlightRecord(flight_record);
  return std::any_of(notes.begin(), notes.end(), [&](const slices::FlightNote& note) {
    return note.blamed && note.activity == slices::Activity::kQuery && note.subject == fingerprint;
  });
}

absl::Status BrokeUnder(const std::string& domain, int times, const absl::Status& last) {
  return MakeError(absl::StatusCode::kUnavailable,
                   absl::StrCat("calls to the workers of domain ", domain, " broke ", times,
                                " times (last: ", last.message(), "); try again"),
                   ErrorDetail{"WORKER_LOST", {{"domain", domain}}, {}, 1000});
}

absl::Status TookTooLong(const std::string& domain) {
  return MakeError(absl::StatusCode::kResourceExhausted,
                   absl::StrCat("the query on domain ", domain,
                                " did not end within its deadline; ask for less or give it more"),
                   "QUERY_TIME_LIMIT", {{"domain", domain}});
}

// Not the query's fault.
absl::Status StandsStill(const std::string& domain) {
  return MakeError(absl::StatusCode::kUnavailable,
                   absl::StrCat("the worker of domain ", domain,
                                " that was asked does not answer and is about to be replaced, and "
                                "no other could answer in its place; try again"),
                   ErrorDetail{"WORKER_LOST", {{"domain", domain}}, {}, 1000});
}

}  // namespace

// Asked again of another worker, unless it is what ended this one: the standby is spared that.
void WorkerQueryRouter::OnLost(const QuestionPtr& question, const Asked& asked,
                               const absl::Status& error) {
  const std::string& domain = question->request.domain();
  question->died.insert(asked.incarnation);
  question->lost.insert(asked.incarnation);
  ++question->losses;
  NoteLoss(domain, asked.incarnation);
  if (IsBlamed(asked.flight_record, question->fingerprint)) {
    Finish(question,
           Killed(domain, absl::StrCat("this query ended a worker of domain ", domain,
                                       "; it is not tried again, and refused for a while when it "
                                       "does so twice")));
  } else if (static_cast<int>(question->lost.size()) >= limits_.deaths_max) {
    Finish(question, Killed(domain, absl::StrCat(question->lost.size(),
                                                 " workers ended or broke under this query; it is "
                                                 "not tried again (last: ",
                                                 error.message(), ")")));
  } else if (question->losses >= limits_.deaths_max) {
    Finish(question, BrokeUnder(domain, question->losses, error));
  } else {
    Step(question);
  }
}

void WorkerQueryRouter::NoteAnswer(int64_t incarnation) {
  MutexLock lock(mutex_);
  if (!losses_.empty()) losses_.erase(incarnation);
}

// One whose every call breaks, and which is there, answers its heartbeat and would never be
// replaced.
void WorkerQueryRouter::NoteLoss(const std::string& domain, int64_t incarnation) {
  const DomainView view = sources_.workers(domain);
  const WorkerView& worker = view.live.incarnation == incarnation ? view.live : view.standby;
  const bool is_there = worker.incarnation == incarnation && worker.client != nullptr;
  {
    MutexLock lock(mutex_);
    if (!is_there) losses_.erase(incarnation);
    if (!is_there || ++losses_[incarnation] != kLossesInARow) return;
  }
  if (sources_.broken) Probe(domain, worker);
}

// The broken calls may be the fault of what they asked for.
void WorkerQueryRouter::Probe(const std::string& domain, const WorkerView& worker) {
  int64_t number = 0;
  {
    MutexLock lock(mutex_);
    number = ++last_question_;
    under_way_[number] = {};
  }
  wv1::WorkerQueryRequest nothing;
  nothing.set_sql("SELECT 1");
  worker.client->Query(
      nothing, absl::Now() + kProbeTimeout,
      AnswerRoom{AnswerBudget::kSmallBytes, answers_.Open(domain)},
      [this, domain, number, incarnation = worker.incarnation](const auto& answer) {
        NoteAnswer(incarnation);
        if (!answer.ok() && IsLost(answer.status())) sources_.broken(domain, incarnation);
        MutexLock lock(mutex_);
        under_way_.erase(number);
        if (under_way_.empty()) idle_.SignalAll();
      });
}

void WorkerQueryRouter::OnError(const QuestionPtr& question, const Asked& asked,
                                const absl::Status& error) {
  const std::string& domain = question->request.domain();
  if (absl::IsCancelled(error) && *asked.called_off) {
    Step(question);
  } else if (IsLost(error)) {
    OnLost(question, asked, error);
  } else if (IsSoft(error, asked.source)) {
    question->answered.insert(asked.incarnation);
    // The live worker's word counts more than the standby's.
    if (!question->fallback || asked.source == v1::LIVE) question->fallback = error;
    Step(question);
  } else if (absl::IsDeadlineExceeded(error) && ErrorReason(error).empty()) {
    const DomainView view = sources_.workers(domain);
    const WorkerView& worker = asked.source == v1::LIVE ? view.live : view.standby;
    const bool silent = worker.incarnation == asked.incarnation && silence_.IsSilent(worker);
    const bool waits = question->request.consistency().on_stale() == v1::Consistency::WAIT;
    if ((silent || waits) && question->fallback) return GiveUp(question);
    Finish(question, silent ? StandsStill(domain) : TookTooLong(domain));
  } else {
    // What the live worker said stands in the fallback; none: only the standby was asked.
    const bool live_too = question->fallback && IsWorthWaking(question->fallback->status());
    if (asked.source == v1::STANDBY && IsWorthWaking(error) && live_too) {
      NoteHungry(*question, true);
    }
    Finish(question, error);
  }
}

void WorkerQueryRouter::OnRows(const QuestionPtr& question, const Asked& asked,
                               WorkerAnswer answer) {
  v1::QueryResponse response;
  FillMeta(*question, asked, answer.header, response.mutable_meta());
  const absl::Status fresh_enough =
      CheckStaleFor(response.meta(), question->request.consistency(), absl::Now());
  if (!fresh_enough.ok()) return OnTooStale(question, fresh_enough);
  const std::string& wanted = question->request.if_none_match();
  if (!wanted.empty() && response.meta().etag() == wanted) {
    response.set_not_modified(true);
    Finish(question, std::move(response));
    return;
  }
  if (answer.header.not_modified()) {
    // The same rows in another state: the client must hear of the state, so it gets a whole answer.
    question->use_known = false;
    Step(question);
    return;
  }
  *response.mutable_columns() = std::move(*answer.header.mutable_columns());
  response.set_body(std::move(answer.body));
  response.set_row_count(answer.row_count);
  if (asked.source == v1::LIVE && IsPreparing(answer)) {
    question->answered.insert(asked.incarnation);
    question->fallback = std::move(response);
    question->fallback_hold = std::move(answer.share);
    Step(question);
    return;
  }
  Finish(question, std::move(response), std::move(answer.share));
}

// The same worker may have a fresher one in a while.
void WorkerQueryRouter::OnTooStale(const QuestionPtr& question, const absl::Status& too_stale) {
  const absl::Time now = SteadyNow();
  const bool waits = question->request.consistency().on_stale() == v1::Consistency::WAIT &&
                     now < question->wait_deadline;
  if (!waits) return Finish(question, too_stale);
  question->fallback = too_stale;
  question->fallback_hold = nullptr;
  question->waits_for_fresh = true;
  const absl::Duration look = question->stale_look;
  question->stale_look = std::min(2 * look, kStaleLookMax);
  ParkUntil(question, std::min(now + look, question->wait_deadline), [this, question] {
    question->waits_for_fresh = false;
    Step(question);
  });
}

// It may be deleted while a worker's answer is under way.
std::shared_ptr<const CatalogDomain> WorkerQueryRouter::DomainOf(const Question& question) const {
  if (auto domain = sources_.domain(question.request.domain())) return domain;
  auto deleted = std::make_shared<CatalogDomain>();
  deleted->entry.set_name(question.request.domain());
  return deleted;
}

void WorkerQueryRouter::FillMeta(const Question& question, const Asked& asked,
                                 const wv1::WorkerQueryResponse::Header& header,
                                 v1::Meta* meta) const {
  const auto domain = DomainOf(question);
  DomainFacts facts;
  facts.domain = domain.get();
  facts.workers = sources_.workers(question.request.domain());
  facts.head_position = sources_.head_position();
  facts.now = absl::Now();
  facts.has_beyond = sources_.has_beyond;
  facts.beyond_for = sources_.beyond_for;
  facts.oldest_beyond = sources_.oldest_beyond;
  const v1::Source source = IsAsOf(question.request.consistency()) ? v1::SNAPSHOT : asked.source;
  // The rows are as old as the query's begin, and when that was, within its call, nobody says.
  const absl::Duration age = SteadyNow() - asked.since;
  for (const wv1::SliceReport& slice : header.slices()) {
    *meta->add_slices() = MakeSliceMeta(facts, slice, source, age);
    if (meta->slices().rbegin()->stale()) meta->set_stale(true);
  }
  meta->set_head_position(facts.head_position);
  *meta->mutable_server_time() = ToProto(facts.now);
  if (!header.varies()) meta->set_etag(MakeEtag(question.hash, *meta));
}

void WorkerQueryRouter::Park(const QuestionPtr& question) {
  absl::Time until = question->fallback ? question->wait_deadline : question->deadline;
  // What broke under it may live on: then no new worker comes, and it is asked again.
  const DomainView view = sources_.workers(question->request.domain());
  const auto lives_on = [&](const WorkerView& worker) {
    return worker.client != nullptr && question->died.count(worker.incarnation) > 0;
  };
  const bool ask_again = lives_on(view.live) || lives_on(view.standby);
  if (ask_again) until = std::min(until, SteadyNow() + limits_.ask_again_after);
  const bool parked = ParkUntil(question, until, [this, question, ask_again] {
    if (!ask_again) return GiveUp(question);
    question->died.clear();
    Step(question);
  });
  if (!parked) return;
  if (sources_.unanswered) {
    sources_.unanswered(question->request.domain(), !question->answered.empty());
  }
  // A worker may have come up between the look and the parking.
  OnWorkerChange(question->request.domain());
}

bool WorkerQueryRouter::ParkUntil(const QuestionPtr& question, absl::Time until,
                                  std::function<void()> on_time) {
  absl::Status ended;
  {
    MutexLock lock(mutex_);
    if (draining_) ended = Draining();
    if (under_way_.at(question->number).caller_gone) ended = CallerHasGone();
    if (ended.ok()) {
      parked_[question->number] = question;
      question->timer =
          loop_.RunAfter(until - SteadyNow(), [this, question, on_time = std::move(on_time)] {
            if (Unpark(question)) on_time();
          });
    }
  }
  if (!ended.ok()) Finish(question, ended);
  return ended.ok();
}

bool WorkerQueryRouter::Unpark(const QuestionPtr& question) {
  MutexLock lock(mutex_);
  return parked_.erase(question->number) > 0;
}

void WorkerQueryRouter::OnWorkerChange(const std::string& domain) {
  loop_.Post([this, domain] {
    WakeParked(domain);
    silence_.OnWorkerChange(domain);
  });
}

void WorkerQueryRouter::WakeParked(const std::string& domain) {
  const DomainView view = sources_.workers(domain);
  std::vector<QuestionPtr> awake;
  bool waits = false;
  bool standby_is_not_enough = false;
  {
    MutexLock lock(mutex_);
    for (auto parked = parked_.begin(); parked != parked_.end();) {
      const QuestionPtr& question = parked->second;
      const auto news = [&](const WorkerView& worker) {
        return worker.client && question->died.count(worker.incarnation) == 0 &&
               question->answered.count(worker.incarnation) == 0;
      };
      const bool wake = question->request.domain() == domain && !question->waits_for_fresh &&
                        (news(view.live) || news(view.standby) || IsSettled(*question, view));
      if (!wake) {
        if (question->request.domain() == domain) {
          waits = true;
          standby_is_not_enough = standby_is_not_enough || !question->answered.empty();
        }
        ++parked;
        continue;
      }
      awake.push_back(question);
      parked = parked_.erase(parked);
    }
  }
  for (const QuestionPtr& question : awake) {
    loop_.Cancel(question->timer);
    Step(question);
  }
  // Its workers may have come to rest after the question: of a daemon that starts with many domains
  // nothing was known of them before.
  const bool rests = IsResting(view.live) || IsResting(view.standby);
  if (waits && rests && sources_.unanswered) sources_.unanswered(domain, standby_is_not_enough);
}

void WorkerQueryRouter::GiveUp(const QuestionPtr& question) {
  if (question->fallback) {
    Finish(question, *std::move(question->fallback), std::move(question->fallback_hold));
    return;
  }
  const std::string& domain = question->request.domain();
  const DomainView view = sources_.workers(domain);
  Finish(question,
         MakeError(absl::StatusCode::kUnavailable,
                   absl::StrCat("no worker of domain ", domain, " could answer: live is ",
                                view.live.status.state(), " (", view.live.status.last_error(),
                                "), standby is ", view.standby.status.state(), " (",
                                view.standby.status.last_error(), ")"),
                   ErrorDetail{"WORKER_LOST", {{"domain", domain}}, {}, 1000}));
}

// Answers that are staler than their slice's file allows are an error, unless the past was asked
// for.
absl::StatusOr<v1::QueryResponse> WorkerQueryRouter::WithinMaxStale(
    const Question& question, v1::QueryResponse response) const {
  if (IsAsOf(question.request.consistency())) return response;
  const auto domain = DomainOf(question);
  for (const v1::SliceMeta& meta : response.meta().slices()) {
    ICEPIE_RETURN_IF_ERROR(CheckMaxStale(*domain, meta, absl::Now()));
  }
  return response;
}

void WorkerQueryRouter::Measure(const Question& question,
                                const absl::StatusOr<v1::QueryResponse>& result) const {
  if (!sources_.measured || absl::IsCancelled(result.status())) return;
  const absl::Duration took = SteadyNow() - question.start;
  if (result.ok()) {
    for (const v1::SliceMeta& meta : result->meta().slices()) {
      sources_.measured(meta.slice(), true, took);
    }
  } else if (question.request.has_select()) {
    sources_.measured(
        absl::StrCat(question.request.domain(), ".", question.request.select().slice()), false,
        took);
  }
}

// Who holds what is damaged knows no more of it than its snapshots say.
absl::Status WorkerQueryRouter::InsteadOf(const absl::Status& error,
                                          const Question& question) const {
  const std::string reason = ErrorReason(error);
  const auto domain = sources_.domain(question.request.domain());
  if ((reason != "SLICE_NOT_FOUND" && reason != "NO_SNAPSHOT_YET") || !domain) return error;
  const std::string& name = question.request.domain();
  if (!domain->held.empty()) return HeldError(name, domain->held);
  const auto damaged = domain->damaged_slices.find(GetErrorDetail(error)->metadata["slice"]);
  if (damaged == domain->damaged_slices.end()) return error;
  return HeldError(absl::StrCat(name, ".", damaged->first), damaged->second.why);
}

void WorkerQueryRouter::Finish(const QuestionPtr& question,
                               absl::StatusOr<v1::QueryResponse> result, AnswerHold hold) {
  if (!result.ok()) result = InsteadOf(result.status(), *question);
  if (result.ok()) ledger_.OnAnswered(question->fingerprint);
  if (result.ok()) NoteHungry(*question, false);
  if (result.ok()) result = WithinMaxStale(*question, *std::move(result));
  Measure(*question, result);
  question->done(std::move(result), std::move(hold));
  MutexLock lock(mutex_);
  auto in_flight = in_flight_.find(question->request.domain());
  if (--in_flight->second == 0) in_flight_.erase(in_flight);
  under_way_.erase(question->number);
  if (under_way_.empty()) idle_.SignalAll();
}

void WorkerQueryRouter::Drain() {
  std::map<int64_t, QuestionPtr> parked;
  {
    MutexLock lock(mutex_);
    draining_ = true;
    parked.swap(parked_);
  }
  for (const auto& [number, question] : parked) {
    loop_.Cancel(question->timer);
    Finish(question, Draining());
  }
}

bool WorkerQueryRouter::WaitEmpty(absl::Time deadline) {
  MutexLock lock(mutex_);
  while (!under_way_.empty()) {
    const absl::Duration left = deadline - SteadyNow();
    if (left <= absl::ZeroDuration()) return false;
    idle_.WaitFor(mutex_, left);
  }
  return true;
}

}  // namespace icepie::server
