#include "tests/fault/fault_domains.h"

#include "absl/strings/str_cat.h"
#include "core/base/check.h"

namespace icepie::fault {
namespace {

constexpr const char* kLimits = "limits: {memory: 256MB, query_timeout: 10s}\n";

constexpr const char* kPayments = R"yaml(domain: payments
sources:
  ledger: {columns: {account: INTEGER, amount: INTEGER}}
slices:
  totals:
    sql: SELECT account, count(*) AS records, sum(amount) AS amount FROM ledger GROUP BY ALL
    key: [account]
  richest:
    sql: SELECT account, amount FROM totals ORDER BY amount DESC, account LIMIT 3
)yaml";

constexpr const char* kCompliance = R"yaml(domain: compliance
sources:
  ledger: {columns: {account: INTEGER, client: INTEGER, n: BIGINT, tag: VARCHAR}}
slices:
  tags:
    sql: SELECT account, count(*) AS records, sum(CAST(tag AS INTEGER)) AS tags FROM ledger GROUP BY ALL
    key: [account]
  latest:
    sql: |
      SELECT account, client, n FROM ledger
      QUALIFY row_number() OVER (PARTITION BY account ORDER BY _position DESC) = 1
    key: [account]
)yaml";

constexpr const char* kBehaviour = R"yaml(domain: behaviour
sources:
  clicks: {columns: {account: INTEGER, page: VARCHAR}}
slices:
  pages:
    sql: SELECT page, count(*) AS clicks, count(DISTINCT account) AS accounts FROM clicks GROUP BY ALL
    key: [page]
  trail:
    sql: SELECT _position AS place, account FROM clicks WHERE page = 'p0'
)yaml";

constexpr const char* kDevices = R"yaml(domain: devices
sources:
  frames: {columns: {size: INTEGER}}
slices:
  sizes:
    sql: SELECT count(*) AS frames, sum(size) AS bytes, max(size) AS largest FROM frames
)yaml";

std::string Member(const std::string& name, int64_t value) {
  return absl::StrCat("\"", name, "\":", value);
}

// What says whose record it is, in every payload.
std::string Origin(int client, int64_t batch, int64_t record) {
  return absl::StrCat(Member("client", client), ",", Member("n", batch * 100 + record));
}

std::string LedgerPayload(int client, int64_t batch, int64_t record, std::mt19937_64& random) {
  return absl::StrCat("{", Origin(client, batch, record), ",",
                      Member("account", static_cast<int64_t>(random() % 12)), ",",
                      Member("amount", static_cast<int64_t>(random() % 2000) - 700), ",\"tag\":\"",
                      random() % 90, "\"}");
}

std::string ClickPayload(int client, int64_t batch, int64_t record, std::mt19937_64& random) {
  return absl::StrCat("{", Origin(client, batch, record), ",",
                      Member("account", static_cast<int64_t>(random() % 40)), ",\"page\":\"p",
                      random() % 6, "\"}");
}

std::string FramePayload(int client, int64_t batch, int64_t record, std::mt19937_64& random) {
  return absl::StrCat("{", Origin(client, batch, record), ",",
                      Member("size", static_cast<int64_t>(random() % 5000)), "}");
}

std::mt19937_64 RandomOf(int client, int64_t batch) {
  return std::mt19937_64(static_cast<uint64_t>(batch) * 131 + static_cast<uint64_t>(client));
}

StoredRecord MakeRecord(int client, int64_t batch, int64_t record, std::mt19937_64& random) {
  // Clients 0 and 1 write ledger, 2 clicks and ledger in one batch, 3 frames.
  if (client == 3) return {0, "frames", FramePayload(client, batch, record, random)};
  if (client == 2 && record % 3 != 0) {
    return {0, "clicks", ClickPayload(client, batch, record, random)};
  }
  return {0, "ledger", LedgerPayload(client, batch, record, random)};
}

}  // namespace

const std::vector<StreamSpec>& Streams() {
  static const auto* streams =
      new std::vector<StreamSpec>{{"ledger", false}, {"clicks", false}, {"frames", true}};
  return *streams;
}

const std::vector<std::string>& Domains() {
  static const auto* domains =
      new std::vector<std::string>{"payments", "compliance", "behaviour", "devices"};
  return *domains;
}

