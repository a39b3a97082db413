// A core that takes no changes of the catalog when a test says so.
#ifndef ICEPIE_TESTS_SERVER_REFUSING_CORE_H_
#define ICEPIE_TESTS_SERVER_REFUSING_CORE_H_

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/core.h"

namespace icepie::server {

// A core whose changes can be refused, as a damaged one's are, or for `reason`.
class RefusingCore final : public Core {
 public:
  explicit RefusingCore(Core& core) : core_(core) {}
  std::atomic<bool> refuses{false};
  std::string reason = "CORE_READ_ONLY";  // set before anything is refused
  absl::StatusCode code = absl::StatusCode::kFailedPrecondition;
  std::atomic<bool> refuses_appends{false};  // its queue is full
  std::atomic<int> refused_appends{0};
  std::function<void(const std::string& key)> on_refusal;  // set before anything is refused
  std::string unreadable;                                  // no keys that begin so can be scanned

  std::string ReadOnlyCause() const override {
    return refuses && reason == "CORE_READ_ONLY" ? "test" : "";
  }
  std::string AcceptedLoss() const override { return core_.AcceptedLoss(); }
  absl::Status ForgetAcceptedLoss() override { return core_.ForgetAcceptedLoss(); }
  DiskState Disk() const override { return core_.Disk(); }
  using Core::CreateStream;
  absl::StatusOr<StreamInfo> CreateStream(absl::string_view name, PayloadFormat format,
                                          const StreamPaths& paths,
                                          std::shared_ptr<const StreamSchema> schema) override {
    return core_.CreateStream(name, format, paths, std::move(schema));
  }
  absl::StatusOr<StreamInfo> UpdateStream(absl::string_view name,
                                          const StreamChange& change) override {
    return core_.UpdateStream(name, change);
  }
  absl::StatusOr<bool> CheckCreate(
      absl::string_view name, PayloadFormat format, const StreamPaths& paths,
      const std::shared_ptr<const StreamSchema>& schema) const override {
    return core_.CheckCreate(name, format, paths, schema);
  }
  absl::Status CheckUpdate(absl::string_view name, const StreamChange& change) const override {
    return core_.CheckUpdate(name, change);
  }
  absl::StatusOr<BackupResult> BackUpTo(const std::string& target,
                                        const BackupProgress& progress) override {
    return core_.BackUpTo(target, progress);
  }
  absl::StatusOr<StreamInfo> CreateInternalStream(absl::string_view name,
                                                  PayloadFormat format) override {
    return core_.CreateInternalStream(name, format);
  }
  absl::StatusOr<StreamInfo> GetStream(absl::string_view name) const override {
    return core_.GetStream(name);
  }
  std::vector<StreamInfo> ListStreams(absl::string_view after, size_t count_max) const override {
    return core_.ListStreams(after, count_max);
  }
  void Append(AppendBatch batch, AppendDone done) override {
    if (!refuses_appends) return core_.Append(std::move(batch), std::move(done));
    ++refused_appends;
    done(MakeError(absl::StatusCode::kResourceExhausted, "refused by the test",
                   "APPEND_QUEUE_FULL"));
  }
  int64_t head_position() const override { return core_.head_position(); }
  int64_t WaitForHead(int64_t position, absl::Duration timeout) const override {
    return core_.WaitForHead(position, timeout);
  }
  int64_t AddHeadListener(std::function<void(int64_t)> listener) override {
    return core_.AddHeadListener(std::move(listener));
  }
  void RemoveHeadListener(int64_t id) override { core_.RemoveHeadListener(id); }
  absl::StatusOr<BlockRange> ReadBlocks(const std::vector<std::string>& streams, int64_t from,
                                        int64_t end, int64_t bytes_max) const override {
    return core_.ReadBlocks(streams, from, end, bytes_max);
  }
  absl::StatusOr<int64_t> PositionOf(absl::string_view stream, int64_t offset) const override {
    return core_.PositionOf(stream, offset);
  }
  Proofs* proofs() override { return core_.proofs(); }
  std::shared_ptr<const SegmentLease> LeaseSegments(int64_t from, int64_t end,
                                                    size_t count_max) const override {
    return core_.LeaseSegments(from, end, count_max);
  }
  std::optional<ScrubState> Scrub() const override { return std::nullopt; }
  CoreStorage Storage() const override { return core_.Storage(); }
  absl::Status ChangeCatalog(const std::vector<CatalogChange>& changes) override {
    if (!refuses) return core_.ChangeCatalog(changes);
    for (const auto& [key, value] : changes) {
      if (on_refusal) on_refusal(key);
    }
    return MakeError(code, "refused by the test", reason);
  }
  absl::StatusOr<std::vector<std::pair<std::string, std::string>>> ScanCatalog(
      absl::string_view prefix) const override {
    if (prefix == unreadable) return absl::DataLossError("unreadable by the test");
    return core_.ScanCatalog(prefix);
  }

 private:
  Core& core_;
};

}  // namespace icepie::server

#endif  // ICEPIE_TESTS_SERVER_REFUSING_CORE_H_
