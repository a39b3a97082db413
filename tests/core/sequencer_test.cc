// The sequencer on a disk whose syncs fail.
#include "core/append/sequencer.h"

#include <gmock/gmock.h>
#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <atomic>
#include <future>
#include <mutex>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/append/append_validation.h"
#include "core/base/status.h"
#include "tests/core/core_testing.h"
#include "tests/core/temp_directory.h"

namespace icepie {
namespace {

// The machine's file system until `fail` is set: then no write-ahead log can be synced.
class FailingFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  FailingFileSystem() : FileSystemWrapper(rocksdb::FileSystem::Default()) {}
  const char* Name() const override { return "FailingFileSystem"; }

  rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* file,
                                    rocksdb::IODebugContext* debug) override {
    std::unique_ptr<rocksdb::FSWritableFile> inner;
    rocksdb::IOStatus status = target()->NewWritableFile(name, options, &inner, debug);
    if (!status.ok()) return status;
    const bool is_log = name.size() > 4 && name.substr(name.size() - 4) == ".log";
    if (!is_log) {
      *file = std::move(inner);
    } else {
      *file = std::make_unique<FailingFile>(std::move(inner), this);
    }
    return status;
  }

  std::atomic<bool> fail{false};
  std::atomic<int> syncs{0};
  std::function<void()> on_sync;  // set while nothing is written

 private:
  class FailingFile final : public rocksdb::FSWritableFileOwnerWrapper {
   public:
    FailingFile(std::unique_ptr<rocksdb::FSWritableFile> inner, FailingFileSystem* owner)
        : FSWritableFileOwnerWrapper(std::move(inner)), owner_(owner) {}

    rocksdb::IOStatus Sync(const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* debug) override {
      ++owner_->syncs;
      if (owner_->on_sync) owner_->on_sync();
      if (owner_->fail) return rocksdb::IOStatus::IOError("injected EIO");
      return FSWritableFileOwnerWrapper::Sync(options, debug);
    }
    rocksdb::IOStatus Fsync(const rocksdb::IOOptions& options,
                            rocksdb::IODebugContext* debug) override {
      return Sync(options, debug);
    }

   private:
    FailingFileSystem* const owner_;
  };
};

class SequencerTest : public testing::Test {
 protected:
  SequencerTest() : env_(rocksdb::NewCompositeEnv(file_system_)) {
    store_ = *LogStore::Open({directory_.path(), LogStore::Mode::kReadWrite, env_.get()});
    mark_ = *HighWaterMark::Open(directory_.path() + "/mark", {});
    CatalogChanges catalog({store_.get(), mark_.get(), &guard_}, 0);
    stream_ = *streams_.Create(catalog, "a", PayloadFormat::kJson, {}, nullptr, /*internal=*/false);
    requests_ = *RequestLog::Load(*store_);
    sequencer_ =
        std::make_unique<Sequencer>(Sequencer::Parts{store_.get(), mark_.get(), &head_, &guard_,
                                                     &tree_, &space_, requests_.get()},
                                    1 << 20, 0);
  }

  absl::Status Submit(AppendBatch batch, Core::AppendDone done) {
    const auto streams = ValidateRecords(batch.records, {}, streams_);
    auto append = *PrepareAppend(std::move(batch), *streams, streams_, /*with_leaves=*/true);
    append.done = std::move(done);
    return sequencer_->Submit(append);
  }

  // The answer to a batch of `count` records.
  absl::StatusOr<AppendResult> Append(int64_t count) {
    std::promise<absl::StatusOr<AppendResult>> answer;
    ICEPIE_RETURN_IF_ERROR(
        Submit(NumberedBatch("a", 0, count),
               [&](absl::StatusOr<AppendResult> result) { answer.set_value(std::move(result)); }));
    return answer.get_future().get();
  }

  TempDirectory directory_;
  const std::shared_ptr<FailingFileSystem> file_system_ = std::make_shared<FailingFileSystem>();
  std::unique_ptr<rocksdb::Env> env_;
  std::unique_ptr<LogStore> store_;
  StreamRegistry streams_;
  Stream* stream_ = nullptr;
  std::unique_ptr<RequestLog> requests_;
  std::unique_ptr<HighWaterMark> mark_;
  CommittedHead head_;
  ReadOnlyGuard guard_;
  TileWriter tree_;
  DiskSpace space_{{}};
  std::unique_ptr<Sequencer> sequencer_;
};

