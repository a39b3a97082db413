#include "core/base/field_errors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace icepie {
namespace {

using testing::ElementsAre;
using testing::EndsWith;

absl::Status Bad(const std::string& field, const std::string& reason = "PARAMETER_INVALID") {
  return WithField(MakeError(absl::StatusCode::kInvalidArgument, absl::StrCat(field, " is bad"),
                             reason, {{"of", field}}),
                   field);
}

std::vector<std::string> FieldsOf(const absl::Status& status) {
  std::vector<std::string> fields;
  const auto detail = GetErrorDetail(status);
  EXPECT_TRUE(detail);
  if (!detail) return fields;
  for (const auto& violation : detail->violations) fields.push_back(violation.field);
  return fields;
}

TEST(FieldErrorsTest, NoneIsOkAndOneIsItself) {
  FieldErrors errors;
  errors.Add(absl::OkStatus());
  EXPECT_TRUE(errors.empty());
  EXPECT_TRUE(errors.ToStatus().ok());
  errors.Add(Bad("a"));
  EXPECT_FALSE(errors.empty());
  EXPECT_EQ(errors.ToStatus(), Bad("a"));
  FieldErrors plain;
  plain.Add(absl::NotFoundError("gone"));
  EXPECT_EQ(plain.ToStatus(), absl::NotFoundError("gone"));
}

TEST(FieldErrorsTest, TheFirstIsTheErrorAndAllFieldsAreNamedOnce) {
  FieldErrors errors;
  errors.Add(Bad("a", "FIRST"));
  errors.Add(Bad("b", "SECOND"));
  errors.Add(Bad("a", "THIRD"));
  errors.Add(absl::InvalidArgumentError("of no field"));
  const absl::Status status = errors.ToStatus();
  EXPECT_EQ(status.message(), "a is bad (and 1 more)");
  EXPECT_EQ(ErrorReason(status), "FIRST");
  EXPECT_EQ(GetErrorDetail(status)->metadata.at("of"), "a");
  EXPECT_THAT(FieldsOf(status), ElementsAre("a", "b"));
}

TEST(FieldErrorsTest, ThereIsAnEnd) {
  FieldErrors errors;
  int added = 0;
  for (; !errors.full() && added < 1000; ++added) errors.Add(Bad(absl::StrCat("f", added)));
  EXPECT_LT(added, 100);
  errors.Add(Bad("late"));
  EXPECT_EQ(FieldsOf(errors.ToStatus()).size(), static_cast<size_t>(added));
  EXPECT_THAT(std::string(errors.ToStatus().message()),
              EndsWith(absl::StrCat("(and at least ", added - 1, " more)")));
}

}  // namespace
}  // namespace icepie
