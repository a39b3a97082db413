// The router of queries: live worker first, standby when the live one cannot, and patience while
// neither can. A question whose worker dies or stands still under it is asked again of another,
// and so is one that the live worker has no memory for: the standby's is its own.
#ifndef ICEPIE_SERVER_QUERY_WORKER_QUERY_ROUTER_H_
#define ICEPIE_SERVER_QUERY_WORKER_QUERY_ROUTER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/base/mutex.h"
#include "server/base/event_loop.h"
#include "server/domain/catalog.h"
#include "server/query/answer_budget.h"
#include "server/query/query_ledger.h"
#include "server/query/query_router.h"
#include "server/supervisor/silence_watch.h"
#include "server/supervisor/supervisor.h"

namespace icepie::server {

struct QueryRouterLimits {
  int in_flight_max = kQuestionsPerDomain;  // questions a domain, waiting ones included
  AnswerLimits answers;
  absl::Duration default_max_wait = absl::Seconds(5);
  // A question under which so many workers died is not asked again: it may be what kills them. So
  // many broken calls to fewer of them end it, too, and are not its fault.
  int deaths_max = 4;
  // A worker that broke under it but lives on may be asked again after this.
  absl::Duration ask_again_after = absl::Seconds(1);
};

// What the router looks at; functions, so that tests can put anything there.
struct QueryRouterSources {
  std::function<std::shared_ptr<const CatalogDomain>(const std::string&)> domain;
  std::function<std::vector<std::string>()> domain_names;
  std::function<DomainView(const std::string&)> workers;
  std::function<int64_t()> head_position;
  // Whether a held domain has anything to answer from, of which no worker is known yet; null: no.
  std::function<bool(const CatalogDomain& domain)> has_states;
  // As in DomainFacts; may be null.
  std::function<bool(const std::string& stream, int64_t position)> has_beyond;
  std::function<absl::Duration(const std::string& stream, int64_t position)> beyond_for;
  std::function<absl::Time(const std::string& stream, int64_t position)> oldest_beyond;
  // A question has come for the domain, and one cannot be answered now (also when a standby has
  // been asked already); may be null.
  std::function<void(const std::string& domain)> asked;
  std::function<void(const std::string& domain, bool standby_is_not_enough)> unanswered;
  // A worker that is there breaks every question, also one that asks for nothing; may be null.
  std::function<void(const std::string& domain, int64_t incarnation)> broken;
  // How long a question that read a slice ("domain.slice") took; may be null.
  std::function<void(const std::string& slice, bool ok, absl::Duration took)> measured;
};

class WorkerQueryRouter final : public QueryRouter {
 public:
  // `ledger_file` as in QueryLedger.
  explicit WorkerQueryRouter(QueryRouterSources sources, QueryRouterLimits limits = {},
                             std::string ledger_file = "");
  // Waits for the questions that are with a worker.
  ~WorkerQueryRouter() override;

  CallOff Ask(const icepie::v1::QueryRequest& request, absl::Time deadline, int64_t bytes_max,
              Done done) override;

  // A view of the domain has changed: its waiting questions look again.
  void OnWorkerChange(const std::string& domain);

  // Those that ran in a worker that died are kept in mind (query_ledger.h).
  void OnWorkerDeath(const WorkerDeath& death);

  // Refuses new questions and ends the waiting ones with UNAVAILABLE/SERVER_DRAINING.
  void Drain();
  // What answers take of the memory, also those that are still being written to their clients.
  int64_t answer_bytes() const { return answers_.bytes(); }

  // Waits for those that are with a worker; false: some still were at the deadline.
  bool WaitEmpty(absl::Time deadline);

 private:
  struct Question;
  using QuestionPtr = std::shared_ptr<Question>;

  // Of one attempt.
  struct Asked {
    int64_t incarnation = 0;
    icepie::v1::Source source = icepie::v1::SOURCE_UNSPECIFIED;
    absl::Time since;  // of SteadyNow()
    std::string flight_record;
    std::shared_ptr<std::atomic<bool>> called_off;  // the worker is silent
  };

