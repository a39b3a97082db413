#include "server/query/worker_query_router.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <future>
#include <map>
#include <thread>

#include "absl/strings/str_cat.h"
#include "core/base/mutex.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "server/base/proto_time.h"
#include "server/base/rpc_status.h"
#include "server/query/query_etag.h"
#include "tests/core/temp_directory.h"
#include "tests/server/fake_worker.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;
namespace wv1 = icepie::worker::v1;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

wv1::SliceReport Report(v1::SliceState state, int64_t position) {
  wv1::SliceReport report;
  report.set_slice("volume");
  report.set_generation(7);
  report.set_state(state);
  report.set_applied_position(position);
  report.set_content_version(position);
  report.set_serving(true);
  report.mutable_snapshot()->set_path("snapshots/volume/g7.duckdb");
  return report;
}

wv1::WorkerReport WorkerReportOf(const wv1::SliceReport& slice) {
  wv1::WorkerReport report;
  *report.add_slices() = slice;
  return report;
}

// Answers with one row, or "not modified" when the asker knows the version.
FakeWorker::OnQuery Answering(const wv1::SliceReport& slice, const std::string& body) {
  return [slice, body](const wv1::WorkerQueryRequest& request, grpc::ServerContext&,
                       FakeWorker::Writer& writer) {
    wv1::WorkerQueryResponse part;
    *part.mutable_header()->add_slices() = slice;
    const bool known =
        request.known_size() == 1 && request.known(0).content_version() == slice.content_version();
    part.mutable_header()->set_not_modified(known);
    writer.Write(part);
    if (known) return grpc::Status::OK;
    part.set_body(body);
    writer.Write(part);
    part.mutable_end()->set_row_count(1);
    writer.Write(part);
    return grpc::Status::OK;
  };
}

FakeWorker::OnQuery Failing(const absl::Status& status) {
  return [status](const wv1::WorkerQueryRequest&, grpc::ServerContext&, FakeWorker::Writer&) {
    return ToGrpcStatus(status);
  };
}

