#include "tests/bench/sales_domain.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/substitute.h"
#include "core/base/check.h"

namespace icepie::bench {
namespace {

constexpr char kDomain[] = R"(
domain: bench
sources:
  sales: {columns: {item: $0, amount: INTEGER}}
slices:
  by_item:
    sql: SELECT item, count(*) AS sales, sum(amount) AS total FROM sales GROUP BY ALL
    key: [item]
)";
constexpr int kBatch = 10000;
constexpr int kAmounts = 97;

}  // namespace

std::string Sale(int64_t item, int64_t amount, Items items) {
  const std::string name =
      items == Items::kNames ? absl::StrCat("\"item", item, "\"") : absl::StrCat(item);
  return absl::StrCat("{\"item\":", name, ",\"amount\":", amount, "}");
}

int64_t ApplySalesDomain(const testing::DaemonFixture& daemon, int rows, Items items) {
  ICEPIE_CHECK(daemon.CreateStream("sales").ok());
  int64_t end = 0;
  for (int first = 0; first < rows; first += kBatch) {
    std::vector<std::string> payloads;
    for (int item = first; item < std::min(first + kBatch, rows); ++item) {
      payloads.push_back(Sale(item, item % kAmounts, items));
    }
    const auto appended = daemon.Append("sales", payloads);
    ICEPIE_CHECK(appended.ok());
    end = *appended;
  }
  const char* type = items == Items::kNames ? "VARCHAR" : "INTEGER";
  icepie::v1::ApplyDomainResponse applied;
  ICEPIE_CHECK(daemon.Apply(absl::Substitute(kDomain, type), &applied).ok());
  return end;
}

}  // namespace icepie::bench
