#include "slices/apply/batches_ahead.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "core/base/status.h"

namespace icepie::slices {

BatchesAhead::BatchesAhead(FeedReader& reader, int64_t begin, int64_t end,
                           std::set<std::string> streams)
    : reader_(reader), end_(end), decoder_(begin, std::move(streams)), position_(begin) {
  threads_.reserve(kThreads);
  try {
    while (threads_.size() < kThreads) threads_.emplace_back([this] { Loop(); });
  } catch (const std::exception&) {  // no memory or no stack for one more: fewer do
    MutexLock lock(mutex_);
    running_ -= kThreads - static_cast<int>(threads_.size());
  }
}

BatchesAhead::~BatchesAhead() {
  bool reading = false;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    reading = running_ > 0;
  }
  changed_.SignalAll();
  if (reading) reader_.Cancel();
  for (std::thread& thread : threads_) thread.join();
}

absl::StatusOr<std::optional<RecordBatch>> BatchesAhead::Next() {
  if (threads_.empty()) {
    Made made = std::optional<RecordBatch>();
    Read(made);
    return made;
  }
  std::optional<Made> next;
  {
    MutexLock lock(mutex_);
    while (!waiting_ && running_ > 0) changed_.Wait(mutex_);
    if (!waiting_) return std::optional<RecordBatch>();
    next = std::exchange(waiting_, std::nullopt);
  }
  changed_.SignalAll();
  return *std::move(next);
}

void BatchesAhead::Loop() {
  bool taken = true;
  while (taken) {
    Made made = std::optional<RecordBatch>();
    const std::optional<int64_t> number = Read(made);
    if (!number) break;
    if (made.ok() && decodes_) {
      const RecordBatch& batch = **made;
      batch.decoded->Prepare(batch.begin, batch.end, [&](const std::string& stream) {
        return batch.Supply(stream, batch.begin, batch.end);
      });
    }
    taken = Hand(*number, std::move(made));
  }
  MutexLock lock(mutex_);
  --running_;
  changed_.SignalAll();
}

std::optional<int64_t> BatchesAhead::Read(Made& made) {
  MutexLock lock(reading_);
  if (read_all_) return std::nullopt;
  made = ReadNext();
  read_all_ = !made.ok() || !made->has_value();
  if (made.ok() && read_all_) return std::nullopt;
  return read_++;
}

BatchesAhead::Made BatchesAhead::ReadNext() {
  if (position_ >= end_) return std::optional<RecordBatch>();
  ICEPIE_ASSIGN_OR_RETURN(std::optional<FeedPiece> piece, reader_.Next());
  if (!piece) return std::optional<RecordBatch>();
  piece->complete_position = std::min(piece->complete_position, end_);
  ICEPIE_ASSIGN_OR_RETURN(RecordBatch batch, decoder_.Decode(*piece));
  batch.decoded = DecodeSharing::NextBatch(sharing_);
  position_ = batch.end;
  return std::optional<RecordBatch>(std::move(batch));
}

bool BatchesAhead::Hand(int64_t number, Made made) {
  {
    MutexLock lock(mutex_);
    while ((waiting_ || handed_ != number) && !stopping_) changed_.Wait(mutex_);
    if (stopping_) return false;
    waiting_ = std::move(made);
    ++handed_;
  }
  changed_.SignalAll();
  return true;
}

}  // namespace icepie::slices