  absl::Status Check(const icepie::v1::QueryRequest& request) const;
  absl::Status CheckBlocked(const Question& question) const;
  // Its caller has gone.
  void EndQuestion(int64_t number);
  // The call that the question is with from now on, or null. False: its caller has gone.
  bool SetCall(const Question& question, std::shared_ptr<grpc::ClientContext> call);
  void Step(const QuestionPtr& question);
  void AskWorker(const QuestionPtr& question, const DomainView& view, icepie::v1::Source source);
  void WatchForSilence(const QuestionPtr& question, const WorkerView& worker,
                       const std::shared_ptr<grpc::ClientContext>& call, Asked& asked);
  void OnAnswer(const QuestionPtr& question, const Asked& asked,
                absl::StatusOr<WorkerAnswer> answer);
  void OnError(const QuestionPtr& question, const Asked& asked, const absl::Status& error);
  void OnLost(const QuestionPtr& question, const Asked& asked, const absl::Status& error);
  void NoteLoss(const std::string& domain, int64_t incarnation);
  void NoteAnswer(int64_t incarnation);
  void Probe(const std::string& domain, const WorkerView& worker);
  void OnRows(const QuestionPtr& question, const Asked& asked, WorkerAnswer answer);
  bool IsHungry(const Question& question);
  void NoteHungry(const Question& question, bool hungry);
  static bool IsSettled(const Question& question, const DomainView& view);
  void OnTooStale(const QuestionPtr& question, const absl::Status& too_stale);
  void Park(const QuestionPtr& question);
  // Until then, or until a worker has news. False: it has been finished instead.
  bool ParkUntil(const QuestionPtr& question, absl::Time until, std::function<void()> on_time);
  void WakeParked(const std::string& domain);
  // Takes a parked question out; false when somebody else did.
  bool Unpark(const QuestionPtr& question);
  void GiveUp(const QuestionPtr& question);
  void Finish(const QuestionPtr& question, absl::StatusOr<icepie::v1::QueryResponse> result,
              AnswerHold hold = nullptr);
  absl::Status InsteadOf(const absl::Status& error, const Question& question) const;
  std::shared_ptr<const CatalogDomain> DomainOf(const Question& question) const;
  absl::StatusOr<icepie::v1::QueryResponse> WithinMaxStale(
      const Question& question, icepie::v1::QueryResponse response) const;
  void Measure(const Question& question,
               const absl::StatusOr<icepie::v1::QueryResponse>& result) const;
  void FillMeta(const Question& question, const Asked& asked,
                const icepie::worker::v1::WorkerQueryResponse::Header& header,
                icepie::v1::Meta* meta) const;

  const QueryRouterSources sources_;
  const QueryRouterLimits limits_;
  const AnswerBudget answers_;
  QueryLedger ledger_;
  Mutex mutex_;
  CondVar idle_;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t last_question_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, int> in_flight_ ABSL_GUARDED_BY(mutex_);  // by domain
  // Fingerprints of what neither worker had memory for, and until when they are kept in mind.
  std::map<std::string, absl::Time> hungry_ ABSL_GUARDED_BY(mutex_);
  std::map<int64_t, QuestionPtr> parked_ ABSL_GUARDED_BY(mutex_);
  struct UnderWay {
    std::shared_ptr<grpc::ClientContext> call;  // to a worker; else null
    bool caller_gone = false;
  };
  std::map<int64_t, UnderWay> under_way_ ABSL_GUARDED_BY(mutex_);  // every admitted question
  // By incarnation: calls in a row that it broke.
  std::map<int64_t, int> losses_ ABSL_GUARDED_BY(mutex_);
  SilenceWatch silence_;
  EventLoop loop_;  // timers and wake-ups; last: its thread ends first
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_QUERY_WORKER_QUERY_ROUTER_H_
