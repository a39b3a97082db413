#include "tests/bench/reader_load.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "absl/strings/str_format.h"
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

std::vector<ReadSample> ReaderLoad::Samples() const {
  const MutexLock lock(mutex_);
  return samples_;
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

double Quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  const auto count = static_cast<double>(values.size());
  const auto place = static_cast<size_t>(std::max(1.0, std::ceil(share * count))) - 1;
  std::nth_element(values.begin(), values.begin() + static_cast<ptrdiff_t>(place), values.end());
  return values[place];
}

void Print(const Figure& figure) {
  std::string line = absl::StrFormat(R"({"name":"%s","value":%.3f,"unit":"%s")", figure.name,
                                     figure.value, figure.unit);
  const double base = figure.floor >= 0 ? figure.floor : figure.peer;
  const double ratio = base > 0 ? figure.value / base : -1;
  if (figure.floor >= 0) absl::StrAppendFormat(&line, R"(,"floor":%.3f)", figure.floor);
  if (figure.peer >= 0) absl::StrAppendFormat(&line, R"(,"peer":%.3f)", figure.peer);
  if (ratio >= 0) absl::StrAppendFormat(&line, R"(,"ratio":%.3f)", ratio);
  if (figure.goal >= 0) {
    const double judged = figure.goal_is_ratio ? ratio : figure.value;
    absl::StrAppendFormat(&line, R"(,"goal":%.1f,"ok":%s)", figure.goal,
                          judged <= figure.goal ? "true" : "false");
  }
  std::printf("%s}\n", line.c_str());
  std::fflush(stdout);
}

}  // namespace icepie::bench
