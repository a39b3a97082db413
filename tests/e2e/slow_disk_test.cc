// A disk whose every sync takes two seconds: clients wait no longer than they said, what waits for
// the disk is bounded, reads and slices do not wait for it, and what was taken is stored.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/mutex.h"
#include "core/base/status.h"
#include "server/base/rpc_status.h"
#include "tests/e2e/daemon_memory.h"
#include "tests/e2e/faulty_disk.h"
#include "tests/e2e/shop_fixture.h"

namespace icepie::testing {
namespace {

namespace v1 = icepie::v1;
using ::testing::HasSubstr;

const absl::Duration kLong = absl::Seconds(60);
constexpr size_t kRecordBytes = 400'000;  // of a queue that has room for 1 MiB
constexpr int kAppends = 256;             // a hundred times as much as there is room for
constexpr int kAppendsOfConnection = 64;

class SlowDiskTest : public ShopTest {
 protected:
  // Appended by a client that does not wait; what became of it is seen later.
  class Pending {
   public:
    Pending(v1::Core::Stub& core, const v1::AppendRecordsRequest& request, absl::Duration timeout)
        : context_(Within(timeout)), request_(request) {
      core.async()->AppendRecords(context_.get(), &request_, &response_, [this](grpc::Status s) {
        const MutexLock lock(mutex_);
        status_ = server::FromGrpcStatus(s);
        answered_ = true;
      });
    }
    ~Pending() { Status().IgnoreError(); }
    Pending(const Pending&) = delete;
    Pending& operator=(const Pending&) = delete;

    bool answered() const {
      const MutexLock lock(mutex_);
      return answered_;
    }
    const v1::AppendRecordsRequest& request() const { return request_; }
    // Of the answer, which it waits for.
    absl::Status Status() const {
      EXPECT_TRUE(Eventually([this] { return answered(); }, 2 * kLong));
      const MutexLock lock(mutex_);
      return status_;
    }

   private:
    const std::unique_ptr<grpc::ClientContext> context_;
    const v1::AppendRecordsRequest request_;
    v1::AppendRecordsResponse response_;
    mutable Mutex mutex_;
    bool answered_ ABSL_GUARDED_BY(mutex_) = false;
    absl::Status status_ ABSL_GUARDED_BY(mutex_);
  };

  void SetUp() override {
    daemon_.SetSettings(
        "core: {record_bytes_max: 1MiB, batch_bytes_max: 1MiB, queue_bytes_max: 1MiB}\n"
        "workers: {heartbeat_interval_ms: 100, snapshot_interval_ms: 300}\n");
    disk_.Under([&] { StartShop(); });
    ASSERT_FALSE(HasFatalFailure());
    v1::CreateStreamRequest request;
    v1::Stream stream;
    request.set_name("raw");
    request.set_format(v1::PAYLOAD_FORMAT_BYTES);
    ASSERT_TRUE(daemon_.Core()->CreateStream(Within(kLong).get(), request, &stream).ok());
  }

  // Noise: the queue counts what is stored, and that does not become smaller.
  v1::AppendRecordsRequest NoiseOf(size_t bytes) {
    v1::AppendRecordsRequest request;
    auto* record = request.add_records();
    record->set_stream("raw");
    std::string& noise = *record->mutable_payload();
    while (noise.size() < bytes) {
      const uint64_t number = random_();
      noise.append(reinterpret_cast<const char*>(&number), sizeof(number));
    }
    return request;
  }

  std::unique_ptr<Pending> Begin(size_t bytes, absl::Duration timeout) {
    return std::make_unique<Pending>(*core_, NoiseOf(bytes), timeout);
  }

  // By a connection of its own: only so many calls may be open on one.
  std::unique_ptr<v1::Core::Stub> Connect(int number) {
    grpc::ChannelArguments arguments;
    arguments.SetInt("test.connection", number);  // equal channels share theirs
    return v1::Core::NewStub(grpc::CreateCustomChannel(
        daemon_.grpc_address(), grpc::InsecureChannelCredentials(), arguments));
  }