// As a worker that is stopped: nothing comes until the caller goes.
FakeWorker::OnQuery StandingStill() {
  return [](const wv1::WorkerQueryRequest&, grpc::ServerContext& context, FakeWorker::Writer&) {
    while (!context.IsCancelled()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return grpc::Status::CANCELLED;
  };
}

// Sends half of an answer and then nothing more until its connection breaks.
FakeWorker::OnQuery HangingHalfway(std::promise<void>& asked) {
  return [&asked](const wv1::WorkerQueryRequest&, grpc::ServerContext& context,
                  FakeWorker::Writer& writer) {
    wv1::WorkerQueryResponse part;
    *part.mutable_header()->add_slices() = Report(v1::RUNNING, 100);
    writer.Write(part);
    part.set_body("[{\"half\":");
    writer.Write(part);
    asked.set_value();
    while (!context.IsCancelled()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return grpc::Status::CANCELLED;
  };
}

class WorkerQueryRouterTest : public ::testing::Test {
 protected:
  WorkerQueryRouterTest() {
    domain_ = std::make_shared<CatalogDomain>();
    domain_->entry.set_name("payments");
    domain_->slices["volume"].set_name("volume");
  }

  void MakeRouter(QueryRouterLimits limits = {}) {
    QueryRouterSources sources;
    sources.domain = [this](const std::string& name) {
      return name == "payments" ? domain_ : nullptr;
    };
    sources.domain_names = [] { return std::vector<std::string>{"payments"}; };
    sources.workers = [this](const std::string&) {
      MutexLock lock(mutex_);
      return view_;
    };
    sources.head_position = [] { return int64_t{100}; };
    sources.has_states = [this](const CatalogDomain&) { return has_states_; };
    sources.broken = on_broken_;
    sources.has_beyond = has_beyond_;
    sources.beyond_for = beyond_for_;
    if (on_unanswered_) {
      sources.unanswered = [this](const std::string&, bool) { on_unanswered_(); };
    }
    sources.measured = [this](const std::string& slice, bool ok, absl::Duration took) {
      EXPECT_GE(took, absl::ZeroDuration());
      EXPECT_LT(took, absl::Minutes(1));
      MutexLock lock(mutex_);
      measured_.push_back(absl::StrCat(slice, ok ? " ok" : " failed"));
    };
    router_ = std::make_unique<WorkerQueryRouter>(std::move(sources), limits);
  }

  std::string Socket(const std::string& name) { return directory_.path() + "/" + name; }

  void SetLive(const WorkerView& view) { Set(&DomainView::live, view); }
  void SetStandby(const WorkerView& view) { Set(&DomainView::standby, view); }
  void Set(WorkerView DomainView::*which, const WorkerView& view) {
    {
      MutexLock lock(mutex_);
      view_.*which = view;
    }
    if (router_) router_->OnWorkerChange("payments");
  }

  using Result = absl::StatusOr<v1::QueryResponse>;
  std::future<Result> Start(const v1::QueryRequest& request, absl::Duration timeout) {
    auto result = std::make_shared<std::promise<Result>>();
    call_off_ = router_->Ask(request, absl::Now() + timeout, bytes_max_,
                             [result, this](Result answer, AnswerHold hold) {
                               if (keeps_holds_) {
                                 const MutexLock lock(mutex_);
                                 holds_.push_back(std::move(hold));
                               }
                               hold.reset();  // before a test may look at what all answers hold
                               result->set_value(std::move(answer));
                             });
    return result->get_future();
  }
  static v1::QueryRequest Sql() {
    v1::QueryRequest request;
    request.set_domain("payments");
    request.set_sql("SELECT * FROM volume");
    return request;
  }
  Result Ask(const v1::QueryRequest& request, absl::Duration timeout = absl::Seconds(60)) {
    return Start(request, timeout).get();
  }

  TempDirectory directory_;
  std::shared_ptr<CatalogDomain> domain_;
  Mutex mutex_;
  DomainView view_ ABSL_GUARDED_BY(mutex_);
  std::function<bool(const std::string&, int64_t)> has_beyond_;
  std::function<absl::Duration(const std::string&, int64_t)> beyond_for_;
  std::function<void()> on_unanswered_;
  std::function<void(const std::string&, int64_t)> on_broken_;
  bool has_states_ = false;
  std::vector<std::string> measured_ ABSL_GUARDED_BY(mutex_);
  int64_t bytes_max_ = kAnswerBytesMax;
  bool keeps_holds_ = false;  // as of answers that their clients do not take
  std::vector<AnswerHold> holds_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<WorkerQueryRouter> router_;
  QueryRouter::CallOff call_off_;  // of the last question
};

// The generation that serves, which reads one slice that reads a stream.
void ServeFromStream(CatalogDomain& domain, const v1::MaxStale& max_stale) {
  for (const auto& [name, reads] :
       std::map<std::string, std::string>{{"volume", "clean"}, {"clean", "transfers"}}) {
    auto& slice = domain.slices[name];
    slice.set_name(name);
    slice.set_serving_generation(7);
    auto& generation = *slice.add_generations();
    generation.mutable_generation()->set_number(7);
    generation.mutable_definition()->add_reads(reads);
    *generation.mutable_definition()->mutable_max_stale() = max_stale;
  }
}

TEST_F(WorkerQueryRouterTest, AStandbyIsNotStaleForRecordsThatDoNotConcernTheSlice) {
  FakeWorker standby(Socket("standby"), Answering(Report(v1::RUNNING, 90), "[1]"));
  SetStandby(standby.View(2, WorkerReportOf(Report(v1::RUNNING, 90))));
  ServeFromStream(*domain_, {});
  int64_t last_transfer = 89;
  has_beyond_ = [&](const std::string& stream, int64_t position) {
    return stream == "transfers" && last_transfer >= position;
  };
  MakeRouter();
  const Result complete = Ask(Sql());
  ASSERT_TRUE(complete.ok()) << complete.status();
  EXPECT_EQ(complete->meta().slices(0).source(), v1::STANDBY);
  EXPECT_FALSE(complete->meta().stale());
  EXPECT_EQ(complete->meta().slices(0).lag_records(), 10);
  last_transfer = 90;
  EXPECT_EQ(Ask(Sql())->meta().slices(0).stale_reason(), v1::WORKER_DOWN);
}

// Its word is of its last look: it may be busy with one batch for minutes, or hear of no records.
TEST_F(WorkerQueryRouterTest, ARunningSliceWhoseRecordsWaitForLongLagsWhateverItsWorkerSays) {
  wv1::SliceReport report = Report(v1::RUNNING, 90);
  report.set_strategy("append");
  report.add_reads("clean");
  wv1::SliceReport clean = report;
  clean.set_slice("clean");
  wv1::WorkerReport both = WorkerReportOf(report);
  *both.add_slices() = clean;
  FakeWorker live(Socket("live"), Answering(report, "[1]"));
  SetLive(live.View(1, both));
  ServeFromStream(*domain_, {});
  absl::Duration waits = absl::Seconds(2);
  beyond_for_ = [&](const std::string& stream, int64_t position) {
    return stream == "transfers" && position == 90 ? waits : absl::ZeroDuration();
  };
  MakeRouter();
  EXPECT_FALSE(Ask(Sql())->meta().stale());
  waits = absl::Seconds(100);
  const v1::SliceMeta late = Ask(Sql())->meta().slices(0);
  EXPECT_TRUE(late.stale());
  EXPECT_EQ(late.state(), v1::LAGGING);
  EXPECT_EQ(late.stale_reason(), v1::SLICE_LAGGING);
  EXPECT_GE(late.lag_time().seconds(), 99);
  EXPECT_NEAR(late.stale_since().seconds(), absl::ToUnixSeconds(absl::Now()) - 100, 10);
  // A slice that is computed when its time has come, or reads one, keeps another promise.
  both.mutable_slices(1)->set_strategy("recompute");
  SetLive(live.View(1, both));
  EXPECT_FALSE(Ask(Sql())->meta().stale());
}

// Records that come while a query runs are not what its slice has not kept up with.
TEST_F(WorkerQueryRouterTest, ASliceDoesNotLagForALongQuery) {
  wv1::SliceReport report = Report(v1::RUNNING, 90);
  report.set_strategy("append");
  report.add_reads("transfers");
  std::atomic<absl::Duration> waits;
  FakeWorker live(Socket("live"), [&](const wv1::WorkerQueryRequest& request,
                                      grpc::ServerContext& context, FakeWorker::Writer& writer) {
    const absl::Time begin = SteadyNow();
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    waits = absl::Milliseconds(2900) + (SteadyNow() - begin);
    return Answering(report, "[1]")(request, context, writer);
  });
  SetLive(live.View(1, WorkerReportOf(report)));
  domain_->slices["volume"].set_serving_generation(7);
  auto& generation = *domain_->slices["volume"].add_generations();
  generation.mutable_generation()->set_number(7);
  generation.mutable_definition()->add_reads("transfers");
  beyond_for_ = [&](const std::string&, int64_t) { return waits.load(); };
  MakeRouter();
  const Result answer = Ask(Sql());
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->meta().slices(0).state(), v1::RUNNING);
  EXPECT_FALSE(answer->meta().stale());
}

TEST_F(WorkerQueryRouterTest, TooStaleIsAnErrorWhereTheFileSaysSo) {
  wv1::SliceReport report = Report(v1::FAULTED, 90);
  report.mutable_state_since()->set_seconds(absl::ToUnixSeconds(absl::Now()) - 60);
  FakeWorker live(Socket("live"), Answering(report, "[1]"));
  SetLive(live.View(1, WorkerReportOf(report)));
  v1::MaxStale max_stale;
  max_stale.set_after_ms(30000);
  max_stale.set_then(v1::MaxStale::FAIL);
  ServeFromStream(*domain_, max_stale);
  MakeRouter();
  const absl::Status error = Ask(Sql()).status();
  EXPECT_EQ(ErrorReason(error), "STALENESS_EXCEEDED");
  EXPECT_THAT(std::string(error.message()), HasSubstr("SLICE_FAULTED"));
  // Asked for the past, nothing is too old.
  v1::QueryRequest past = Sql();
  past.mutable_consistency()->set_as_of_position(90);
  EXPECT_TRUE(Ask(past).ok());
  for (const char* slice : {"volume", "clean"}) {
    auto& definition = *domain_->slices[slice].mutable_generations(0)->mutable_definition();
    definition.mutable_max_stale()->set_after_ms(600000);
  }
  EXPECT_TRUE(Ask(Sql()).ok());
  MutexLock lock(mutex_);
  EXPECT_EQ(measured_.back(), "payments.volume ok");
}

TEST_F(WorkerQueryRouterTest, WhoAsksMayWantLessStaleness) {
  wv1::SliceReport old = Report(v1::FAULTED, 90);
  old.mutable_state_since()->set_seconds(absl::ToUnixSeconds(absl::Now()) - 60);
  std::atomic<int> asked{0};
  std::atomic<int> fresh_from{1 << 30};
  FakeWorker live(Socket("live"), [&](const wv1::WorkerQueryRequest& request,
                                      grpc::ServerContext& context, FakeWorker::Writer& writer) {
    const bool fresh = ++asked >= fresh_from;
    return Answering(fresh ? Report(v1::RUNNING, 95) : old, fresh ? "[2]" : "[1]")(request, context,
                                                                                   writer);
  });
  SetLive(live.View(1, WorkerReportOf(old)));
  MakeRouter();
  const auto ask = [&](int64_t seconds, v1::Consistency::OnStale on_stale,
                       absl::Duration max_wait = absl::Seconds(30)) {
    v1::QueryRequest request = Sql();
    request.mutable_consistency()->mutable_max_staleness()->set_seconds(seconds);
    request.mutable_consistency()->set_on_stale(on_stale);
    *request.mutable_consistency()->mutable_max_wait() = ToProto(max_wait);
    return Ask(request);
  };
  EXPECT_EQ(ask(30, v1::Consistency::SERVE)->body(), "[1]");
  EXPECT_EQ(ask(600, v1::Consistency::FAIL)->body(), "[1]");
  const absl::Status refused = ask(30, v1::Consistency::FAIL).status();
  EXPECT_EQ(ErrorReason(refused), "STALENESS_EXCEEDED");
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("(SLICE_FAULTED), max_staleness is 30s; icepie slice describe"));
  EXPECT_EQ(ErrorReason(ask(30, v1::Consistency::WAIT, absl::Milliseconds(150)).status()),
            "STALENESS_EXCEEDED");
  fresh_from = asked + 3;
  EXPECT_EQ(ask(30, v1::Consistency::WAIT)->body(), "[2]");
  EXPECT_EQ(asked, fresh_from);
  fresh_from = 1 << 30;

  v1::QueryRequest past = Sql();
  past.mutable_consistency()->set_as_of_position(90);
  past.mutable_consistency()->mutable_max_staleness()->set_seconds(1);
  EXPECT_EQ(ErrorReason(Ask(past).status()), "PARAMETER_INVALID");
  EXPECT_EQ(ErrorReason(ask(-1, v1::Consistency::FAIL).status()), "PARAMETER_INVALID");
  v1::QueryRequest without = Sql();
  without.mutable_consistency()->set_on_stale(v1::Consistency::FAIL);
  EXPECT_EQ(ErrorReason(Ask(without).status()), "PARAMETER_INVALID");
}

TEST_F(WorkerQueryRouterTest, ThePastIsAskedOfTheStandbyAndNotStale) {
  wv1::SliceReport then = Report(v1::RUNNING, 40);
  then.mutable_snapshot()->mutable_time()->set_seconds(1000);
  FakeWorker live(Socket("live"), Answering(then, "[1]"));
  int64_t asked = -1;
  FakeWorker standby(Socket("standby"),
                     [&](const wv1::WorkerQueryRequest& request, grpc::ServerContext& context,
                         FakeWorker::Writer& writer) {
                       asked = request.as_of().as_of_position();
                       return Answering(then, "[2]")(request, context, writer);
                     });
  SetLive(live.View(1, WorkerReportOf(Report(v1::RUNNING, 90))));
  SetStandby(standby.View(2, WorkerReportOf(then)));
  MakeRouter();
  v1::QueryRequest request = Sql();
  request.mutable_consistency()->set_as_of_position(50);
  const Result answer = Ask(request);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->body(), "[2]");
  EXPECT_EQ(asked, 50);
  const v1::SliceMeta& meta = answer->meta().slices(0);
  EXPECT_EQ(meta.source(), v1::SNAPSHOT);
  EXPECT_EQ(meta.applied_position(), 40);
  EXPECT_EQ(meta.snapshot_time().seconds(), 1000);
  EXPECT_EQ(meta.state(), v1::RUNNING);
  EXPECT_FALSE(answer->meta().stale());
  standby.Die();
  SetStandby({});
  EXPECT_EQ(Ask(request)->body(), "[1]");  // the live worker does it then
}

