#include "server/record/proof_calls.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/field_errors.h"
#include "core/base/status.h"

namespace icepie::server {
namespace {

constexpr absl::Duration kWaitMax = absl::Seconds(10);
constexpr absl::Duration kDeadlineMargin = absl::Milliseconds(200);

absl::StatusOr<Proofs*> ProofsOf(Core& core) {
  if (core.proofs() != nullptr) return core.proofs();
  return absl::FailedPreconditionError("the core keeps no Merkle tree");
}

std::string BytesOf(const Digest& digest) { return std::string(ViewOf(digest)); }

absl::Status Negative(absl::string_view field, int64_t value) {
  const std::string what = absl::StrCat(field, " is ", value, ", and begins at 0");
  return WithField(MakeError(absl::StatusCode::kInvalidArgument, what, "PARAMETER_INVALID"), field);
}

}  // namespace

absl::Duration ProofWait(const grpc::ServerContextBase& context) {
  const absl::Duration left = absl::FromChrono(context.deadline()) - absl::Now() - kDeadlineMargin;
  return std::clamp(left, absl::ZeroDuration(), kWaitMax);
}

absl::StatusOr<icepie::v1::Checkpoint> ReadCheckpoint(
    Core& core, const icepie::v1::GetCheckpointRequest& request, absl::Duration wait) {
  ICEPIE_ASSIGN_OR_RETURN(Proofs * proofs, ProofsOf(core));
  if (request.min_size() < 0) return Negative("min_size", request.min_size());
  ICEPIE_ASSIGN_OR_RETURN(const SignedCheckpoint last,
                          proofs->GetCheckpoint(request.min_size(), wait));
  icepie::v1::Checkpoint response;
  response.set_note(last.note);
  response.set_tree_size(last.checkpoint.size);
  response.set_root_hash(BytesOf(last.checkpoint.root));
  response.set_verifier_key(proofs->verifier_key());
  return response;
}

absl::StatusOr<icepie::v1::InclusionProof> ProveInclusion(
    Core& core, const icepie::v1::GetInclusionProofRequest& request, absl::Duration wait) {
  ICEPIE_ASSIGN_OR_RETURN(Proofs * proofs, ProofsOf(core));
  if (request.position() < 0) return Negative("position", request.position());
  SignedCheckpoint covering;
  int64_t tree_size = request.tree_size();
  if (tree_size == 0) {
    ICEPIE_ASSIGN_OR_RETURN(covering, proofs->GetCheckpoint(request.position() + 1, wait));
    tree_size = covering.checkpoint.size;
  }
  ICEPIE_ASSIGN_OR_RETURN(const InclusionAnswer answer,
                          proofs->ProveInclusion(request.position(), tree_size));
  // Meanwhile a newer one may have been signed; the proof is for this one.
  if (!covering.note.empty() && answer.root != covering.checkpoint.root) {
    return MakeError(absl::StatusCode::kDataLoss,
                     absl::StrCat("the tree of ", tree_size, " records is not the signed one"),
                     "PROOF_DAMAGED");
  }
  icepie::v1::InclusionProof response;
  response.set_position(request.position());
  response.set_tree_size(tree_size);
  response.set_root_hash(BytesOf(answer.root));
  response.set_leaf_entry(answer.leaf_entry);
  for (const Digest& hash : answer.hashes) response.add_hashes(BytesOf(hash));
  response.set_checkpoint(covering.note.empty() ? answer.note : covering.note);
  return response;
}

absl::StatusOr<icepie::v1::ConsistencyProof> ProveConsistency(
    Core& core, const icepie::v1::GetConsistencyProofRequest& request) {
  ICEPIE_ASSIGN_OR_RETURN(Proofs * proofs, ProofsOf(core));
  ICEPIE_ASSIGN_OR_RETURN(const ConsistencyAnswer answer,
                          proofs->ProveConsistency(request.old_size(), request.size()));
  icepie::v1::ConsistencyProof response;
  response.set_old_size(request.old_size());
  response.set_size(request.size());
  response.set_old_root_hash(BytesOf(answer.old_root));
  response.set_root_hash(BytesOf(answer.root));
  for (const Digest& hash : answer.hashes) response.add_hashes(BytesOf(hash));
  return response;
}

}  // namespace icepie::server
