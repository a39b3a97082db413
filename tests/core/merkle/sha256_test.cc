#include "core/merkle/sha256.h"

#include <gtest/gtest.h>

#include "tests/core/merkle/rfc_verifier.h"

namespace icepie {
namespace {

TEST(Sha256Test, AgreesWithLibcryptoAtEveryLength) {
  std::string bytes;
  for (int i = 0; i < 300; ++i) {
    EXPECT_EQ(ViewOf(Sha256(bytes)), rfc::Sha256(bytes)) << i;
    bytes.push_back(static_cast<char>(i * 7));
  }
}

TEST(Sha256Test, GoesOnBehindWholeBlocks) {
  const std::string message(1000, 'm');
  for (const size_t blocks : {0, 64, 128, 640}) {
    const Sha256State state = Sha256OfBlocks(message.substr(0, blocks));
    for (const size_t size :
         {blocks, blocks + 1, blocks + 55, blocks + 56, blocks + 64, blocks + 200}) {
      EXPECT_EQ(ViewOf(FinishSha256(state, blocks, message.substr(blocks, size - blocks))),
                rfc::Sha256(message.substr(0, size)))
          << blocks << " of " << size;
    }
  }
}

}  // namespace
}  // namespace icepie
