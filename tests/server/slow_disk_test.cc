// A disk whose every sync takes two seconds: clients wait no longer than they said, what waits for
// the disk is bounded, and what was taken is stored.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "core/base/status.h"
#include "server/core_service.h"
#include "server/rpc_status.h"
#include "tests/core/core_testing.h"
#include "tests/core/temp_directory.h"

namespace icepie::server {
namespace {

class SlowFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  SlowFileSystem() : FileSystemWrapper(rocksdb::FileSystem::Default()) {}
  const char* Name() const override { return "SlowFileSystem"; }

  rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* file,
                                    rocksdb::IODebugContext* debug) override {
    std::unique_ptr<rocksdb::FSWritableFile> inner;
    rocksdb::IOStatus status = target()->NewWritableFile(name, options, &inner, debug);
    if (status.ok()) *file = std::make_unique<SlowFile>(std::move(inner), this);
    return status;
  }

  std::atomic<bool> slow{false};

 private:
  class SlowFile final : public rocksdb::FSWritableFileOwnerWrapper {
   public:
    SlowFile(std::unique_ptr<rocksdb::FSWritableFile> inner, SlowFileSystem* owner)
        : FSWritableFileOwnerWrapper(std::move(inner)), owner_(owner) {}
    rocksdb::IOStatus Sync(const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* debug) override {
      if (owner_->slow) absl::SleepFor(absl::Seconds(2));
      return FSWritableFileOwnerWrapper::Sync(options, debug);
    }

   private:
    SlowFileSystem* const owner_;
  };
};

class SlowDiskTest : public testing::Test {
 protected:
  SlowDiskTest() : env_(rocksdb::NewCompositeEnv(file_system_)) {
    CoreOptions options;
    options.directory = directory_.path();
    options.env = env_.get();
    options.queue_bytes_max = 1 << 20;
    core_ = *Core::Open(options);
    ICEPIE_CHECK(core_->CreateStream("a", PayloadFormat::kBytes).ok());
    service_ = std::make_unique<CoreService>(core_.get());
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    stub_ = icepie::v1::Core::NewStub(grpc::CreateChannel("127.0.0.1:" + std::to_string(port),
                                                          grpc::InsecureChannelCredentials()));
  }
  ~SlowDiskTest() override {
    file_system_->slow = false;
    server_->Shutdown();
    server_->Wait();
  }

  // The queue counts what is stored: noise does not become smaller.
  static std::string Noise(size_t bytes) {
    thread_local std::mt19937_64 random(std::hash<std::thread::id>()(std::this_thread::get_id()));
    std::string noise(bytes, '\0');
    for (char& c : noise) c = static_cast<char>(random());
    return noise;
  }

  grpc::Status Append(size_t bytes, absl::Duration timeout) {
    icepie::v1::AppendRecordsRequest request;
    icepie::v1::AppendRecordsResponse response;
    auto* record = request.add_records();
    record->set_stream("a");
    record->set_payload(Noise(bytes));
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
    return stub_->AppendRecords(&context, request, &response);
  }

  TempDirectory directory_;
  const std::shared_ptr<SlowFileSystem> file_system_ = std::make_shared<SlowFileSystem>();
  const std::unique_ptr<rocksdb::Env> env_;
  std::unique_ptr<Core> core_;
  std::unique_ptr<CoreService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<icepie::v1::Core::Stub> stub_;
};

TEST_F(SlowDiskTest, DeadlinesHoldAndTheQueueIsBounded) {
  file_system_->slow = true;
  EXPECT_EQ(Append(10, absl::Milliseconds(300)).error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);

  // Far more than the queue holds, all at once.
  constexpr int kClients = 40;
  std::atomic<int> stored{1};  // the one that nobody waited for
  std::atomic<int> refused{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < kClients; ++i) {
    clients.emplace_back([&] {
      const grpc::Status status = Append(100'000, absl::Seconds(60));
      if (status.ok()) {
        ++stored;
        return;
      }
      const auto detail = GetErrorDetail(FromGrpcStatus(status));
      EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
      ASSERT_TRUE(detail.has_value()) << status.error_message();
      EXPECT_EQ(detail->reason, "APPEND_QUEUE_FULL");
      EXPECT_GT(detail->retry_after_ms.value_or(0), 0);
      ++refused;
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_GT(stored, 1);
  EXPECT_GT(refused, 0) << "the queue has no end";
  file_system_->slow = false;
  EXPECT_TRUE(Append(10, absl::Seconds(60)).ok());
  EXPECT_EQ(core_->head_position(), stored + 1) << "refused ones are not stored";
}

}  // namespace
}  // namespace icepie::server
