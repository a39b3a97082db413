// What one batch of 1,000 records costs a slice that is kept by key, beside the same slice computed
// again (a LIMIT makes it so). Prints one line a slice; run it on a release build.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "tests/slices/slice_run.h"

namespace icepie::slices {
namespace {

constexpr int kRecords = 300000;
constexpr int kBatch = 1000;
constexpr int kRounds = 5;

constexpr char kDomain[] = R"(domain: bench
sources:
  moves: {columns: {account: INTEGER, city: INTEGER, amount: INTEGER}}
limits: {memory: 2GB}
slices:
  latest:
    sql: SELECT account, city, amount FROM moves QUALIFY row_number() OVER (PARTITION BY account ORDER BY _position DESC) = 1
    key: [account]
  latest_again:
    sql: SELECT account, city, amount FROM moves QUALIFY row_number() OVER (PARTITION BY account ORDER BY _position DESC) = 1 ORDER BY account LIMIT 1000000
  middle:
    sql: SELECT city, median(amount) AS m FROM moves GROUP BY city
  middle_again:
    sql: SELECT city, median(amount) AS m FROM moves GROUP BY city ORDER BY city LIMIT 1000000
  by_city:
    sql: SELECT city, count(*) AS n, sum(amount) AS total FROM latest GROUP BY city
  by_city_again:
    sql: SELECT city, count(*) AS n, sum(amount) AS total FROM latest GROUP BY city ORDER BY city LIMIT 1000000
  worst:
    sql: SELECT city, count(*) AS n, max(amount) AS worst FROM latest GROUP BY city
)";

std::vector<std::string> Moves(std::mt19937& random, int count) {
  std::vector<std::string> payloads;
  for (int i = 0; i < count; ++i) {
    payloads.push_back(absl::StrCat(R"({"account":)", random() % 100000, R"(,"city":)",
                                    random() % 500, R"(,"amount":)", random() % 10000, "}"));
  }
  return payloads;
}

void Run() {
  std::mt19937 random(1);
  const auto run = SliceRun::Start(kDomain).value();
  for (int i = 0; i < kRecords / 10000; ++i) run->Append("moves", Moves(random, 10000));
  if (!run->Apply(65536).ok()) std::abort();
  std::map<std::string, double> milliseconds;
  for (int round = 0; round < kRounds; ++round) {
    run->Append("moves", Moves(random, kBatch));
    for (const SlicePlan& slice : run->plan().slices) {
      const absl::Time begin = absl::Now();
      if (!run->ApplyOne(slice.slice, 65536).ok()) std::abort();
      milliseconds[slice.slice] += absl::ToDoubleMilliseconds(absl::Now() - begin) / kRounds;
    }
  }
  for (const SlicePlan& slice : run->plan().slices) {
    std::printf("%-16s %-10s %8.1f ms for %d records\n", slice.slice.c_str(),
                StrategyName(slice.strategy).c_str(), milliseconds[slice.slice], kBatch);
  }
}

}  // namespace
}  // namespace icepie::slices

int main() { icepie::slices::Run(); }
