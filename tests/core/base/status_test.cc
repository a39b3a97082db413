#include "core/base/status.h"

#include <gtest/gtest.h>

namespace icepie {
namespace {

TEST(StatusTest, DetailSurvivesTheTripThroughStatusAndAnnotate) {
  const ErrorDetail detail{"PAYLOAD_INVALID",
                           {{"stream", "flights"}, {"value", "a:b\n3:x"}},
                           {{"records[17].payload", "not JSON"}},
                           250};
  const absl::Status status =
      Annotate(MakeError(absl::StatusCode::kInvalidArgument, "record 17", detail), "append");
  EXPECT_EQ(status.message(), "append: record 17");
  const auto got = GetErrorDetail(status);
  ASSERT_TRUE(got.has_value());
  EXPECT_EQ(got->reason, "PAYLOAD_INVALID");
  EXPECT_EQ(got->metadata, detail.metadata);
  ASSERT_EQ(got->violations.size(), 1u);
  EXPECT_EQ(got->violations[0].field, "records[17].payload");
  EXPECT_EQ(got->violations[0].description, "not JSON");
  EXPECT_EQ(got->retry_after_ms, 250);
}

TEST(StatusTest, PlainStatusHasNoReason) {
  EXPECT_EQ(ErrorReason(absl::InternalError("x")), "");
  EXPECT_FALSE(GetErrorDetail(absl::OkStatus()).has_value());
}

}  // namespace
}  // namespace icepie
