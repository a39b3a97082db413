#include "cli/importer.h"

#include <grpcpp/support/sync_stream.h>

#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cli/format.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "core/base/mutex.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "nlohmann/json.hpp"

namespace icepie::cli {
namespace {

using icepie::v1::AppendRecordsRequest;
using icepie::v1::AppendRecordsResponse;
using icepie::v1::Core;
using icepie::v1::Stream;
using AppendCall = grpc::ClientReaderWriterInterface<AppendRecordsRequest, AppendRecordsResponse>;

constexpr size_t kBatchesReady = 3;     // read from the file and waiting to be sent
constexpr size_t kBatchesInFlight = 8;  // sent and not yet acknowledged
constexpr absl::Duration kConnectWait = absl::Milliseconds(200);

// Batches from the thread that reads the file to the one that sends. Threads: one of each.
class BatchQueue {
 public:
  // False when the sender is gone.
  bool Push(std::unique_ptr<AppendRecordsRequest> batch) {
    MutexLock lock(mutex_);
    while (batches_.size() >= kBatchesReady && !closed_) changed_.Wait(mutex_);
    if (closed_) return false;
    batches_.push_back(std::move(batch));
    changed_.SignalAll();
    return true;
  }

  // The file's end, or the error that ended it.
  void Finish(absl::Status status) {
    MutexLock lock(mutex_);
    finished_ = true;
    status_ = std::move(status);
    changed_.SignalAll();
  }

  // Null at the end; status() then tells why.
  std::unique_ptr<AppendRecordsRequest> Pop() {
    MutexLock lock(mutex_);
    while (batches_.empty() && !finished_) changed_.Wait(mutex_);
    if (batches_.empty()) return nullptr;
    auto batch = std::move(batches_.front());
    batches_.pop_front();
    changed_.SignalAll();
    return batch;
  }

  // The sender takes no more.
  void Close() {
    MutexLock lock(mutex_);
    closed_ = true;
    changed_.SignalAll();
  }

