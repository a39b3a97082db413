// Core.VerifyCore: a verification of the running core, with its progress, as a stream of messages.
#ifndef ICEPIE_SERVER_RECORD_VERIFY_CALL_H_
#define ICEPIE_SERVER_RECORD_VERIFY_CALL_H_

#include <string>
#include <utility>

#include "core/core.h"
#include "icepie/v1/core.pb.h"
#include "server/base/progress_call.h"

namespace icepie::server {

// Lifetime: the core outlives it.
class VerifyCall final : public ProgressCall<icepie::v1::VerifyCoreResponse> {
 public:
  VerifyCall(Core* core, std::string older_note)
      : core_(core), older_note_(std::move(older_note)) {}

 private:
  absl::Status Run() override;

  Core* const core_;
  const std::string older_note_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_RECORD_VERIFY_CALL_H_
