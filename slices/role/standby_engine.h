// The standby role: answers from the newest good snapshot of each serving generation, attached
// read-only. A thread looks for newer ones; queries that read the old one finish on it.
#ifndef ICEPIE_SLICES_ROLE_STANDBY_ENGINE_H_
#define ICEPIE_SLICES_ROLE_STANDBY_ENGINE_H_

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/base/mutex.h"
#include "slices/role/engine.h"

namespace icepie::slices {

class StandbyEngine : public Engine {
 public:
  static absl::StatusOr<std::unique_ptr<StandbyEngine>> Start(const EngineOptions& options);
  ~StandbyEngine() override;

  void Configure(Assignment assignment) override;
  EngineReport Report() const override;
  void Ask(Question question, QueryService::Done done) override;
  // FAILED_PRECONDITION: a standby computes nothing.
  void Refresh(const std::string& slice, int64_t min_position, absl::Time deadline,
               RefreshDone done) override;
  absl::StatusOr<QuarantinePage> ListQuarantined(const std::string& slice, int64_t after,
                                                 int64_t page_size) override;
  std::vector<RecordStanding> Locate(int64_t position) override {
    return LocateRecord(*instance_, serving_, position);
  }
  // Names the snapshot that answers now.
  void NameSnapshot(const std::string& slice, SnapshotName name, NameDone done) override;
  void Shutdown() override;

 private:
  explicit StandbyEngine(const EngineOptions& options);
  void Loop();
  void Look(const Assignment& assignment);
  std::shared_ptr<ServedSlice> Newest(const GenerationSpec& spec);
  std::shared_ptr<ServedSlice> OfEarlierGeneration(const GenerationSpec& spec);
  void EndIfBroken(const absl::Status& status) const;

  const EngineOptions options_;
  const SnapshotStore store_;
  const NamedSnapshots named_;
  std::unique_ptr<DuckDatabase> instance_;
  std::unique_ptr<PastSnapshots> past_;
  ServingSet serving_;
  // By generation: its newest snapshot when it was last looked at, good or not.
  std::map<std::string, std::string> looked_at_;
  // By generation of which none could be opened: its newest then, and when all are tried again.
  struct Damaged {
    std::string newest;
    absl::Time until;
  };
  std::map<std::string, Damaged> damaged_;

  mutable Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool look_now_ ABSL_GUARDED_BY(mutex_) = false;
  Assignment assignment_ ABSL_GUARDED_BY(mutex_);
  int64_t epoch_ ABSL_GUARDED_BY(mutex_) = -1;

  std::unique_ptr<QueryService> queries_;
  std::thread thread_;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_ROLE_STANDBY_ENGINE_H_