TEST_F(WorkerQueryRouterTest, APastThatCannotBeMeantIsRefused) {
  MakeRouter();
  v1::QueryRequest request = Sql();
  request.mutable_consistency()->set_as_of_position(101);
  EXPECT_EQ(ErrorReason(Ask(request).status()), "POSITION_AHEAD_OF_CORE");
  request.mutable_consistency()->set_as_of_position(-1);
  EXPECT_EQ(ErrorReason(Ask(request).status()), "PARAMETER_INVALID");
  request.mutable_consistency()->set_as_of_snapshot("");
  EXPECT_EQ(ErrorReason(Ask(request).status()), "PARAMETER_INVALID");
  request.mutable_consistency()->set_as_of_snapshot("audit");
  request.mutable_consistency()->set_min_position(1);
  EXPECT_EQ(ErrorReason(Ask(request).status()), "PARAMETER_INVALID");
}

TEST_F(WorkerQueryRouterTest, TheLiveWorkerAnswersFresh) {
  FakeWorker live(Socket("live"), Answering(Report(v1::RUNNING, 90), "[1]"));
  SetLive(live.View(1, WorkerReportOf(Report(v1::RUNNING, 90))));
  MakeRouter();
  const auto answer = Ask(Sql());
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->body(), "[1]");
  EXPECT_EQ(answer->row_count(), 1);
  const auto& meta = answer->meta();
  EXPECT_FALSE(meta.stale());
  EXPECT_EQ(meta.head_position(), 100);
  ASSERT_EQ(meta.slices_size(), 1);
  EXPECT_EQ(meta.slices(0).slice(), "payments.volume");
  EXPECT_EQ(meta.slices(0).source(), v1::LIVE);
  EXPECT_EQ(meta.slices(0).lag_records(), 10);
}

TEST_F(WorkerQueryRouterTest, AnAnswerMayArriveWhenItsDomainIsDeleted) {
  const auto answering = Answering(Report(v1::RUNNING, 90), "[1]");
  FakeWorker live(Socket("live"), [&](const auto& request, auto& context, auto& writer) {
    domain_ = nullptr;
    return answering(request, context, writer);
  });
  SetLive(live.View(1, WorkerReportOf(Report(v1::RUNNING, 90))));
  MakeRouter();
  const auto answer = Ask(Sql());
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->body(), "[1]");
  EXPECT_EQ(answer->meta().slices(0).slice(), "payments.volume");
}

TEST_F(WorkerQueryRouterTest, ALiveWorkerKilledMidAnswerIsReplacedByTheStandby) {
  const absl::Time start = absl::Now();
  std::promise<void> asked;
  FakeWorker live(Socket("live"), HangingHalfway(asked));
  wv1::SliceReport old = Report(v1::RUNNING, 80);
  old.mutable_snapshot()->mutable_time()->set_seconds(42);
  FakeWorker standby(Socket("standby"), Answering(old, "[2]"));
  SetLive(live.View(1, WorkerReportOf(Report(v1::RUNNING, 100))));
  SetStandby(standby.View(2, WorkerReportOf(old)));
  MakeRouter();
  auto result = Start(Sql(), absl::Seconds(60));
  asked.get_future().wait();
  live.Die();
  const auto answer = result.get();
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->body(), "[2]");
  EXPECT_EQ(answer->meta().slices(0).source(), v1::STANDBY);
  EXPECT_TRUE(answer->meta().slices(0).stale());
  EXPECT_EQ(answer->meta().slices(0).stale_reason(), v1::WORKER_DOWN);
  // Stale since the worker was heard last, not since the snapshot was made.
  EXPECT_GE(answer->meta().slices(0).stale_since().seconds(), absl::ToUnixSeconds(start));
}

TEST_F(WorkerQueryRouterTest, ALiveWorkerThatStandsStillIsNotWaitedFor) {
  FakeWorker live(Socket("live"), StandingStill());
  live.StandStill(true);
  FakeWorker standby(Socket("standby"), Answering(Report(v1::RUNNING, 80), "[2]"));
  SetLive(live.View(1, WorkerReportOf(Report(v1::RUNNING, 100))));
  SetStandby(standby.View(2, WorkerReportOf(Report(v1::RUNNING, 80))));
  MakeRouter();
  const Result first = Ask(Sql(), absl::Seconds(60));
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(first->body(), "[2]");
  EXPECT_EQ(first->meta().slices(0).stale_reason(), v1::WORKER_DOWN);
  // Until it reports again, nobody waits for it any more.
  const Result next = Ask(Sql(), absl::Seconds(60));
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_EQ(live.queries(), 1);
  EXPECT_EQ(standby.queries(), 2);
  FakeWorker awake(Socket("awake"), Answering(Report(v1::RUNNING, 100), "[1]"));
  SetLive(awake.View(1, WorkerReportOf(Report(v1::RUNNING, 100))));
  EXPECT_EQ(Ask(Sql())->body(), "[1]");
}

TEST_F(WorkerQueryRouterTest, AHeldDomainThatHasStatesIsWaitedForAlsoBeforeAnyWorkerIsKnown) {
  domain_->held = "its entry in the catalog is damaged";
  MakeRouter();
  EXPECT_EQ(ErrorReason(Ask(Sql()).status()), "CATALOG_DAMAGED");
  has_states_ = true;
  MakeRouter();
  std::future<Result> waiting = Start(Sql(), absl::Seconds(60));
  FakeWorker standby(Socket("standby"), Answering(Report(v1::FROZEN, 80), "[1]"));
  SetStandby(standby.View(1, WorkerReportOf(Report(v1::FROZEN, 80))));
  const Result answer = waiting.get();
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->body(), "[1]");
}

// It says that it is there, which a worker would that hangs inside DuckDB.
TEST_F(WorkerQueryRouterTest, ALiveWorkerThatDoesNotAnswerItselfIsNotWaitedFor) {
  FakeWorker live(Socket("live"), StandingStill());
  live.Hang();
  FakeWorker standby(Socket("standby"), Answering(Report(v1::RUNNING, 80), "[2]"));
  SetLive(live.View(1, WorkerReportOf(Report(v1::RUNNING, 100))));
  SetStandby(standby.View(2, WorkerReportOf(Report(v1::RUNNING, 80))));
  MakeRouter();
  for (int i = 0; i < 2; ++i) {
    const Result answer = Ask(Sql(), absl::Seconds(20));
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(answer->body(), "[2]");
  }
  EXPECT_EQ(live.queries(), 1);
}

// As after a pause of its process: what it can answer in time it answers.
TEST_F(WorkerQueryRouterTest, ALiveWorkerThatStoodStillIsWaitedForWhenTheStandbyIsBehind) {
  std::atomic<int> asked = 0;
  FakeWorker live(Socket("live"), [&](const wv1::WorkerQueryRequest& request,
                                      grpc::ServerContext& context, FakeWorker::Writer& writer) {
    const auto answer = ++asked == 1 ? StandingStill() : Answering(Report(v1::RUNNING, 100), "[1]");
    return answer(request, context, writer);
  });
  live.StandStill(true);
  std::atomic<int64_t> max_wait_ms = -1;
  FakeWorker standby(
      Socket("standby"), [&](const wv1::WorkerQueryRequest& request, grpc::ServerContext& context,
                             FakeWorker::Writer& writer) {
        max_wait_ms = request.max_wait_ms();
        std::this_thread::sleep_for(std::chrono::milliseconds(request.max_wait_ms()));
        return Failing(MakeError(absl::StatusCode::kFailedPrecondition, "at 80",
                                 "POSITION_UNREACHABLE"))(request, context, writer);
      });
  SetLive(live.View(1, WorkerReportOf(Report(v1::RUNNING, 100))));
  SetStandby(standby.View(2, WorkerReportOf(Report(v1::RUNNING, 80))));
  MakeRouter();
  auto request = Sql();
  request.mutable_consistency()->set_min_position(95);
  request.mutable_consistency()->mutable_max_wait()->set_seconds(20);
  for (int i = 0; i < 2; ++i) {  // called off, and asked while it is known to be silent
    const Result answer = Ask(request, absl::Seconds(60));
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(answer->body(), "[1]");
    EXPECT_EQ(max_wait_ms, 0);  // nothing would have come to it
  }
  EXPECT_EQ(standby.queries(), 2);
}