TEST_F(SequencerTest, AFailedSyncMakesTheCoreReadOnlyAndIsNotRetried) {
  ASSERT_TRUE(Append(3).ok());
  file_system_->fail = true;
  const absl::Time before = absl::FromUnixSeconds(absl::ToUnixSeconds(absl::Now()));
  const int syncs = file_system_->syncs;
  const auto failed = Append(2);
  EXPECT_EQ(failed.status().code(), absl::StatusCode::kUnavailable) << failed.status();
  EXPECT_EQ(ErrorReason(failed.status()), "LOG_SYNC_FAILED");
  EXPECT_THAT(std::string(failed.status().message()), testing::HasSubstr("outcome unknown"));
  EXPECT_EQ(head_.position(), 3);
  EXPECT_EQ(stream_->end_offset, 3);
  EXPECT_THAT(guard_.cause(), testing::HasSubstr("injected EIO"));

  // The disk seems well again: that must not matter.
  file_system_->fail = false;
  const auto refused = Append(1);
  ASSERT_EQ(ErrorReason(refused.status()), "CORE_READ_ONLY");
  const auto metadata = GetErrorDetail(refused.status())->metadata;
  EXPECT_THAT(metadata.at("cause"), testing::EndsWith("injected EIO)"));
  EXPECT_EQ(metadata.at("remedy"), "check the disk, then restart the daemon");
  absl::Time since;
  ASSERT_TRUE(absl::ParseTime(absl::RFC3339_full, metadata.at("since"), &since, nullptr));
  EXPECT_LE(since, absl::Now());
  EXPECT_GE(since, before);
  EXPECT_EQ(file_system_->syncs, syncs + 1);
  EXPECT_EQ(head_.position(), 3);
  EXPECT_EQ(HighWaterMark::Read(directory_.path() + "/mark")->position, 3);
  EXPECT_EQ(store_->LastPlace()->value().end_position(), 3);
  EXPECT_EQ(store_->LastTreeRun(0)->value().end(), 3);
}

// It aborted the process: the tree had the leaves of what was not written.
TEST_F(SequencerTest, WhatIsQueuedBehindAFailedCommitIsRefused) {
  ASSERT_TRUE(Append(1).ok());
  AppendBatch batch = NumberedBatch("a", 1, 1);
  const auto streams = ValidateRecords(batch.records, {}, streams_);
  auto behind = *PrepareAppend(std::move(batch), *streams, streams_, /*with_leaves=*/true);
  std::promise<absl::Status> answer;
  behind.done = [&](const absl::StatusOr<AppendResult>& result) {
    answer.set_value(result.status());
  };
  file_system_->fail = true;
  file_system_->on_sync = [&] { EXPECT_TRUE(sequencer_->Submit(behind).ok()); };
  EXPECT_EQ(ErrorReason(Append(1).status()), "LOG_SYNC_FAILED");
  EXPECT_EQ(ErrorReason(answer.get_future().get()), "CORE_READ_ONLY");
  file_system_->on_sync = nullptr;
  EXPECT_EQ(head_.position(), 1);
}

// A disk that does not answer: the queue takes what it may hold and no more.
class StalledDiskTest : public SequencerTest {
 protected:
  // Submits appends of `payload_bytes` behind a sync that waits, until one is refused; returns why,
  // and lets the disk go on.
  absl::Status FillQueue(int64_t queue_bytes_max, size_t payload_bytes) {
    sequencer_ =
        std::make_unique<Sequencer>(Sequencer::Parts{store_.get(), mark_.get(), &head_, &guard_,
                                                     &tree_, &space_, requests_.get()},
                                    queue_bytes_max, 0);
    std::promise<void> reached, go_on;
    std::once_flag once;
    file_system_->on_sync = [&] {
      std::call_once(once, [&] {
        reached.set_value();
        go_on.get_future().wait();
      });
    };
    absl::Status refused;
    for (; refused.ok(); ++accepted_) {
      refused = SubmitOne(payload_bytes);
      if (refused.ok() && accepted_ == 0) reached.get_future().wait();
    }
    --accepted_;
    go_on.set_value();
    sequencer_.reset();  // commits and answers what is queued
    file_system_->on_sync = nullptr;
    return refused;
  }

  absl::Status SubmitOne(size_t payload_bytes) {
    AppendBatch batch;
    batch.records.push_back(MakeRecord("a", "\"" + std::string(payload_bytes, 'x') + "\""));
    return SubmitCounted(std::move(batch));
  }

  absl::Status SubmitCounted(AppendBatch batch) {
    return Submit(std::move(batch), [this](const absl::StatusOr<AppendResult>& result) {
      answered_ += result.ok() ? 1 : 0;
    });
  }

