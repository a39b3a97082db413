// Core.GetCheckpoint, GetInclusionProof and GetConsistencyProof, without the wire.
#ifndef ICEPIE_SERVER_RECORD_PROOF_CALLS_H_
#define ICEPIE_SERVER_RECORD_PROOF_CALLS_H_

#include <grpcpp/grpcpp.h>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/core.h"
#include "icepie/v1/core.pb.h"

namespace icepie::server {

// How long a call may wait for a signature: less than its deadline, so that our error arrives.
absl::Duration ProofWait(const grpc::ServerContextBase& context);

// Threads: any; each waits up to `wait`, and for the disk. Errors: those of core/proof/proofs.h.
absl::StatusOr<icepie::v1::Checkpoint> ReadCheckpoint(
    Core& core, const icepie::v1::GetCheckpointRequest& request, absl::Duration wait);
absl::StatusOr<icepie::v1::InclusionProof> ProveInclusion(
    Core& core, const icepie::v1::GetInclusionProofRequest& request, absl::Duration wait);
absl::StatusOr<icepie::v1::ConsistencyProof> ProveConsistency(
    Core& core, const icepie::v1::GetConsistencyProofRequest& request);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_RECORD_PROOF_CALLS_H_