TEST_F(WorkerQueryRouterTest, AStandbyThatComesTakesTheQuestionsOfOneThatStandsStill) {
  FakeWorker live(Socket("live"), StandingStill());
  live.StandStill(true);
  SetLive(live.View(1, WorkerReportOf(Report(v1::RUNNING, 100))));
  MakeRouter();
  auto result = Start(Sql(), absl::Seconds(60));
  while (live.statuses() < 2) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  FakeWorker standby(Socket("standby"), Answering(Report(v1::RUNNING, 80), "[2]"));
  SetStandby(standby.View(2, WorkerReportOf(Report(v1::RUNNING, 80))));
  const Result answer = result.get();
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->body(), "[2]");
}

// Which it got while the live worker was down.
TEST_F(WorkerQueryRouterTest, AStandbyThatStandsStillLosesItsQuestionToTheLiveWorker) {
  FakeWorker standby(Socket("standby"), StandingStill());
  standby.StandStill(true);
  SetStandby(standby.View(2, WorkerReportOf(Report(v1::RUNNING, 80))));
  MakeRouter();
  auto result = Start(Sql(), absl::Seconds(60));
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (standby.queries() == 0 && absl::Now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  FakeWorker live(Socket("live"), Answering(Report(v1::RUNNING, 100), "[1]"));
  SetLive(live.View(1, WorkerReportOf(Report(v1::RUNNING, 100))));
  const Result answer = result.get();
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->body(), "[1]");
  // The past is the standby's, but for that it is known now.
  v1::QueryRequest past = Sql();
  past.mutable_consistency()->set_as_of_position(90);
  EXPECT_EQ(Ask(past)->body(), "[1]");
  EXPECT_EQ(standby.queries(), 1);
}

// Busy until it was asked twice whether it is there. It says so at once, unless the machine has no
// time for it: then it is silent by right, and another question shows whether it is kept.
TEST_F(WorkerQueryRouterTest, ALiveWorkerThatIsBusyKeepsItsQuestion) {
  FakeWorker* worker = nullptr;
  std::atomic<int> asked{0};
  FakeWorker live(Socket("live"), [&](const wv1::WorkerQueryRequest& request,
                                      grpc::ServerContext& context, FakeWorker::Writer& writer) {
    while (worker->statuses() < asked + 2 && !context.IsCancelled()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return Answering(Report(v1::RUNNING, 100), "[1]")(request, context, writer);
  });
  worker = &live;
  FakeWorker standby(Socket("standby"), Answering(Report(v1::RUNNING, 80), "[2]"));
  SetStandby(standby.View(2, WorkerReportOf(Report(v1::RUNNING, 80))));
  MakeRouter();
  std::string body;
  for (int round = 0; round < 5 && body != "[1]"; ++round) {
    SetLive(live.View(1, WorkerReportOf(Report(v1::RUNNING, 100))));
    asked = live.statuses();
    const Result answer = Ask(Sql(), absl::Seconds(60));
    ASSERT_TRUE(answer.ok()) << answer.status();
    body = answer->body();
  }
  EXPECT_EQ(body, "[1]");
}

// Its call's deadline passes when it is known to be silent.
TEST_F(WorkerQueryRouterTest, StandingStillIsNotTheQuestionsFault) {
  const auto silent = std::make_shared<std::atomic<bool>>(false);
  on_unanswered_ = [silent] { *silent = true; };
  FakeWorker live(Socket("live"),
                  [silent](const wv1::WorkerQueryRequest& /*request*/, grpc::ServerContext& context,
                           FakeWorker::Writer& /*writer*/) {
                    while (!*silent && !context.IsCancelled()) {
                      std::this_thread::sleep_for(std::chrono::milliseconds(1));
                    }
                    return grpc::Status(grpc::StatusCode::DEADLINE_EXCEEDED, "");
                  });
  live.StandStill(true);
  SetLive(live.View(1, WorkerReportOf(Report(v1::RUNNING, 100))));
  MakeRouter();
  const Result answer = Ask(Sql(), absl::Seconds(60));
  EXPECT_TRUE(absl::IsUnavailable(answer.status())) << answer.status();
  EXPECT_EQ(ErrorReason(answer.status()), "WORKER_LOST");
}

TEST_F(WorkerQueryRouterTest, AStandbyThatHasEverythingIsNotStale) {
  FakeWorker standby(Socket("standby"), Answering(Report(v1::RUNNING, 100), "[2]"));
  SetStandby(standby.View(2, WorkerReportOf(Report(v1::RUNNING, 100))));
  MakeRouter();
  const auto answer = Ask(Sql());
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->meta().slices(0).source(), v1::STANDBY);
  EXPECT_FALSE(answer->meta().stale());
}

TEST_F(WorkerQueryRouterTest, ASnapshotOfAReplacedGenerationIsStaleAlsoAtTheHead) {
  wv1::SliceReport replaced = Report(v1::RUNNING, 100);
  replaced.set_generation(1);
  domain_->slices["volume"].set_serving_generation(2);
  FakeWorker standby(Socket("standby"), Answering(replaced, "[2]"));
  SetStandby(standby.View(2, WorkerReportOf(replaced)));
  MakeRouter();
  const auto answer = Ask(Sql());
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->meta().slices(0).generation(), 1);
  EXPECT_EQ(answer->meta().slices(0).stale_reason(), v1::WORKER_DOWN);
}

TEST_F(WorkerQueryRouterTest, AFrozenSliceIsStaleAlsoAtTheHead) {
  domain_->slices["volume"].mutable_desired()->set_mode(v1::DesiredState::FREEZE);
  domain_->slices["volume"].mutable_desired()->mutable_since()->set_seconds(42);
  FakeWorker standby(Socket("standby"), Answering(Report(v1::RUNNING, 100), "[2]"));
  SetStandby(standby.View(2, WorkerReportOf(Report(v1::RUNNING, 100))));
  MakeRouter();
  const auto answer = Ask(Sql());
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->meta().slices(0).stale_reason(), v1::SLICE_FROZEN);
  EXPECT_EQ(answer->meta().slices(0).stale_since().seconds(), 42);
  EXPECT_EQ(answer->meta().slices(0).state(), v1::FROZEN);
}

TEST_F(WorkerQueryRouterTest, TextThatIsNotUtf8IsRefusedAtOnce) {
  FakeWorker live(Socket("live"), Answering(Report(v1::RUNNING, 90), "[1]"));
  SetLive(live.View(1, WorkerReportOf(Report(v1::RUNNING, 90))));
  MakeRouter();
  v1::QueryRequest sql = Sql();
  sql.set_sql("SELECT '\xff'");
  v1::QueryRequest name = Sql();
  (*name.mutable_parameters())["\xff"].set_integer(1);
  v1::QueryRequest value = Sql();
  (*value.mutable_parameters())["a"].set_text("\xff\xfe");
  v1::QueryRequest slice;
  slice.set_domain("payments");
  slice.mutable_select()->set_slice("vol\xffume");
  v1::QueryRequest filter = slice;
  filter.mutable_select()->set_slice("volume");
  filter.mutable_select()->add_filters()->add_values()->set_text("\xc3");
  for (const auto& request : {sql, name, value, slice, filter}) {
    const auto answer = Ask(request);
    EXPECT_EQ(answer.status().code(), absl::StatusCode::kInvalidArgument) << answer.status();
    EXPECT_EQ(ErrorReason(answer.status()), "PARAMETER_INVALID");
  }
  EXPECT_EQ(live.queries(), 0);
  (*value.mutable_parameters())["a"].set_blob("\xff\xfe");
  EXPECT_TRUE(Ask(value).ok());
}

TEST_F(WorkerQueryRouterTest, WaitsWhileBothAreDownAndAnswersWhenOneComesUp) {
  MakeRouter();
  auto result = Start(Sql(), absl::Seconds(60));
  EXPECT_EQ(result.wait_for(std::chrono::milliseconds(100)), std::future_status::timeout);
  FakeWorker live(Socket("live"), Answering(Report(v1::RUNNING, 100), "[3]"));
  SetLive(live.View(3, WorkerReportOf(Report(v1::RUNNING, 100))));
  const auto answer = result.get();
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->body(), "[3]");
}

TEST_F(WorkerQueryRouterTest, SaysWorkerLostBeforeTheDeadline) {
  MakeRouter();
  // The machine may be late by more than the margin now and then.
  bool in_time = false;
  for (int round = 0; round < 10 && !in_time; ++round) {
    const absl::Time start = absl::Now();
    const auto answer = Ask(Sql(), absl::Seconds(1));
    in_time = absl::Now() - start < absl::Seconds(1);
    EXPECT_EQ(ErrorReason(answer.status()), "WORKER_LOST");
    EXPECT_TRUE(absl::IsUnavailable(answer.status()));
  }
  EXPECT_TRUE(in_time);
}