const std::vector<SliceSpec>& Slices() {
  static const auto* slices = new std::vector<SliceSpec>{
      {"payments",
       "totals",
       "SELECT account, count(*) AS records, sum(amount) AS amount FROM ledger GROUP BY ALL",
       {{"ledger", "amount_good"}},
       ""},
      {"payments",
       "richest",
       "SELECT account, amount FROM totals ORDER BY amount DESC, account LIMIT 3",
       {},
       "totals"},
      {"compliance",
       "tags",
       "SELECT account, count(*) AS records, sum(CAST(tag AS INTEGER)) AS tags FROM ledger "
       "GROUP BY ALL",
       {{"ledger", "tag_good"}},
       ""},
      {"compliance",
       "latest",
       "SELECT account, client, n FROM ledger "
       "QUALIFY row_number() OVER (PARTITION BY account ORDER BY _position DESC) = 1",
       {{"ledger", "true"}},
       ""},
      {"behaviour",
       "pages",
       "SELECT page, count(*) AS clicks, count(DISTINCT account) AS accounts FROM clicks "
       "GROUP BY ALL",
       {{"clicks", "true"}},
       ""},
      {"behaviour",
       "trail",
       "SELECT _position AS place, account FROM clicks WHERE page = 'p0'",
       {{"clicks", "true"}},
       ""},
      {"devices",
       "sizes",
       "SELECT count(*) AS frames, sum(size) AS bytes, max(size) AS largest FROM frames",
       {{"frames", "well_formed"}},
       ""}};
  return *slices;
}

const std::vector<Question>& Questions() {
  static const auto* questions = new std::vector<Question>{
      {"payments", "SELECT account, records, amount FROM totals ORDER BY account", {"totals"}},
      {"payments", "SELECT sum(records) AS records, sum(amount) AS amount FROM totals", {"totals"}},
      {"payments", "SELECT account, amount FROM richest ORDER BY account", {"richest"}},
      {"payments",
       "SELECT t.account, t.records, r.amount AS best FROM totals AS t "
       "LEFT JOIN richest AS r ON r.account = t.account ORDER BY t.account",
       {"totals", "richest"}},
      {"compliance", "SELECT account, records, tags FROM tags ORDER BY account", {"tags"}},
      {"compliance", "SELECT account, client, n FROM latest ORDER BY account", {"latest"}},
      {"compliance",
       "SELECT a.account, a.records, b.n FROM tags AS a JOIN latest AS b ON a.account = b.account "
       "ORDER BY a.account",
       {"tags", "latest"}},
      {"behaviour", "SELECT page, clicks, accounts FROM pages ORDER BY page", {"pages"}},
      {"behaviour",
       "SELECT count(*) AS n, sum(account) AS accounts, min(place) AS first, max(place) AS last "
       "FROM trail",
       {"trail"}},
      {"behaviour", "SELECT place, account FROM trail ORDER BY place DESC LIMIT 7", {"trail"}},
      {"devices", "SELECT frames, bytes, largest FROM sizes", {"sizes"}},
  };
  return *questions;
}

const SliceSpec& FindSlice(const std::string& full_name) {
  for (const SliceSpec& slice : Slices()) {
    if (slice.FullName() == full_name) return slice;
  }
  ICEPIE_CHECK(false);  // an answer about a slice that nobody declared
  return Slices().front();
}

std::string DomainFile(const std::string& domain) {
  const char* file = domain == "payments"     ? kPayments
                     : domain == "compliance" ? kCompliance
                     : domain == "behaviour"  ? kBehaviour
                                              : kDevices;
  return absl::StrCat(file, kLimits);
}

std::vector<StoredRecord> MakeBatch(int client, int64_t batch) {
  std::mt19937_64 random = RandomOf(client, batch);
  const auto count = static_cast<int64_t>(1 + random() % 8);
  std::vector<StoredRecord> records;
  for (int64_t i = 0; i < count; ++i) records.push_back(MakeRecord(client, batch, i, random));
  return records;
}

std::vector<StoredRecord> MakePoison(int client, int64_t batch) {
  const auto origin = [&](int64_t record) { return Origin(client, batch, record); };
  return {
      {0, "ledger", absl::StrCat("{", origin(0), R"(,"account":3,"amount":"many","tag":"7"})")},
      {0, "ledger", absl::StrCat("{", origin(1), R"(,"account":4,"amount":11,"tag":"seven"})")},
      {0, "ledger", absl::StrCat("{", origin(2), R"(,"account":5,"amount":12,"tag":"8"})")},
      {0, "frames", absl::StrCat("{", origin(3), R"(,"size":)")},
      {0, "frames", absl::StrCat("{", origin(4), R"(,"size":77})")},
  };
}

}  // namespace icepie::fault
