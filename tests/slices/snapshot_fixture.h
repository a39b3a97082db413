// An engine's tests that begin with snapshots.
#ifndef ICEPIE_TESTS_SLICES_SNAPSHOT_FIXTURE_H_
#define ICEPIE_TESTS_SLICES_SNAPSHOT_FIXTURE_H_

#include <cstdint>

#include "slices/plan/plan.h"
#include "slices/snapshot/snapshot_store.h"
#include "tests/slices/engine_fixture.h"

namespace icepie::slices {

class SnapshotFixture : public EngineFixture {
 protected:
  // Three snapshots of by_city, at positions 1, 2 and 3.
  void MakeSnapshots() {
    for (int i = 0; i < 3; ++i) {
      const int64_t position = feed_.Append("orders", {Order("Bern", 1)});
      StartLive();
      Configure({HashedSpec()});
      WaitForPosition("by_city", position);
      engine_->Shutdown();
    }
    engine_.reset();
  }

  // by_city as the daemon asks for it: its snapshot is read while it is hashed.
  static GenerationSpec HashedSpec() {
    GenerationSpec spec = Spec("by_city");
    const auto plan = PlanDomain(ParseDomain(kShopDomain, "shop.yaml").value());
    spec.definition_hash = plan.value().Find("by_city")->definition_hash;
    return spec;
  }

  SnapshotStore store_{directory_, SnapshotKeeping{3}};
};

}  // namespace icepie::slices

#endif  // ICEPIE_TESTS_SLICES_SNAPSHOT_FIXTURE_H_