TEST_F(WorkerQueryRouterTest, AQuestionWhoseCallerHasGoneEndsInItsWorkerToo) {
  std::promise<void> asked;
  std::promise<void> ended;
  std::atomic<bool> is_first{true};
  FakeWorker live(Socket("live"), [&](const wv1::WorkerQueryRequest& request,
                                      grpc::ServerContext& context, FakeWorker::Writer& writer) {
    if (!is_first.exchange(false)) {
      return Answering(Report(v1::RUNNING, 100), "[1]")(request, context, writer);
    }
    asked.set_value();
    const grpc::Status status = StandingStill()(request, context, writer);
    ended.set_value();
    return status;
  });
  FakeWorker standby(Socket("standby"), Answering(Report(v1::RUNNING, 90), "[2]"));
  SetLive(live.View(1, WorkerReportOf(Report(v1::RUNNING, 100))));
  SetStandby(standby.View(2, WorkerReportOf(Report(v1::RUNNING, 90))));
  QueryRouterLimits limits;
  limits.in_flight_max = 1;
  MakeRouter(limits);
  auto result = Start(Sql(), absl::Minutes(10));
  asked.get_future().wait();
  call_off_();
  EXPECT_TRUE(absl::IsCancelled(result.get().status()));
  ended.get_future().wait();
  EXPECT_TRUE(router_->WaitEmpty(SteadyNow() + absl::Seconds(60)));
  call_off_();  // does nothing any more
  EXPECT_EQ(standby.queries(), 0);
  // Its place is free, and the worker has lost nothing by it.
  const Result next = Ask(Sql());
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_EQ(next->body(), "[1]");
}

TEST_F(WorkerQueryRouterTest, AQuestionThatWaitsForAWorkerEndsWithItsCaller) {
  MakeRouter();
  v1::QueryRequest request;
  request.set_domain("payments");
  request.mutable_select()->set_slice("volume");
  auto result = Start(request, absl::Minutes(10));
  call_off_();
  ASSERT_EQ(result.wait_for(std::chrono::seconds(60)), std::future_status::ready);
  EXPECT_TRUE(absl::IsCancelled(result.get().status()));
  EXPECT_TRUE(router_->WaitEmpty(SteadyNow() + absl::Seconds(60)));
  MutexLock lock(mutex_);
  EXPECT_TRUE(measured_.empty()) << "no failure of the slice";
}

TEST_F(WorkerQueryRouterTest, FailsAtOnceWhenBothAreSuspended) {
  WorkerView suspended;
  suspended.suspended = true;
  SetLive(suspended);
  SetStandby(suspended);
  MakeRouter();
  const absl::Time start = absl::Now();
  EXPECT_EQ(ErrorReason(Ask(Sql(), absl::Seconds(60)).status()), "WORKER_LOST");
  EXPECT_LT(absl::Now() - start, absl::Seconds(50));
}

TEST_F(WorkerQueryRouterTest, ALiveWorkerThatRestoresLeavesTheAnswerToTheStandby) {
  FakeWorker live(Socket("live"), Answering(Report(v1::STARTING, 10), "[1]"));
  FakeWorker standby(Socket("standby"), Answering(Report(v1::RUNNING, 80), "[2]"));
  SetLive(live.View(1, WorkerReportOf(Report(v1::STARTING, 10))));
  SetStandby(standby.View(2, WorkerReportOf(Report(v1::RUNNING, 80))));
  MakeRouter();
  const auto answer = Ask(Sql());
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->body(), "[2]");
}

TEST_F(WorkerQueryRouterTest, NoSnapshotYetIsPassedOnWhenTheLiveWorkerSaysIt) {
  const absl::Status not_yet =
      MakeError(absl::StatusCode::kUnavailable, "building, 40 %", "NO_SNAPSHOT_YET");
  FakeWorker live(Socket("live"), Failing(not_yet));
  FakeWorker standby(Socket("standby"), Failing(not_yet));
  SetLive(live.View(1, WorkerReportOf(Report(v1::BACKFILLING, 10))));
  SetStandby(standby.View(2, WorkerReportOf(Report(v1::BACKFILLING, 0))));
  MakeRouter();
  EXPECT_EQ(ErrorReason(Ask(Sql()).status()), "NO_SNAPSHOT_YET");
  EXPECT_EQ(live.queries(), 1);
  EXPECT_EQ(standby.queries(), 1);
}

// Both workers were killed and the live one was back first, but the newest state on disk is
// damaged.
TEST_F(WorkerQueryRouterTest, AStandbyThatStartsIsWaitedForWhenTheLiveWorkerHasNoState) {
  std::promise<void> asked;
  FakeWorker live(Socket("live"),
                  [&](const wv1::WorkerQueryRequest&, grpc::ServerContext&, FakeWorker::Writer&) {
                    asked.set_value();
                    return ToGrpcStatus(MakeError(absl::StatusCode::kUnavailable, "building, 0 %",
                                                  "NO_SNAPSHOT_YET"));
                  });
  SetLive(live.View(1, WorkerReportOf(Report(v1::BACKFILLING, 0))));
  MakeRouter();
  auto result = Start(Sql(), absl::Seconds(60));
  asked.get_future().wait();
  EXPECT_EQ(result.wait_for(std::chrono::milliseconds(100)), std::future_status::timeout);
  FakeWorker standby(Socket("standby"), Answering(Report(v1::RUNNING, 80), "[2]"));
  SetStandby(standby.View(2, WorkerReportOf(Report(v1::RUNNING, 80))));
  const Result answer = result.get();
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->body(), "[2]");
  EXPECT_EQ(live.queries(), 1);
}

TEST_F(WorkerQueryRouterTest, NoSnapshotYetIsPassedOnWhenNoStandbyComes) {
  FakeWorker live(Socket("live"), Failing(MakeError(absl::StatusCode::kUnavailable, "building",
                                                    "NO_SNAPSHOT_YET")));
  SetLive(live.View(1, WorkerReportOf(Report(v1::BACKFILLING, 0))));
  WorkerView suspended;
  suspended.suspended = true;
  SetStandby(suspended);
  MakeRouter();
  v1::QueryRequest request = Sql();
  request.mutable_consistency()->mutable_max_wait()->set_seconds(50);
  const absl::Time start = absl::Now();
  EXPECT_EQ(ErrorReason(Ask(request, absl::Seconds(60)).status()), "NO_SNAPSHOT_YET");
  EXPECT_LT(absl::Now() - start, absl::Seconds(45));
}

TEST_F(WorkerQueryRouterTest, AnErrorOfTheQueryIsNotTriedElsewhere) {
  FakeWorker live(Socket("live"), Failing(MakeError(absl::StatusCode::kInvalidArgument,
                                                    "no column x", "SQL_UNKNOWN_COLUMN")));
  FakeWorker standby(Socket("standby"), Answering(Report(v1::RUNNING, 80), "[2]"));
  SetLive(live.View(1, WorkerReportOf(Report(v1::RUNNING, 100))));
  SetStandby(standby.View(2, WorkerReportOf(Report(v1::RUNNING, 80))));
  MakeRouter();
  EXPECT_EQ(ErrorReason(Ask(Sql()).status()), "SQL_UNKNOWN_COLUMN");
  EXPECT_EQ(standby.queries(), 0);
}

absl::Status NoMemory() {
  return MakeError(absl::StatusCode::kResourceExhausted, "out of memory", "QUERY_MEMORY_LIMIT");
}

TEST_F(WorkerQueryRouterTest, WhatTheLiveWorkerHasNoMemoryForIsAskedOfTheStandbyOnce) {
  FakeWorker live(Socket("live"), Failing(NoMemory()));
  FakeWorker standby(Socket("standby"), Answering(Report(v1::RUNNING, 80), "[2]"));
  SetLive(live.View(1, WorkerReportOf(Report(v1::RUNNING, 100))));
  SetStandby(standby.View(2, WorkerReportOf(Report(v1::RUNNING, 80))));
  MakeRouter();
  const auto answer = Ask(Sql());
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->body(), "[2]");
  EXPECT_EQ(answer->meta().slices(0).source(), v1::STANDBY);
  // One that is hungry itself hears so.
  FakeWorker poor(Socket("poor"), Failing(NoMemory()));
  SetStandby(poor.View(3, WorkerReportOf(Report(v1::RUNNING, 80))));
  EXPECT_EQ(ErrorReason(Ask(Sql()).status()), "QUERY_MEMORY_LIMIT");
  EXPECT_EQ(live.queries(), 2);
  EXPECT_EQ(poor.queries(), 1);
  // And it leaves the live worker alone from then on.
  EXPECT_EQ(ErrorReason(Ask(Sql()).status()), "QUERY_MEMORY_LIMIT");
  EXPECT_EQ(live.queries(), 2);
  EXPECT_EQ(poor.queries(), 2);
}

