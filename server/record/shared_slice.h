// Records as gRPC sends them to many readers: one block's bytes, shared by all their messages.
#ifndef ICEPIE_SERVER_RECORD_SHARED_SLICE_H_
#define ICEPIE_SERVER_RECORD_SHARED_SLICE_H_

#include <grpcpp/support/slice.h>

#include <cstddef>
#include <memory>
#include <utility>

#include "server/record/shared_blocks.h"

namespace icepie::server {

// Bytes [begin, end) of `block`, not copied; the block lives until they are sent.
inline grpc::Slice SharedSlice(std::shared_ptr<const EncodedBlock> block, size_t begin,
                               size_t end) {
  // grpc::Slice takes bytes that it does not change as if it might.
  char* bytes = const_cast<char*>(block->bytes().data()) + begin;
  auto* holder = new std::shared_ptr<const EncodedBlock>(std::move(block));
  return {bytes, end - begin,
          [](void* held) { delete static_cast<std::shared_ptr<const EncodedBlock>*>(held); },
          holder};
}

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_RECORD_SHARED_SLICE_H_