  int64_t accepted_ = 0;
  std::atomic<int64_t> answered_{0};
};

TEST_F(StalledDiskTest, TheQueueIsBoundedByBytes) {
  constexpr int64_t kQueueBytes = 1 << 20;
  constexpr int64_t kPayloadBytes = 1 << 15;
  const absl::Status refused = FillQueue(kQueueBytes, kPayloadBytes);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ErrorReason(refused), "APPEND_QUEUE_FULL");
  EXPECT_GT(GetErrorDetail(refused)->retry_after_ms.value_or(0), 0);
  EXPECT_LE(accepted_, kQueueBytes / kPayloadBytes);
  EXPECT_GE(accepted_, kQueueBytes / kPayloadBytes / 2);
  EXPECT_EQ(answered_, accepted_) << "what was taken is stored";
  EXPECT_EQ(head_.position(), accepted_);
}

TEST_F(StalledDiskTest, AndByCount) {
  const absl::Status refused = FillQueue(int64_t{1} << 40, 1);
  EXPECT_EQ(ErrorReason(refused), "APPEND_QUEUE_FULL");
  // An eighth is kept for others; and the one that is being committed.
  EXPECT_EQ(accepted_, 65536 - 65536 / 8 + 1);
  EXPECT_EQ(answered_, accepted_);
}

TEST_F(StalledDiskTest, AllThatWaitShareOneSync) {
  constexpr int kWaiting = 50;
  std::once_flag once;
  file_system_->on_sync = [&] {
    std::call_once(once, [&] {
      for (int i = 0; i < kWaiting; ++i) EXPECT_TRUE(SubmitOne(10).ok());
    });
  };
  const int before = file_system_->syncs;
  ASSERT_TRUE(Append(1).ok());
  sequencer_.reset();  // commits and answers what is queued
  file_system_->on_sync = nullptr;
  EXPECT_EQ(answered_, kWaiting);
  EXPECT_EQ(file_system_->syncs, before + 2);
  EXPECT_EQ(head_.position(), 1 + kWaiting);
}

// Compare-and-append: also among those that are committed together.
TEST_F(StalledDiskTest, OfAllThatExpectOneEndOneIsStored) {
  std::once_flag once;
  file_system_->on_sync = [&] {
    std::call_once(once, [&] {
      for (int i = 0; i < 50; ++i) {
        AppendBatch batch = NumberedBatch("a", i, 1);
        batch.conditions.push_back({"a", 1});
        EXPECT_TRUE(SubmitCounted(std::move(batch)).ok());
      }
    });
  };
  ASSERT_TRUE(Append(1).ok());
  sequencer_.reset();  // commits and answers what is queued
  file_system_->on_sync = nullptr;
  EXPECT_EQ(answered_, 1);
  EXPECT_EQ(head_.position(), 2);
}

// A retry beside its original is no better off than that.
TEST_F(StalledDiskTest, ARetryInACommitThatFailsIsNotAcknowledged) {
  std::vector<std::string> reasons;  // the sequencer's thread alone writes it
  int syncs = 0;
  file_system_->on_sync = [&] {
    file_system_->fail = ++syncs > 1;
    for (int i = 0; syncs == 1 && i < 2; ++i) {
      AppendBatch batch = NumberedBatch("a", 1, 1);
      batch.identity = AppendIdentity{"x", "", 0, 0};
      EXPECT_TRUE(Submit(std::move(batch), [&](const absl::StatusOr<AppendResult>& result) {
                    reasons.push_back(ErrorReason(result.status()));
                  }).ok());
    }
  };
  ASSERT_TRUE(Append(1).ok());
  sequencer_.reset();  // commits and answers what is queued
  file_system_->on_sync = nullptr;
  EXPECT_THAT(reasons, testing::ElementsAre("LOG_SYNC_FAILED", "LOG_SYNC_FAILED"));
}

TEST_F(SequencerTest, EveryCommitIsSyncedBeforeItsAnswer) {
  for (int i = 0; i < 5; ++i) {
    const int before = file_system_->syncs;
    ASSERT_TRUE(Append(1).ok());
    EXPECT_EQ(file_system_->syncs, before + 1);
    EXPECT_EQ(HighWaterMark::Read(directory_.path() + "/mark")->position, i + 1);
  }
}

TEST_F(SequencerTest, AFailedCatalogWriteIsAnErrorToo) {
  file_system_->fail = true;
  const LogStore::CatalogChange change{"k", "v"};
  EXPECT_FALSE(store_->ChangeCatalog({&change, 1}).ok());
}

}  // namespace
}  // namespace icepie