TEST_F(WorkerQueryRouterTest, AStandbyThatAloneWasAskedMakesNoQueryHungry) {
  FakeWorker live(Socket("live"), Answering(Report(v1::RUNNING, 100), "[1]"));
  FakeWorker poor(Socket("poor"), Failing(NoMemory()));
  SetLive(live.View(1, WorkerReportOf(Report(v1::RUNNING, 100))));
  SetStandby(poor.View(2, WorkerReportOf(Report(v1::RUNNING, 80))));
  MakeRouter();
  auto past = Sql();
  past.mutable_consistency()->set_as_of_position(50);
  EXPECT_EQ(ErrorReason(Ask(past).status()), "QUERY_MEMORY_LIMIT");
  EXPECT_EQ(poor.queries(), 1);
  const auto answer = Ask(Sql());
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->body(), "[1]");
}

TEST_F(WorkerQueryRouterTest, AStandbyThatRestsIsWokenForWhatTheLiveWorkerHasNoMemoryFor) {
  FakeWorker live(Socket("live"), Failing(NoMemory()));
  FakeWorker standby(Socket("standby"), Answering(Report(v1::RUNNING, 80), "[2]"));
  SetLive(live.View(1, WorkerReportOf(Report(v1::RUNNING, 100))));
  WorkerView resting;
  resting.status.set_state("hibernating");
  SetStandby(resting);
  std::promise<void> unanswered;
  std::atomic<bool> said = false;  // once or more often
  on_unanswered_ = [&] {
    if (!said.exchange(true)) unanswered.set_value();
  };
  MakeRouter();
  auto answer = Start(Sql(), absl::Seconds(60));
  ASSERT_EQ(unanswered.get_future().wait_for(std::chrono::seconds(60)), std::future_status::ready);
  SetStandby(standby.View(2, WorkerReportOf(Report(v1::RUNNING, 80))));
  EXPECT_EQ(answer.get()->body(), "[2]");
}

// Of a daemon that starts, before its supervisor has heard of the domain.
TEST_F(WorkerQueryRouterTest, WorkersThatComeToRestAfterAQuestionAreWokenForIt) {
  std::atomic<int> unanswered = 0;
  std::promise<void> again;
  on_unanswered_ = [&] {
    if (++unanswered == 2) again.set_value();
  };
  MakeRouter();
  auto answer = Start(Sql(), absl::Seconds(60));
  while (unanswered == 0) absl::SleepFor(absl::Milliseconds(1));
  WorkerView resting;
  resting.status.set_state("hibernating");
  SetStandby(resting);
  ASSERT_EQ(again.get_future().wait_for(std::chrono::seconds(60)), std::future_status::ready);
  FakeWorker standby(Socket("standby"), Answering(Report(v1::RUNNING, 80), "[2]"));
  SetStandby(standby.View(2, WorkerReportOf(Report(v1::RUNNING, 80))));
  EXPECT_EQ(answer.get()->body(), "[2]");
}

TEST_F(WorkerQueryRouterTest, AWorkerThatBrokeUnderAQuestionAndLivesIsAskedAgain) {
  std::atomic<int> asked = 0;
  const auto fine = Answering(Report(v1::RUNNING, 100), "[1]");
  FakeWorker live(Socket("live"), [&](const wv1::WorkerQueryRequest& request,
                                      grpc::ServerContext& context, FakeWorker::Writer& writer) {
    if (++asked == 1) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "a broken connection");
    return fine(request, context, writer);
  });
  SetLive(live.View(1, WorkerReportOf(Report(v1::RUNNING, 100))));
  MakeRouter();
  const Result answer = Ask(Sql());
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->body(), "[1]");
}

TEST_F(WorkerQueryRouterTest, WaitsForTheLiveWorkerWhenTheStandbyIsBehindMinPosition) {
  std::atomic<int64_t> max_wait_ms = -1;
  FakeWorker standby(Socket("standby"),
                     [&](const wv1::WorkerQueryRequest& asked, grpc::ServerContext& context,
                         FakeWorker::Writer& writer) {
                       max_wait_ms = asked.max_wait_ms();
                       return Failing(MakeError(absl::StatusCode::kFailedPrecondition, "at 80",
                                                "POSITION_UNREACHABLE"))(asked, context, writer);
                     });
  SetStandby(standby.View(2, WorkerReportOf(Report(v1::RUNNING, 80))));
  MakeRouter();
  auto request = Sql();
  request.mutable_consistency()->set_min_position(95);
  auto result = Start(request, absl::Seconds(60));
  EXPECT_EQ(result.wait_for(std::chrono::milliseconds(100)), std::future_status::timeout);
  FakeWorker live(Socket("live"), Answering(Report(v1::RUNNING, 100), "[3]"));
  SetLive(live.View(3, WorkerReportOf(Report(v1::RUNNING, 100))));
  const auto answer = result.get();
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->body(), "[3]");
  EXPECT_EQ(max_wait_ms, 0);  // nothing would have come to it
}

TEST_F(WorkerQueryRouterTest, GivesTheStandbysReasonWhenMaxWaitIsOver) {
  FakeWorker standby(Socket("standby"), Failing(MakeError(absl::StatusCode::kFailedPrecondition,
                                                          "at 80", "POSITION_UNREACHABLE")));
  SetStandby(standby.View(2, WorkerReportOf(Report(v1::RUNNING, 80))));
  MakeRouter();
  auto request = Sql();
  request.mutable_consistency()->set_min_position(95);
  request.mutable_consistency()->mutable_max_wait()->set_nanos(100'000'000);
  EXPECT_EQ(ErrorReason(Ask(request).status()), "POSITION_UNREACHABLE");
}

TEST_F(WorkerQueryRouterTest, RefusesAPositionAheadOfTheCore) {
  MakeRouter();
  auto request = Sql();
  request.mutable_consistency()->set_min_position(101);
  const auto answer = Ask(request);
  EXPECT_TRUE(absl::IsOutOfRange(answer.status()));
  EXPECT_EQ(ErrorReason(answer.status()), "POSITION_AHEAD_OF_CORE");
}

TEST_F(WorkerQueryRouterTest, NamesTheDomainsThereAre) {
  MakeRouter();
  auto request = Sql();
  request.set_domain("paymnets");
  const auto answer = Ask(request);
  EXPECT_EQ(ErrorReason(answer.status()), "DOMAIN_NOT_FOUND");
  EXPECT_THAT(std::string(answer.status().message()), HasSubstr("have: payments"));
}

TEST_F(WorkerQueryRouterTest, SaysNotModifiedOnlyWhileRowsAndStateStand) {
  FakeWorker live(Socket("live"), Answering(Report(v1::RUNNING, 90), "[1]"));
  SetLive(live.View(1, WorkerReportOf(Report(v1::RUNNING, 90))));
  MakeRouter();
  auto request = Sql();
  request.set_if_none_match(Ask(Sql())->meta().etag());
  const auto unchanged = Ask(request);
  ASSERT_TRUE(unchanged.ok()) << unchanged.status();
  EXPECT_TRUE(unchanged->not_modified());
  EXPECT_EQ(unchanged->body(), "");
  EXPECT_EQ(unchanged->meta().etag(), request.if_none_match());

  // The same rows, but frozen: the client must not go on showing "stale: false".
  FakeWorker frozen(Socket("frozen"), Answering(Report(v1::FROZEN, 90), "[1]"));
  SetLive(frozen.View(2, WorkerReportOf(Report(v1::FROZEN, 90))));
  const auto changed = Ask(request);
  ASSERT_TRUE(changed.ok()) << changed.status();
  EXPECT_FALSE(changed->not_modified());
  EXPECT_EQ(changed->body(), "[1]");
  EXPECT_NE(changed->meta().etag(), request.if_none_match());
}

