#include "core/block/record_chunk.h"

#include <utility>

#include "core/base/status.h"

namespace icepie {
namespace {

class BlockChunk final : public RecordChunk {
 public:
  BlockChunk(const BlockHeader& header, std::string block)
      : header_(header), block_(std::move(block)) {}

  const BlockHeader& header() const override { return header_; }

  absl::StatusOr<DecodedBlock> Decode(RecordColumns columns) const override {
    return DecodedBlock::Decode(block_, columns);
  }

 private:
  const BlockHeader header_;
  const std::string block_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const RecordChunk>> ChunkOfBlock(std::string block) {
  ICEPIE_ASSIGN_OR_RETURN(const BlockHeader header, ReadBlockHeader(block));
  return std::make_shared<const BlockChunk>(header, std::move(block));
}

}  // namespace icepie