  absl::Status status() {
    MutexLock lock(mutex_);
    return status_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::deque<std::unique_ptr<AppendRecordsRequest>> batches_ ABSL_GUARDED_BY(mutex_);
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

// Batches that are sent and not yet acknowledged, kept to be sent again after the connection was
// lost. Threads: the sender adds, the reader counts.
class SendWindow {
 public:
  // A new call begins: what it must send first, in order.
  std::vector<const AppendRecordsRequest*> Begin() {
    MutexLock lock(mutex_);
    ended_ = false;
    std::vector<const AppendRecordsRequest*> again;
    for (const auto& batch : in_flight_) again.push_back(batch.get());
    return again;
  }

  // Waits until another batch may be sent; false when the call has ended.
  bool WaitForRoom() {
    MutexLock lock(mutex_);
    while (in_flight_.size() >= kBatchesInFlight && !ended_) changed_.Wait(mutex_);
    return !ended_;
  }

  // Keeps the batch until it is acknowledged.
  const AppendRecordsRequest& Add(std::unique_ptr<AppendRecordsRequest> batch) {
    MutexLock lock(mutex_);
    in_flight_.push_back(std::move(batch));
    return *in_flight_.back();
  }

  // The first batch is acknowledged.
  void Count(const AppendRecordsResponse& answer) {
    MutexLock lock(mutex_);
    if (!in_flight_.empty()) in_flight_.pop_front();
    records_ += answer.end_position() - answer.first_position();
    end_position_ = answer.end_position();
    changed_.SignalAll();
  }

  void End() {
    MutexLock lock(mutex_);
    ended_ = true;
    changed_.SignalAll();
  }

  int64_t records() {
    MutexLock lock(mutex_);
    return records_;
  }

  int64_t end_position() {
    MutexLock lock(mutex_);
    return end_position_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::deque<std::unique_ptr<AppendRecordsRequest>> in_flight_ ABSL_GUARDED_BY(mutex_);
  int64_t records_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t end_position_ ABSL_GUARDED_BY(mutex_) = 0;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

// A daemon that restarts, or has too much to do for the moment: the same batches may be sent again.
bool MayPass(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsCancelled(status) ||
         ErrorReason(status) == "APPEND_QUEUE_FULL" ||
         absl::StartsWith(status.message(), "TOO_MANY_CALLS");
}

// Of this import, in this process: the daemon knows by it what it has stored already.
std::string NewProducerId() {
  std::random_device random;
  return absl::StrCat("import-", absl::Hex(random(), absl::kZeroPad8),
                      absl::Hex(random(), absl::kZeroPad8));
}

class Import {
 public:
  Import(Context& context, ImportRequest request)
      : context_(context),
        request_(std::move(request)),
        progress_(context.terminal, context.options.json) {}

  absl::StatusOr<int> Run() {
    ICEPIE_ASSIGN_OR_RETURN(const Stream stream, FindStream());
    request_.file.check_json = stream.format() == icepie::v1::PAYLOAD_FORMAT_JSON;
    if (!request_.resume) request_.base_offset = stream.end_offset();
    ICEPIE_RETURN_IF_ERROR(CheckBase(stream));
    const int64_t stored = stream.end_offset() - request_.base_offset;
    ICEPIE_ASSIGN_OR_RETURN(const bool complete, OpenAfter(stream, stored));
    if (complete) return NothingToDo(stream.end_offset());
    CatchInterrupts();
    const absl::Time start = absl::Now();
    ICEPIE_RETURN_IF_ERROR(Transfer(start));
    if (window_.records() == 0 && request_.resume) return NothingToDo(stream.end_offset());
    return Summary(absl::Now() - start);
  }

 private:
  absl::Status CheckBase(const Stream& stream) const {
    if (request_.base_offset <= stream.end_offset()) return absl::OkStatus();
    return absl::OutOfRangeError(absl::StrCat("--base-offset ", request_.base_offset,
                                              " is beyond the end ", stream.end_offset(),
                                              " of stream ", request_.stream));
  }

  // Opens the file behind the records that the stream already holds, `stored` if it holds no others
  // beyond the base; true when that is the whole file.
  absl::StatusOr<bool> OpenAfter(const Stream& stream, int64_t stored) {
    skipped_ = stored;
    ICEPIE_ASSIGN_OR_RETURN(std::optional<icepie::v1::Record> last, OpenAt(stored));
    if (stored == 0) return false;
    const bool complete = !last;
    if (complete) {  // others may have been appended since
      ICEPIE_ASSIGN_OR_RETURN(skipped_, source_->CountRecords());
      ICEPIE_ASSIGN_OR_RETURN(last, OpenAt(skipped_));
      if (skipped_ == 0) return true;
    }
    Client& client = context_.client();
    icepie::v1::GetRecordRequest get;
    get.mutable_stream_offset()->set_stream(request_.stream);
    get.mutable_stream_offset()->set_offset(request_.base_offset + skipped_ - 1);
    ICEPIE_ASSIGN_OR_RETURN(const icepie::v1::Record record,
                            client.Call(client.core(), &Core::StubInterface::GetRecord, get));
    if (last && IsStored(*last, record, stream)) return complete;
    return absl::FailedPreconditionError(absl::StrCat(
        "record ", FormatCount(skipped_), " of ", request_.file.path, " is not at offset ",
        get.stream_offset().offset(), " of stream ", request_.stream,
        ", so there is nothing to resume: other records were appended, or the file or what names "
        "its event time has changed; if the stream held records before the import began, say how "
        "many with --base-offset"));
  }

  // Whether `record` of the stream is what appending `sent` has made. Where the stream's paths may
  // have given it a key or an event time, only what was sent counts.
  static bool IsStored(const icepie::v1::Record& sent, const icepie::v1::Record& record,
                       const Stream& stream) {
    const bool may_get_key = !sent.has_key() && !stream.key_path().empty();
    const bool may_get_time = !sent.has_event_time() && !stream.event_time_path().empty();
    const auto micros = [](const icepie::v1::Record& of) {
      return of.event_time().seconds() * 1'000'000 + of.event_time().nanos() / 1000;
    };
    return sent.payload() == record.payload() &&
           (may_get_key || (sent.has_key() == record.has_key() && sent.key() == record.key())) &&
           (may_get_time ||
            (sent.has_event_time() == record.has_event_time() && micros(sent) == micros(record)));
  }

  // Opens the file behind its first `count` records; the last of these, if there is one.
  absl::StatusOr<std::optional<icepie::v1::Record>> OpenAt(int64_t count) {
    request_.file.skip = std::max<int64_t>(0, count - 1);
    ICEPIE_ASSIGN_OR_RETURN(source_, ImportSource::Open(request_.file));
    std::optional<icepie::v1::Record> last;
    if (count == 0) return last;
    AppendRecordsRequest batch;
    BatchLimits one;
    one.records_max = 1;
    ICEPIE_RETURN_IF_ERROR(source_->Fill(one, &batch));
    if (batch.records_size() == 1) last = batch.records(0);
    return last;
  }

  absl::StatusOr<Stream> FindStream() {
    Client& client = context_.client();
    icepie::v1::GetStreamRequest get;
    get.set_name(request_.stream);
    auto found = client.Call<Core::StubInterface, icepie::v1::GetStreamRequest, Stream>(
        client.core(), &Core::StubInterface::GetStream, get);
    if (found.ok() || found.status().code() != absl::StatusCode::kNotFound) return found;
    if (!request_.create) {
      return absl::NotFoundError(absl::StrCat(found.status().message(), "; --create makes it"));
    }
    icepie::v1::CreateStreamRequest create;
    create.set_name(request_.stream);
    create.set_format(icepie::v1::PAYLOAD_FORMAT_JSON);
    create.set_actor(context_.options.actor);
    return client.Call<Core::StubInterface, icepie::v1::CreateStreamRequest, Stream>(
        client.core(), &Core::StubInterface::CreateStream, create);
  }

  // Reads, sends and counts in three threads until the file ends, Ctrl-C or an error.
  absl::Status Transfer(absl::Time start) {
    const RateMeter meter(skipped_, start);
    std::thread file_reader([this] { ReadFile(); });
    const absl::Status sent = SendAll(meter);
    queue_.Close();
    file_reader.join();
    if (window_.records() > 0) progress_.Finish(State(meter));
    if (!sent.ok()) return WithStored(sent);
    if (absl::Status read = queue_.status(); !read.ok()) return WithStored(read);
    if (Interrupted()) return WithStored(absl::CancelledError("stopped"));
    return absl::OkStatus();
  }

  // One call after the other, each going on where the last was cut off, until the file's end, an
  // error that no repetition mends, or until nothing was acknowledged for too long.
  absl::Status SendAll(const RateMeter& meter) {
    while (true) {
      const int64_t before = window_.records();
      const absl::Time begin = SteadyNow();
      const absl::Status status = SendOverOneCall(meter);
      if (status.ok() || !MayPass(status) || Interrupted()) return status;
      if (!outage_begin_ || window_.records() > before) outage_begin_ = SteadyNow();
      if (!WaitForDaemon(*outage_begin_ + request_.retry_for, begin)) return status;
    }
  }

  absl::Status SendOverOneCall(const RateMeter& meter) {
    grpc::ClientContext call_context;  // no deadline: a large file takes its time
    std::unique_ptr<AppendCall> call = context_.client().core().StreamAppendRecords(&call_context);
    const std::vector<const AppendRecordsRequest*> again = window_.Begin();
    std::thread answer_reader([this, &call, &meter] { ReadAnswers(*call, meter); });
    SendBatches(*call, again);
    answer_reader.join();
    return context_.client().ErrorOf(call->Finish());
  }

  // False when it is `deadline`, or Ctrl-C. Not more than a few tries a second.
  bool WaitForDaemon(absl::Time deadline, absl::Time last_try) {
    if (SteadyNow() >= deadline) return false;
    if (!told_outage_) {
      told_outage_ = true;
      progress_.End();
      if (!context_.options.json) {
        context_.err() << "icepie: the daemon does not take records; trying again for "
                       << FormatElapsed(request_.retry_for) << '\n';
      }
    }
    while (!Interrupted() && SteadyNow() < deadline) {
      const bool connected = context_.client().WaitForConnection(kConnectWait);
      const absl::Duration early = last_try + kConnectWait - SteadyNow();
      if (connected && early <= absl::ZeroDuration()) return true;
      absl::SleepFor(std::clamp(early, absl::ZeroDuration(), kConnectWait));
    }
    return false;
  }

  void ReadFile() {
    int64_t end_offset = request_.base_offset + skipped_;
    for (int64_t sequence = 0; !Interrupted(); ++sequence) {
      auto batch = std::make_unique<AppendRecordsRequest>();
      const absl::Status status = source_->Fill(request_.batch, batch.get());
      Complete(end_offset, sequence, batch.get());
      end_offset += batch->records_size();
      total_ = source_->TotalRecords();
      const bool ended = !status.ok() || batch->records_size() == 0;
      if (batch->records_size() > 0 && !queue_.Push(std::move(batch))) break;
      if (!ended) continue;
      queue_.Finish(status);
      return;
    }
    queue_.Finish(absl::OkStatus());
  }

  void Complete(int64_t end_offset, int64_t sequence, AppendRecordsRequest* batch) const {
    for (auto& record : *batch->mutable_records()) record.set_stream(request_.stream);
    batch->mutable_producer()->set_producer_id(producer_id_);
    batch->mutable_producer()->set_sequence(sequence);
    if (!request_.resume) return;
    auto* condition = batch->add_conditions();
    condition->set_stream(request_.stream);
    condition->set_end_offset(end_offset);
  }

  void SendBatches(AppendCall& call, const std::vector<const AppendRecordsRequest*>& again) {
    for (const AppendRecordsRequest* batch : again) {
      if (!call.Write(*batch)) return;
    }
    while (window_.WaitForRoom()) {
      auto batch = queue_.Pop();
      if (!batch) {
        call.WritesDone();
        return;
      }
      if (!call.Write(window_.Add(std::move(batch)))) return;
    }
  }

  void ReadAnswers(AppendCall& call, const RateMeter& meter) {
    AppendRecordsResponse answer;
    while (call.Read(&answer)) {
      window_.Count(answer);
      progress_.Show(State(meter), absl::Now());
    }
    window_.End();
  }

  ProgressState State(const RateMeter& meter) {
    ProgressState state;
    state.label = absl::StrCat("import ", request_.stream);
    state.done = skipped_ + window_.records();
    state.total = total_;
    meter.Fill(&state, absl::Now());
    return state;
  }

  absl::Status WithStored(const absl::Status& status) {
    const int64_t stored = window_.records();
    std::string message(status.message());
    const auto detail = GetErrorDetail(status);
    // The daemon names the record by its place in the batch, which nobody sees.
    if (detail && !detail->violations.empty()) {
      absl::StrAppend(&message, " (in the batch after record ", FormatCount(skipped_ + stored),
                      " of ", request_.file.path, ")");
    }
    absl::StrAppend(&message, "; ", FormatCounted(stored, "record"), " stored");
    if (request_.resume || stored > 0) {
      absl::StrAppend(&message, "; to go on, repeat the command with --resume");
      if (request_.base_offset > 0) {
        absl::StrAppend(&message, " --base-offset ", request_.base_offset);
      }
    }
    return MakeError(status.code(), message, detail.value_or(ErrorDetail{}));
  }

  int NothingToDo(int64_t end_offset) const {
    if (context_.options.json) {
      context_.out() << nlohmann::json({{"stream", request_.stream},
                                        {"records", 0},
                                        {"end_offset", end_offset}})
                            .dump()
                     << '\n';
      return kExitDone;
    }
    context_.out() << "nothing to do: stream " << request_.stream << " holds "
                   << FormatCounted(end_offset, "record") << ", all of " << request_.file.path
                   << '\n';
    return kExitDone;
  }

  int Summary(absl::Duration elapsed) {
    const int64_t records = window_.records();
    const double seconds = std::max(absl::ToDoubleSeconds(elapsed), 1e-6);
    if (context_.options.json) {
      context_.out() << "{\"stream\": \"" << request_.stream << "\", \"records\": " << records
                     << ", \"end_position\": " << window_.end_position()
                     << ", \"seconds\": " << seconds << "}\n";
      return kExitDone;
    }
    context_.out() << FormatCounted(records, "record") << " into " << request_.stream << " in "
                   << FormatElapsed(elapsed) << " · "
                   << FormatRate(static_cast<double>(records) / seconds) << " · head position "
                   << FormatCount(window_.end_position()) << '\n';
    return kExitDone;
  }

  Context& context_;
  ImportRequest request_;
  Progress progress_;
  std::unique_ptr<ImportSource> source_;
  BatchQueue queue_;
  SendWindow window_;
  std::atomic<int64_t> total_{-1};
  int64_t skipped_ = 0;  // records of the file that the stream already holds
  const std::string producer_id_ = NewProducerId();
  std::optional<absl::Time> outage_begin_;  // since when nothing was acknowledged
  bool told_outage_ = false;
};

}  // namespace

absl::StatusOr<int> RunImport(Context& context, ImportRequest request) {
  return Import(context, std::move(request)).Run();
}

}  // namespace icepie::cli