TEST_F(WorkerQueryRouterTest, AnswersNameExpectationsThatFailedAndAreOthersThen) {
  FakeWorker good(Socket("good"), Answering(Report(v1::RUNNING, 90), "[1]"));
  SetLive(good.View(1, WorkerReportOf(Report(v1::RUNNING, 90))));
  MakeRouter();
  auto request = Sql();
  const auto before = Ask(Sql());
  EXPECT_EQ(before->meta().slices(0).failed_expectations_size(), 0);
  request.set_if_none_match(before->meta().etag());

  // A state of the same rows was checked.
  wv1::SliceReport checked = Report(v1::RUNNING, 90);
  for (const auto status : {v1::ExpectationResult::PASSED, v1::ExpectationResult::FAILED,
                            v1::ExpectationResult::STOPPED, v1::ExpectationResult::NOT_CHECKED}) {
    auto& result = *checked.add_expectations();
    result.set_name(v1::ExpectationResult::Status_Name(status));
    result.set_severity(v1::ExpectationResult::WARN);
    result.set_status(status);
  }
  FakeWorker bad(Socket("bad"), Answering(checked, "[1]"));
  SetLive(bad.View(2, WorkerReportOf(checked)));
  const auto after = Ask(request);
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_FALSE(after->not_modified());
  EXPECT_THAT(after->meta().slices(0).failed_expectations(), ElementsAre("FAILED", "STOPPED"));
  EXPECT_FALSE(after->meta().stale());
}

TEST_F(WorkerQueryRouterTest, WhatReadsTheClockHasNoEtag) {
  FakeWorker live(Socket("live"), [](const wv1::WorkerQueryRequest&, grpc::ServerContext&,
                                     FakeWorker::Writer& writer) {
    wv1::WorkerQueryResponse part;
    *part.mutable_header()->add_slices() = Report(v1::RUNNING, 90);
    part.mutable_header()->set_varies(true);
    writer.Write(part);
    part.set_body("[1]");
    writer.Write(part);
    part.mutable_end()->set_row_count(1);
    writer.Write(part);
    return grpc::Status::OK;
  });
  SetLive(live.View(1, WorkerReportOf(Report(v1::RUNNING, 90))));
  MakeRouter();
  const auto answer = Ask(Sql());
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->meta().etag(), "");
  EXPECT_EQ(answer->body(), "[1]");
}

TEST_F(WorkerQueryRouterTest, AnEtagOfAnotherQuestionNeverMatches) {
  FakeWorker live(Socket("live"), Answering(Report(v1::RUNNING, 90), "[1]"));
  SetLive(live.View(1, WorkerReportOf(Report(v1::RUNNING, 90))));
  MakeRouter();
  auto other = Sql();
  other.set_sql("SELECT 1 FROM volume");
  other.set_if_none_match(Ask(Sql())->meta().etag());
  const auto answer = Ask(other);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_FALSE(answer->not_modified());
}

TEST_F(WorkerQueryRouterTest, BoundsTheQuestionsOfADomain) {
  QueryRouterLimits limits;
  limits.in_flight_max = 1;
  MakeRouter(limits);
  auto waiting = Start(Sql(), absl::Seconds(60));
  EXPECT_EQ(ErrorReason(Ask(Sql()).status()), "TOO_MANY_QUERIES");
  router_->Drain();
  EXPECT_EQ(ErrorReason(waiting.get().status()), "SERVER_DRAINING");
}

TEST_F(WorkerQueryRouterTest, BoundsTheBytesOfAnAnswer) {
  FakeWorker live(Socket("live"), Answering(Report(v1::RUNNING, 90), std::string(1 << 20, 'x')));
  SetLive(live.View(1, WorkerReportOf(Report(v1::RUNNING, 90))));
  MakeRouter();
  bytes_max_ = 1000;
  EXPECT_EQ(ErrorReason(Ask(Sql()).status()), "RESULT_TOO_LARGE");
  EXPECT_EQ(router_->answer_bytes(), 0);
}

TEST_F(WorkerQueryRouterTest, AnAnswerAsLargeAsItsDomainsLimitIsGivenAndALargerOneToldSo) {
  std::atomic<int> bytes{1 << 20};
  FakeWorker live(Socket("live"), [&](const wv1::WorkerQueryRequest& request,
                                      grpc::ServerContext& context, FakeWorker::Writer& writer) {
    return Answering(Report(v1::RUNNING, 90), std::string(bytes, 'x'))(request, context, writer);
  });
  SetLive(live.View(1, WorkerReportOf(Report(v1::RUNNING, 90))));
  QueryRouterLimits limits;
  limits.answers.domain_bytes_max = 1 << 20;
  MakeRouter(limits);
  const auto fits = Ask(Sql());
  EXPECT_TRUE(fits.ok()) << fits.status();
  bytes = (1 << 20) + 1;
  const absl::Status too_large = Ask(Sql()).status();
  EXPECT_EQ(ErrorReason(too_large), "RESULT_TOO_LARGE");
  EXPECT_THAT(std::string(too_large.message()), HasSubstr("readers.domain_answer_bytes_max"));
}

// What a client does not take stands in the way of its domain's other large answers only, until it
// is gone.
TEST_F(WorkerQueryRouterTest, BoundsTheBytesOfAllAnswersThatAreBeingRead) {
  std::atomic<int> bytes{1 << 20};
  FakeWorker live(Socket("live"), [&](const wv1::WorkerQueryRequest& request,
                                      grpc::ServerContext& context, FakeWorker::Writer& writer) {
    return Answering(Report(v1::RUNNING, 90), std::string(bytes, 'x'))(request, context, writer);
  });
  SetLive(live.View(1, WorkerReportOf(Report(v1::RUNNING, 90))));
  QueryRouterLimits limits;
  limits.answers.domain_bytes_max = 3 << 20;
  MakeRouter(limits);
  keeps_holds_ = true;
  EXPECT_TRUE(Ask(Sql()).ok());
  EXPECT_TRUE(Ask(Sql()).ok());
  const int64_t two = router_->answer_bytes();
  EXPECT_GE(two, 2 << 20);
  const absl::Status refused = Ask(Sql()).status();
  EXPECT_EQ(ErrorReason(refused), "TOO_MANY_QUERIES");
  EXPECT_THAT(std::string(refused.message()), HasSubstr("answers of domain payments"));
  EXPECT_EQ(router_->answer_bytes(), two);
  bytes = 1000;
  EXPECT_TRUE(Ask(Sql()).ok()) << "small ones go on";
  bytes = 1 << 20;
  {
    const MutexLock lock(mutex_);
    holds_.clear();
  }
  EXPECT_EQ(router_->answer_bytes(), 0);
  EXPECT_TRUE(Ask(Sql()).ok());
}

TEST(AnswerBudgetTest, BoundsEachDomainAndAllAndKeepsALittleForSmallOnes) {
  constexpr int64_t kMiB = 1 << 20;
  AnswerBudget budget({4 * kMiB, 3 * kMiB});
  auto noisy = budget.Open("noisy");
  const auto grow = [](const std::shared_ptr<AnswerBudget::Share>& share, int64_t bytes) {
    return share->Grow(bytes, bytes).status();
  };
  EXPECT_TRUE(grow(noisy, kMiB).ok());
  EXPECT_TRUE(grow(noisy, 3 * kMiB).ok());
  EXPECT_TRUE(grow(noisy, kMiB).ok()) << "it has as much";
  EXPECT_EQ(ErrorReason(grow(budget.Open("noisy"), kMiB + 1)), "TOO_MANY_QUERIES");
  EXPECT_EQ(budget.bytes(), 3 * kMiB);
  auto other = budget.Open("other");
  EXPECT_TRUE(grow(other, kMiB).ok());
  const absl::Status all = grow(other, 2 * kMiB);
  EXPECT_EQ(ErrorReason(all), "TOO_MANY_QUERIES");
  EXPECT_THAT(std::string(all.message()), HasSubstr("of all domains"));

  // A sixteenth more of each, for what is small.
  std::vector<std::shared_ptr<AnswerBudget::Share>> small;
  absl::Status last;
  while (last.ok()) {
    small.push_back(budget.Open("noisy"));
    last = grow(small.back(), AnswerBudget::kSmallBytes);
  }
  EXPECT_EQ(small.size(), 1 + 3 * kMiB / 16 / AnswerBudget::kSmallBytes);
  EXPECT_TRUE(grow(budget.Open("other"), 1000).ok());

  noisy.reset();
  other.reset();
  small.clear();
  EXPECT_EQ(budget.bytes(), 0);
  EXPECT_TRUE(grow(budget.Open("noisy"), 3 * kMiB).ok());
}

