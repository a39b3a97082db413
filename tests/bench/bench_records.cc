#include "tests/bench/bench_records.h"

#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/check.h"
#include "tests/slices/nexmark_events.h"

namespace icepie::bench {
namespace {

constexpr int64_t kRecords = 20000;

std::string Hex(std::mt19937_64& random, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += "0123456789abcdef"[random() % 16];
  return text;
}

std::vector<BenchRecord> Make(RecordKind kind) {
  std::vector<BenchRecord> records;
  if (kind == RecordKind::kTransfer) {
    for (uint64_t i = 0; i < kRecords; ++i) records.push_back({"bench", MakeTransfer(i)});
    return records;
  }
  slices::NexmarkGenerator generator(20261127);
  for (int64_t i = 0; i < kRecords; ++i) {
    for (auto& [stream, payloads] : generator.Next(1)) {
      for (std::string& payload : payloads) records.push_back({stream, std::move(payload)});
    }
  }
  return records;
}

}  // namespace

std::string MakeTransfer(uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string payload = absl::StrFormat(
      R"({"type":"transfer","id":"%s","from":"0x%s","to":"0x%s","amount":"%d.%02d","currency":"EUR","at":"2026-11-%02dT%02d:%02d:%02dZ"})",
      Hex(random, 12), Hex(random, 16), Hex(random, 16), random() % 100000, random() % 100,
      1 + random() % 28, random() % 24, random() % 60, random() % 60);
  ICEPIE_CHECK(payload.size() <= 190);
  payload.insert(payload.size() - 1,
                 absl::StrCat(R"(,"n":")", std::string(200 - payload.size() - 7, 'x'), "\""));
  ICEPIE_CHECK(payload.size() == 200);
  return payload;
}

const std::vector<BenchRecord>& Records(RecordKind kind) {
  if (kind == RecordKind::kTransfer) {
    static const auto* const transfers = new std::vector<BenchRecord>(Make(kind));
    return *transfers;
  }
  static const auto* const nexmark = new std::vector<BenchRecord>(Make(RecordKind::kNexmark));
  return *nexmark;
}

std::vector<std::string> StreamsOf(RecordKind kind) {
  if (kind == RecordKind::kTransfer) return {"bench"};
  return {"person", "auction", "bid"};
}

double MeanPayloadBytes(RecordKind kind) {
  double bytes = 0;
  for (const BenchRecord& record : Records(kind)) {
    bytes += static_cast<double>(record.payload.size());
  }
  return bytes / static_cast<double>(Records(kind).size());
}

const char* NameOf(RecordKind kind) {
  return kind == RecordKind::kTransfer ? "transfer" : "nexmark";
}

}  // namespace icepie::bench
