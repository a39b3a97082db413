#include "tests/bench/reader_load.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <utility>

#include "icepie/v1/slices.grpc.pb.h"

namespace icepie::bench {

namespace v1 = icepie::v1;

ReaderLoad::ReaderLoad(const ReaderOptions& options) : options_(options) {
  for (int i = 0; i < options_.readers; ++i) {
    threads_.emplace_back([this] { Read(); });
  }
}

void ReaderLoad::Stop() {
  stopping_ = true;
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

std::vector<ReadSample> ReaderLoad::Samples(size_t first) const {
  const MutexLock lock(mutex_);
  return {samples_.begin() + static_cast<std::ptrdiff_t>(std::min(first, samples_.size())),
          samples_.end()};
}

size_t ReaderLoad::count() const {
  const MutexLock lock(mutex_);
  return samples_.size();
}

void ReaderLoad::Read() {
  grpc::ChannelArguments own;
  own.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection for each reader
  const auto stub = v1::Slices::NewStub(
      grpc::CreateCustomChannel(options_.address, grpc::InsecureChannelCredentials(), own));
  v1::QueryRequest request;
  request.set_domain(options_.domain);
  request.set_sql(options_.sql);
  while (!stopping_) {
    grpc::ClientContext context;
    v1::QueryResponse response;
    ReadSample sample;
    sample.begin = absl::Now();
    context.set_deadline(absl::ToChronoTime(sample.begin + options_.timeout));
    const grpc::Status status = stub->Query(&context, request, &response);
    sample.end = absl::Now();
    sample.error = status.error_message();
    if (!status.ok() && sample.error.empty()) sample.error = "failed";
    if (status.ok() && response.meta().slices_size() > 0) {
      const v1::SliceMeta& slice = response.meta().slices(0);
      sample.live = slice.source() == v1::LIVE && !slice.stale();
      sample.applied_position = slice.applied_position();
    }
    {
      const MutexLock lock(mutex_);
      samples_.push_back(std::move(sample));
    }
    std::this_thread::sleep_for(absl::ToChronoMicroseconds(options_.pause));
  }
}

}  // namespace icepie::bench