  // Reads the core and a slice while an append waits for the disk.
  void ExpectReadsDoNotWait() {
    bool was_before = false;
    for (int round = 0; round < 10 && !was_before; ++round) {  // the machine may be slower still
      const auto& append = small_.emplace_back(Begin(10, 2 * kLong));
      v1::GetRecordRequest request;
      v1::Record record;
      request.set_position(end_ - 1);
      EXPECT_TRUE(core_->GetRecord(Within(kLong).get(), request, &record).ok());
      EXPECT_THAT(Rows(daemon_, end_), HasSubstr("pear"));
      was_before = !append->answered();
    }
    EXPECT_TRUE(was_before);
  }

  // Of stream raw, by their payloads.
  std::multiset<std::string> Stored() {
    v1::ReadRecordsRequest request;
    request.add_streams("raw");
    const auto context = Within(kLong);
    const auto reader = core_->ReadRecords(context.get(), request);
    v1::ReadRecordsResponse response;
    std::multiset<std::string> stored;
    while (reader->Read(&response)) {
      for (const auto& record : response.records()) stored.insert(record.payload());
    }
    EXPECT_TRUE(reader->Finish().ok());
    return stored;
  }

  FaultyDisk disk_{daemon_.directory(), daemon_.data_directory()};
  std::unique_ptr<v1::Core::Stub> core_;
  std::mt19937_64 random_{1};
  std::vector<std::unique_ptr<Pending>> small_;  // of ExpectReadsDoNotWait
};

TEST_F(SlowDiskTest, DeadlinesHoldAndTheQueueIsBoundedAndAllHeals) {
  core_ = daemon_.Core();
  Append("pear", 3);
  EXPECT_THAT(Rows(daemon_, end_), HasSubstr("pear"));
  disk_.Set(DiskFault::kSlowSync);
  const auto late = Begin(10, absl::Milliseconds(300));
  EXPECT_EQ(late->Status().code(), absl::StatusCode::kDeadlineExceeded);
  ExpectReadsDoNotWait();

  const int64_t memory = MemoryBytes(daemon_.pid());
  std::vector<std::unique_ptr<v1::Core::Stub>> connections;
  std::vector<std::unique_ptr<Pending>> appends;
  for (int i = 0; i < kAppends; ++i) {
    if (i % kAppendsOfConnection == 0) connections.push_back(Connect(i));
    appends.push_back(
        std::make_unique<Pending>(*connections.back(), NoiseOf(kRecordBytes), 2 * kLong));
  }
  const auto waiting = [&] {
    return std::count_if(appends.begin(), appends.end(),
                         [](const auto& append) { return !append->answered(); });
  };
  // What is neither stored nor refused waits in the queue or for the sync.
  int64_t most = 0;
  EXPECT_TRUE(Eventually(
      [&] {
        most = std::max(most, MemoryBytes(daemon_.pid()));
        return waiting() <= 8;
      },
      kLong))
      << waiting();
  const int64_t taken = most - memory;
  std::printf("memory +%.1f MiB\n", static_cast<double>(taken) / (1 << 20));
  if (!kKeepsWhatIsFreed) EXPECT_LT(taken, int64_t{kAppends * kRecordBytes / 2});
  disk_.Set(DiskFault::kNone);

  std::multiset<std::string> acknowledged;
  int refused = 0;
  for (const auto& append : appends) {
    const absl::Status status = append->Status();
    if (status.ok()) {
      acknowledged.insert(append->request().records(0).payload());
      continue;
    }
    ++refused;
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
    const auto detail = GetErrorDetail(status);
    ASSERT_TRUE(detail) << status;
    EXPECT_EQ(detail->reason, "APPEND_QUEUE_FULL");
    EXPECT_GT(detail->retry_after_ms.value_or(0), 0);
  }
  EXPECT_GT(refused, 0) << "the queue has no end";
  EXPECT_GT(acknowledged.size(), 0u);
  for (const auto& append : small_) EXPECT_TRUE(append->Status().ok()) << append->Status();
  Append("apple", 1);
  EXPECT_THAT(Rows(daemon_, end_), HasSubstr("apple"));
  std::multiset<std::string> stored = Stored();
  stored.erase(late->request().records(0).payload());  // it may have come or not
  EXPECT_EQ(stored.size(), small_.size() + acknowledged.size()) << "refused ones are not stored";
  EXPECT_TRUE(
      std::includes(stored.begin(), stored.end(), acknowledged.begin(), acknowledged.end()));
}

}  // namespace
}  // namespace icepie::testing
