// A daemon with one stream, `sales`, and one slice of it, `shop.by_item`: what tests of losing and
// restoring the core begin with.
#ifndef ICEPIE_TESTS_E2E_SHOP_FIXTURE_H_
#define ICEPIE_TESTS_E2E_SHOP_FIXTURE_H_

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie::testing {

inline std::string Sale(const std::string& item) {
  return absl::StrCat("{\"item\":\"", item, "\",\"amount\":1}");
}

class ShopTest : public ::testing::Test {
 protected:
  void StartShop() {
    daemon_.Start();
    ASSERT_TRUE(daemon_.CreateStream("sales").ok());
    icepie::v1::ApplyDomainResponse applied;
    const grpc::Status status = daemon_.Apply(R"(domain: shop
sources:
  sales: {columns: {item: VARCHAR, amount: INTEGER}}
slices:
  by_item: {sql: "SELECT item, sum(amount) AS total FROM sales GROUP BY ALL", key: [item]}
)",
                                              &applied);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }

  void Append(const std::string& item, int count) {
    const auto end = daemon_.Append("sales", std::vector<std::string>(count, Sale(item)));
    ASSERT_TRUE(end.ok()) << end.status();
    end_ = *end;
  }

  // The rows as the slice gives them at `min_position` or later.
  static std::string Rows(const DaemonFixture& daemon, int64_t min_position) {
    icepie::v1::QueryResponse answer;
    grpc::Status status;
    Eventually(
        [&] {
          status =
              daemon.Query("shop", "SELECT * FROM by_item ORDER BY item", min_position, &answer);
          return status.ok();
        },
        absl::Seconds(60));
    EXPECT_TRUE(status.ok()) << status.error_message();
    return answer.body();
  }

  static icepie::v1::ServerStatus StatusOf(const DaemonFixture& daemon) {
    icepie::v1::ServerStatus status;
    EXPECT_TRUE(daemon.Admin()->GetServerStatus(Within(absl::Seconds(20)).get(), {}, &status).ok());
    return status;
  }

  DaemonFixture daemon_;
  int64_t end_ = 0;  // of the last append
};

}  // namespace icepie::testing

#endif  // ICEPIE_TESTS_E2E_SHOP_FIXTURE_H_
