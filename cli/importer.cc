#include "cli/importer.h"

#include <grpcpp/support/sync_stream.h>

#include <deque>
#include <memory>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cli/format.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "core/base/mutex.h"
#include "core/base/status.h"

namespace icepie::cli {
namespace {

using icepie::v1::AppendRecordsRequest;
using icepie::v1::AppendRecordsResponse;
using icepie::v1::Core;
using icepie::v1::Stream;
using AppendCall = grpc::ClientReaderWriterInterface<AppendRecordsRequest, AppendRecordsResponse>;

constexpr size_t kBatchesReady = 3;      // read from the file and waiting to be sent
constexpr int64_t kBatchesInFlight = 8;  // sent and not yet acknowledged

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

// What the daemon has acknowledged. Threads: the sender waits, the reader counts.
class Acknowledged {
 public:
  // Waits until another batch may be sent; false when the call has ended.
  bool WaitForRoom() {
    MutexLock lock(mutex_);
    while (in_flight_ >= kBatchesInFlight && !ended_) changed_.Wait(mutex_);
    ++in_flight_;
    return !ended_;
  }

  void Count(const AppendRecordsResponse& answer) {
    MutexLock lock(mutex_);
    --in_flight_;
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
  int64_t in_flight_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t records_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t end_position_ ABSL_GUARDED_BY(mutex_) = 0;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

class Import {
 public:
  Import(Context& context, ImportRequest request)
      : context_(context), request_(std::move(request)), progress_(context.terminal) {}

  absl::StatusOr<int> Run() {
    ICEPIE_ASSIGN_OR_RETURN(const Stream stream, FindStream());
    request_.file.check_json = stream.format() != icepie::v1::PAYLOAD_FORMAT_BYTES;
    was_empty_ = stream.end_offset() == 0;
    if (request_.resume) request_.file.skip = stream.end_offset();
    if (request_.file.skip >= request_.file.limit) return NothingToDo(stream.end_offset());
    ICEPIE_ASSIGN_OR_RETURN(source_, ImportSource::Open(request_.file));
    CatchInterrupts();
    const absl::Time start = absl::Now();
    ICEPIE_RETURN_IF_ERROR(Transfer(start));
    if (acknowledged_.records() == 0 && request_.resume) return NothingToDo(stream.end_offset());
    return Summary(absl::Now() - start);
  }

 private:
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
    return client.Call<Core::StubInterface, icepie::v1::CreateStreamRequest, Stream>(
        client.core(), &Core::StubInterface::CreateStream, create);
  }

  // Reads, sends and counts in three threads until the file ends, Ctrl-C or an error.
  absl::Status Transfer(absl::Time start) {
    grpc::ClientContext call_context;  // no deadline: a large file takes its time
    std::unique_ptr<AppendCall> call = context_.client().core().StreamAppendRecords(&call_context);
    const RateMeter meter(request_.file.skip, start);
    std::thread file_reader([this] { ReadFile(); });
    std::thread answer_reader([this, &call, &meter] { ReadAnswers(*call, meter); });
    SendBatches(*call);
    queue_.Close();
    file_reader.join();
    answer_reader.join();
    const absl::Status sent = context_.client().ErrorOf(call->Finish());
    if (acknowledged_.records() > 0) progress_.Finish(State(meter));
    if (!sent.ok()) return WithStored(sent);
    if (absl::Status read = queue_.status(); !read.ok()) return WithStored(read);
    if (Interrupted()) return WithStored(absl::CancelledError("stopped"));
    return absl::OkStatus();
  }

  void ReadFile() {
    int64_t end_offset = request_.file.skip;
    while (!Interrupted()) {
      auto batch = std::make_unique<AppendRecordsRequest>();
      const absl::Status status = source_->Fill(request_.batch, batch.get());
      Complete(end_offset, batch.get());
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

  void Complete(int64_t end_offset, AppendRecordsRequest* batch) const {
    for (auto& record : *batch->mutable_records()) record.set_stream(request_.stream);
    if (!request_.resume) return;
    auto* condition = batch->add_conditions();
    condition->set_stream(request_.stream);
    condition->set_end_offset(end_offset);
  }

  void SendBatches(AppendCall& call) {
    while (auto batch = queue_.Pop()) {
      if (!acknowledged_.WaitForRoom() || !call.Write(*batch)) return;
    }
    call.WritesDone();
  }

  void ReadAnswers(AppendCall& call, const RateMeter& meter) {
    AppendRecordsResponse answer;
    while (call.Read(&answer)) {
      acknowledged_.Count(answer);
      progress_.Show(State(meter), absl::Now());
    }
    acknowledged_.End();
  }

  ProgressState State(const RateMeter& meter) {
    ProgressState state;
    state.label = absl::StrCat("import ", request_.stream);
    state.done = request_.file.skip + acknowledged_.records();
    state.total = total_;
    meter.Fill(&state, absl::Now());
    return state;
  }

  absl::Status WithStored(const absl::Status& status) {
    const int64_t stored = acknowledged_.records();
    std::string message(status.message());
    const auto detail = GetErrorDetail(status);
    // The daemon names the record by its place in the batch, which nobody sees.
    if (detail && !detail->violations.empty()) {
      absl::StrAppend(&message, " (in the batch after record ",
                      FormatCount(request_.file.skip + stored), " of ", request_.file.path, ")");
    }
    absl::StrAppend(&message, "; ", FormatCounted(stored, "record"), " stored");
    // A stream that held other records before would have as many of the file's passed over.
    if (request_.resume || (stored > 0 && was_empty_)) {
      absl::StrAppend(&message, ", go on with: icepie import ", request_.stream, " ",
                      request_.file.path, " --resume");
    }
    return MakeError(status.code(), message, detail.value_or(ErrorDetail{}));
  }

  int NothingToDo(int64_t end_offset) const {
    context_.out() << "nothing to do: stream " << request_.stream << " holds "
                   << FormatCounted(end_offset, "record") << ", all of " << request_.file.path
                   << '\n';
    return kExitDone;
  }

  int Summary(absl::Duration elapsed) {
    const int64_t records = acknowledged_.records();
    const double seconds = std::max(absl::ToDoubleSeconds(elapsed), 1e-6);
    if (context_.options.json) {
      context_.out() << "{\"stream\": \"" << request_.stream << "\", \"records\": " << records
                     << ", \"end_position\": " << acknowledged_.end_position()
                     << ", \"seconds\": " << seconds << "}\n";
      return kExitDone;
    }
    context_.out() << FormatCounted(records, "record") << " into " << request_.stream << " in "
                   << FormatElapsed(elapsed) << " · "
                   << FormatRate(static_cast<double>(records) / seconds) << " · head position "
                   << FormatCount(acknowledged_.end_position()) << '\n';
    return kExitDone;
  }

  Context& context_;
  ImportRequest request_;
  Progress progress_;
  std::unique_ptr<ImportSource> source_;
  BatchQueue queue_;
  Acknowledged acknowledged_;
  std::atomic<int64_t> total_{-1};
  bool was_empty_ = false;
};

}  // namespace

absl::StatusOr<int> RunImport(Context& context, ImportRequest request) {
  return Import(context, std::move(request)).Run();
}

}  // namespace icepie::cli