TEST(AnswerBudgetTest, WhatNeverFitsIsToldWithItsLimit) {
  AnswerBudget budget({1000 << 10, 600 << 10});
  auto share = budget.Open("noisy");
  EXPECT_EQ(share->Grow(500 << 10, 700 << 10).value(), 600 << 10) << "as far as there is room";
  const absl::Status of_domain = share->Grow((600 << 10) + 1, 700 << 10).status();
  EXPECT_EQ(ErrorReason(of_domain), "RESULT_TOO_LARGE");
  EXPECT_THAT(std::string(of_domain.message()), HasSubstr("readers.domain_answer_bytes_max"));
  EXPECT_EQ(budget.bytes(), 600 << 10) << "as it was";

  AnswerBudget small({600 << 10, 1000 << 10});
  const absl::Status of_all = small.Open("noisy")->Grow((600 << 10) + 1, 700 << 10).status();
  EXPECT_EQ(ErrorReason(of_all), "RESULT_TOO_LARGE");
  EXPECT_THAT(std::string(of_all.message()), HasSubstr("readers.answer_bytes_max"));
}

TEST_F(WorkerQueryRouterTest, StopsAskingAQueryUnderWhichWorkersDie) {
  FakeWorker live(Socket("live"), Failing(absl::InternalError("broken")));
  SetLive(live.View(1, WorkerReportOf(Report(v1::RUNNING, 100))));
  SetStandby(live.View(2, WorkerReportOf(Report(v1::RUNNING, 100))));
  QueryRouterLimits limits;
  limits.deaths_max = 2;
  MakeRouter(limits);
  EXPECT_EQ(ErrorReason(Ask(Sql()).status()), "QUERY_KILLED");
  EXPECT_EQ(live.queries(), 2);
}

// That no connection to one and the same worker holds is not the query's fault.
TEST_F(WorkerQueryRouterTest, ConnectionsThatBreakAreNotWorkersThatEnd) {
  FakeWorker live(Socket("live"), Failing(absl::UnavailableError("a broken connection")));
  SetLive(live.View(1, WorkerReportOf(Report(v1::RUNNING, 100))));
  QueryRouterLimits limits;
  limits.deaths_max = 3;
  limits.ask_again_after = absl::Milliseconds(1);
  MakeRouter(limits);
  const absl::Status error = Ask(Sql()).status();
  EXPECT_TRUE(absl::IsUnavailable(error)) << error;
  EXPECT_EQ(ErrorReason(error), "WORKER_LOST");
  EXPECT_EQ(live.queries(), 3);
}

// Whatever it says when it is asked how it is.
TEST_F(WorkerQueryRouterTest, AWorkerThatBreaksEveryCallIsTold) {
  FakeWorker live(Socket("live"), Failing(absl::InternalError("broken")));
  FakeWorker standby(Socket("standby"), Answering(Report(v1::RUNNING, 90), "[2]"));
  SetLive(live.View(1, WorkerReportOf(Report(v1::RUNNING, 100))));
  SetStandby(standby.View(2, WorkerReportOf(Report(v1::RUNNING, 90))));
  std::promise<int64_t> broken;
  on_broken_ = [&](const std::string& domain, int64_t incarnation) {
    EXPECT_EQ(domain, "payments");
    broken.set_value(incarnation);
  };
  MakeRouter();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Ask(Sql())->body(), "[2]");
  auto told = broken.get_future();
  ASSERT_EQ(told.wait_for(std::chrono::seconds(60)), std::future_status::ready);
  EXPECT_EQ(told.get(), 1);
  EXPECT_EQ(live.queries(), 4) << "the last of them of no client's";
  router_.reset();
}

TEST_F(WorkerQueryRouterTest, AWorkerThatBreaksCallsNowAndThenOrSomeOnlyIsNotBroken) {
  std::atomic<int> calls{0};
  FakeWorker live(Socket("live"), [&](const wv1::WorkerQueryRequest& request,
                                      grpc::ServerContext& context, FakeWorker::Writer& writer) {
    const bool is_probe = request.sql() == "SELECT 1";
    const bool breaks = ++calls > 4 || calls % 2 == 0;  // in turns, and then each but the probe
    if (breaks && !is_probe) return grpc::Status(grpc::StatusCode::INTERNAL, "broken");
    return Answering(Report(v1::RUNNING, 100), "[1]")(request, context, writer);
  });
  FakeWorker standby(Socket("standby"), Answering(Report(v1::RUNNING, 90), "[2]"));
  SetLive(live.View(1, WorkerReportOf(Report(v1::RUNNING, 100))));
  SetStandby(standby.View(2, WorkerReportOf(Report(v1::RUNNING, 90))));
  std::atomic<bool> broken{false};
  on_broken_ = [&](const std::string&, int64_t) { broken = true; };
  MakeRouter();
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(Ask(Sql()).ok());
  EXPECT_TRUE(router_->WaitEmpty(SteadyNow() + absl::Seconds(60)));
  EXPECT_GT(calls, 10) << "it was probed";
  EXPECT_FALSE(broken);
}

// A process that speaks anything but the protocol: each connection gets these bytes.
class GarbageWorker {
 public:
  GarbageWorker(const std::string& socket, std::string bytes) : bytes_(std::move(bytes)) {
    fd_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, socket.c_str(), sizeof(address.sun_path) - 1);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(fd_, 8), 0);
    thread_ = std::thread([this] { Serve(); });
    client_ = std::make_shared<WorkerClient>(socket);
  }
  ~GarbageWorker() {
    shutdown(fd_, SHUT_RDWR);
    thread_.join();
    close(fd_);
  }
  GarbageWorker(const GarbageWorker&) = delete;
  GarbageWorker& operator=(const GarbageWorker&) = delete;

  WorkerView View(int64_t incarnation) const {
    WorkerView view;
    view.client = client_;
    view.incarnation = incarnation;
    view.report =
        std::make_shared<const wv1::WorkerReport>(WorkerReportOf(Report(v1::RUNNING, 100)));
    return view;
  }

 private:
  void Serve() {
    for (int peer = 0; (peer = accept(fd_, nullptr, nullptr)) >= 0;) {
      (void)!send(peer, bytes_.data(), bytes_.size(), MSG_NOSIGNAL);
      char byte = 0;
      (void)!recv(peer, &byte, 1, 0);  // it has asked
      close(peer);
    }
  }

  const std::string bytes_;
  int fd_ = -1;
  std::thread thread_;
  std::shared_ptr<WorkerClient> client_;
};

TEST_F(WorkerQueryRouterTest, AWorkerThatSendsGarbageIsNoneAndTheStandbyAnswers) {
  FakeWorker standby(Socket("standby"), Answering(Report(v1::RUNNING, 90), "[2]"));
  SetStandby(standby.View(2, WorkerReportOf(Report(v1::RUNNING, 90))));
  // Text; a frame that claims 16 MiB; half of a SETTINGS frame.
  const std::vector<std::string> garbage = {std::string(1 << 16, 'x'),
                                            std::string("\xff\xff\xff\x00\x00\x00\x00\x00\x01", 9),
                                            std::string("\x00\x00\x12\x04", 4)};
  for (size_t i = 0; i < garbage.size(); ++i) {
    const GarbageWorker live(Socket(absl::StrCat("live", i)), garbage[i]);
    SetLive(live.View(static_cast<int64_t>(10 + i)));
    MakeRouter();
    const auto answer = Ask(Sql());
    ASSERT_TRUE(answer.ok()) << i << ": " << answer.status();
    EXPECT_EQ(answer->body(), "[2]");
    EXPECT_EQ(answer->meta().slices(0).source(), v1::STANDBY);
    EXPECT_TRUE(answer->meta().stale());
    router_.reset();
  }
}

TEST_F(WorkerQueryRouterTest, AnAnswerWithoutItsEndIsNotAnAnswer) {
  FakeWorker live(Socket("live"), [](const wv1::WorkerQueryRequest&, grpc::ServerContext&,
                                     FakeWorker::Writer& writer) {
    wv1::WorkerQueryResponse part;
    *part.mutable_header()->add_slices() = Report(v1::RUNNING, 100);
    writer.Write(part);
    part.set_body("[1");
    writer.Write(part);
    return grpc::Status::OK;
  });
  FakeWorker standby(Socket("standby"), Answering(Report(v1::RUNNING, 80), "[2]"));
  SetLive(live.View(1, WorkerReportOf(Report(v1::RUNNING, 100))));
  SetStandby(standby.View(2, WorkerReportOf(Report(v1::RUNNING, 80))));
  MakeRouter();
  const auto answer = Ask(Sql());
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->body(), "[2]");
}

}  // namespace
}  // namespace icepie::server
