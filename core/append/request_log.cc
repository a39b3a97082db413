#include "core/append/request_log.h"

#include <xxhash.h>

#include <algorithm>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/status.h"
#include "core/byte_order.h"
#include "core/log/catalog_keys.h"

namespace icepie {
namespace {

constexpr uint8_t kVersion = 1;
constexpr size_t kFingerprintBytes = 16;
constexpr size_t kIdBytesMax = 128;
constexpr size_t kPositionBytes = 8;
constexpr size_t kProducerBytes = 25;
constexpr int64_t kForgottenAtOnce = 1024;
constexpr absl::Duration kProducerCheckInterval = absl::Minutes(10);

absl::Status Damaged(absl::string_view what) {
  return MakeError(absl::StatusCode::kDataLoss,
                   absl::StrCat("the catalog's entry of ", what, " is damaged"), "RECORD_DAMAGED");
}

absl::Status BadField(const std::string& field, const std::string& what) {
  return MakeError(absl::StatusCode::kInvalidArgument, absl::StrCat(field, " ", what),
                   ErrorDetail{"PARAMETER_INVALID", {}, {{field, what}}, std::nullopt});
}

bool IsVisible(char c) { return c > ' ' && c <= '~'; }

absl::Status CheckId(const std::string& field, const std::string& id) {
  if (!id.empty() && id.size() <= kIdBytesMax && std::all_of(id.begin(), id.end(), IsVisible)) {
    return absl::OkStatus();
  }
  return BadField(field, absl::StrCat("must be 1 to ", kIdBytesMax,
                                      " visible ASCII characters without spaces, e.g. a UUID; it "
                                      "has ",
                                      id.size(), " bytes"));
}

// Ids hold visible characters only, so that NUL ends one.
std::string KeyOf(const AppendIdentity& identity) {
  std::string key(kRequestKeyPrefix);
  if (identity.producer_id.empty()) return absl::StrCat(key, "i", identity.request_id);
  absl::StrAppend(&key, "s", identity.producer_id);
  key.push_back('\0');
  PutBigEndian(key, identity.epoch);
  PutBigEndian(key, identity.sequence);
  return key;
}

std::string OrderKey(int64_t position) {
  std::string key(kRequestOrderKeyPrefix);
  PutBigEndian(key, position);
  return key;
}

std::string EncodeResult(const std::string& fingerprint, const AppendResult& result) {
  std::string out;
  out.push_back(static_cast<char>(kVersion));
  out += fingerprint;
  PutLittleEndian(out, result.first_position);
  PutLittleEndian(out, result.end_position);
  PutLittleEndian(out, result.ingest_time_us);
  for (const AppendedRange& range : result.streams) {
    PutBytes(out, range.stream);
    PutVarint(out, static_cast<uint64_t>(range.first_offset));
    PutVarint(out, static_cast<uint64_t>(range.end_offset));
  }
  return out;
}

absl::Status DecodeStreams(absl::string_view in, AppendResult& result) {
  while (!in.empty()) {
    const auto stream = TakeBytes(in);
    const auto first = stream ? TakeVarint(in) : std::nullopt;
    const auto end = first ? TakeVarint(in) : std::nullopt;
    if (!end) return Damaged("a request");
    result.streams.push_back(
        {std::string(*stream), static_cast<int64_t>(*first), static_cast<int64_t>(*end)});
  }
  return absl::OkStatus();
}

absl::Status Reused(const std::string& key, const AppendResult& first) {
  const std::string position = absl::StrCat(first.first_position);
  return MakeError(absl::StatusCode::kAlreadyExists,
                   absl::StrCat(key[1] == 'i' ? "the request_id" : "the producer's sequence",
                                " was used for a batch with other records, stored from position ",
                                position, " on; nothing was stored, use a new id for a new batch"),
                   "REQUEST_ID_REUSED", {{"first_position", position}});
}

absl::Status SequenceError(absl::string_view reason, const AppendIdentity& identity,
                           const std::string& what, int64_t epoch, int64_t last_sequence) {
  return MakeError(absl::StatusCode::kFailedPrecondition,
                   absl::StrCat("producer ", identity.producer_id, ", epoch ", identity.epoch,
                                ", sequence ", identity.sequence, ": ", what),
                   reason,
                   {{"producer_id", identity.producer_id},
                    {"epoch", absl::StrCat(epoch)},
                    {"last_sequence", absl::StrCat(last_sequence)}});
}

void HashText(XXH3_state_t* state, absl::string_view text) {
  const uint64_t size = text.size();
  XXH3_128bits_update(state, &size, sizeof(size));
  XXH3_128bits_update(state, text.data(), text.size());
}

void HashNumber(XXH3_state_t* state, int64_t number) {
  XXH3_128bits_update(state, &number, sizeof(number));
}

void HashRecord(XXH3_state_t* state, const NewRecord& record) {
  HashText(state, record.stream);
  HashNumber(state, record.key ? 1 : 0);
  if (record.key) HashText(state, *record.key);
  HashText(state, record.payload);
  HashNumber(state, record.event_time_us ? 1 : 0);
  HashNumber(state, record.event_time_us.value_or(0));
  HashNumber(state, static_cast<int64_t>(record.headers.size()));
  for (const RecordHeader& header : record.headers) {
    HashText(state, header.name);
    HashText(state, header.value);
  }
}

}  // namespace

absl::Status CheckIdentity(const AppendIdentity& identity) {
  if (identity.producer_id.empty()) return CheckId("request_id", identity.request_id);
  ICEPIE_RETURN_IF_ERROR(CheckId("producer.producer_id", identity.producer_id));
  if (identity.epoch < 0) return BadField("producer.epoch", "must not be negative");
  if (identity.sequence < 0) return BadField("producer.sequence", "must not be negative");
  return absl::OkStatus();
}

std::string FingerprintOf(const AppendBatch& batch) {
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> owner(XXH3_createState(),
                                                                       &XXH3_freeState);
  XXH3_state_t* const state = owner.get();
  ICEPIE_CHECK(state != nullptr && XXH3_128bits_reset(state) == XXH_OK);
  for (const NewRecord& record : batch.records) HashRecord(state, record);
  for (const AppendCondition& condition : batch.conditions) {
    HashText(state, condition.stream);
    HashNumber(state, static_cast<int64_t>(condition.kind));
    HashNumber(state, condition.end_offset);
  }
  const XXH128_hash_t hash = XXH3_128bits_digest(state);
  std::string out;
  PutLittleEndian(out, static_cast<uint64_t>(hash.low64));
  PutLittleEndian(out, static_cast<uint64_t>(hash.high64));
  return out;
}

absl::StatusOr<std::unique_ptr<RequestLog>> RequestLog::Load(const LogStore& store,
                                                             const Limits& limits, Clock clock) {
  auto log = absl::WrapUnique(new RequestLog(store, limits, std::move(clock)));
  ICEPIE_RETURN_IF_ERROR(log->LoadProducers());
  ICEPIE_RETURN_IF_ERROR(log->LoadOrder());
  log->age_us_ = log->loaded_age_us_;
  return log;
}

absl::Status RequestLog::LoadProducers() {
  ICEPIE_ASSIGN_OR_RETURN(const auto entries, store_->ScanCatalog(kProducerKeyPrefix));
  for (const auto& [key, value] : entries) {
    const std::string id = key.substr(kProducerKeyPrefix.size());
    if (value.size() != kProducerBytes || static_cast<uint8_t>(value[0]) != kVersion) {
      return Damaged(absl::StrCat("producer ", id));
    }
    producers_[id] = {GetLittleEndian<int64_t>(value.data() + 1),
                      GetLittleEndian<int64_t>(value.data() + 9),
                      GetLittleEndian<int64_t>(value.data() + 17)};
    loaded_age_us_ = std::max(loaded_age_us_, producers_[id].last_age_us);
  }
  return absl::OkStatus();
}

absl::Status RequestLog::LoadOrder() {
  absl::Status status;
  const absl::Status visited = store_->VisitCatalog(
      kRequestOrderKeyPrefix, kRequestOrderKeyPrefix,
      [&](absl::string_view key, absl::string_view value) {
        if (key.size() != kRequestOrderKeyPrefix.size() + kPositionBytes || value.size() < 8) {
          status = Damaged("the order of requests");
          return false;
        }
        const auto age_us = GetLittleEndian<int64_t>(value.data());
        if (count_++ == 0) {
          oldest_position_ = GetBigEndian<int64_t>(key.data() + kRequestOrderKeyPrefix.size());
          oldest_age_us_ = age_us;
        }
        loaded_age_us_ = std::max(loaded_age_us_, age_us);
        return true;
      });
  ICEPIE_RETURN_IF_ERROR(visited);
  return status;
}

absl::StatusOr<std::optional<RequestLog::Known>> RequestLog::FindKey(
    const std::string& key, const std::string& fingerprint) const {
  Known known;
  std::string first;
  if (const auto found = group_.find(key); found != group_.end()) {
    known.result = found->second.result;
    first = found->second.fingerprint;
  } else {
    ICEPIE_ASSIGN_OR_RETURN(const std::optional<std::string> value, store_->ReadCatalog(key));
    if (!value) return std::nullopt;
    constexpr size_t kFixedBytes = 1 + kFingerprintBytes + 3 * 8;
    if (value->size() < kFixedBytes || static_cast<uint8_t>((*value)[0]) != kVersion) {
      return Damaged("a request");
    }
    const char* numbers = value->data() + 1 + kFingerprintBytes;
    known.committed = true;
    known.result.first_position = GetLittleEndian<int64_t>(numbers);
    known.result.end_position = GetLittleEndian<int64_t>(numbers + 8);
    known.result.ingest_time_us = GetLittleEndian<int64_t>(numbers + 16);
    ICEPIE_RETURN_IF_ERROR(
        DecodeStreams(absl::string_view(*value).substr(kFixedBytes), known.result));
    first = value->substr(1, kFingerprintBytes);
  }
  if (first != fingerprint) return Reused(key, known.result);
  known.result.replayed = true;
  return known;
}

absl::Status RequestLog::CheckProducer(const AppendIdentity& identity) {
  const auto found = producers_.find(identity.producer_id);
  const Producer last = found == producers_.end() ? Producer{-1, -1, 0} : found->second;
  if (identity.epoch < last.epoch) {
    return SequenceError("PRODUCER_FENCED", identity,
                         absl::StrCat("a later one of its name has begun epoch ", last.epoch,
                                      "; this one must stop"),
                         last.epoch, last.last_sequence);
  }
  const int64_t next = identity.epoch == last.epoch ? last.last_sequence + 1 : 0;
  if (identity.sequence > next) {
    return SequenceError("SEQUENCE_GAP", identity,
                         absl::StrCat("the next sequence is ", next,
                                      "; send what is missing first, or begin a new epoch at 0"),
                         last.epoch, last.last_sequence);
  }
  if (identity.sequence < next) {
    return SequenceError("SEQUENCE_FORGOTTEN", identity,
                         "it was stored, but so long ago that its answer is no longer kept; go on "
                         "with the next sequence",
                         last.epoch, last.last_sequence);
  }
  if (found == producers_.end() &&
      static_cast<int64_t>(producers_.size()) >= limits_.producers_max) {
    return MakeError(absl::StatusCode::kResourceExhausted,
                     absl::StrCat(limits_.producers_max,
                                  " producers are known, which is the most; use the ids of old "
                                  "ones with a new epoch, or request_id"),
                     "TOO_MANY_PRODUCERS");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<RequestLog::Known>> RequestLog::Find(const AppendIdentity& identity,
                                                                  const std::string& fingerprint) {
  ICEPIE_ASSIGN_OR_RETURN(std::optional<Known> known, FindKey(KeyOf(identity), fingerprint));
  if (known || identity.producer_id.empty()) return known;
  ICEPIE_RETURN_IF_ERROR(CheckProducer(identity));
  return std::nullopt;
}

void RequestLog::Add(const AppendIdentity& identity, const std::string& fingerprint,
                     const AppendResult& result) {
  const std::string key = KeyOf(identity);
  group_[key] = {fingerprint, result};
  age_us_ = loaded_age_us_ + absl::ToInt64Microseconds(clock_() - begin_);
  if (count_++ == 0) {
    oldest_position_ = result.first_position;
    oldest_age_us_ = age_us_;
  }
  changes_.emplace_back(key, EncodeResult(fingerprint, result));
  std::string order;
  PutLittleEndian(order, age_us_);
  changes_.emplace_back(OrderKey(result.first_position), order + key);
  if (identity.producer_id.empty()) return;
  producers_[identity.producer_id] = {identity.epoch, identity.sequence, age_us_};
  std::string producer;
  producer.push_back(static_cast<char>(kVersion));
  PutLittleEndian(producer, identity.epoch);
  PutLittleEndian(producer, identity.sequence);
  PutLittleEndian(producer, age_us_);
  changes_.emplace_back(absl::StrCat(kProducerKeyPrefix, identity.producer_id), producer);
}

bool RequestLog::IsDue(int64_t age_us, int64_t count) const {
  return count > limits_.count_max || age_us < age_us_ - absl::ToInt64Microseconds(limits_.age_max);
}

absl::Status RequestLog::ForgetOld(std::vector<LogStore::CatalogChange>& changes) {
  if (count_ == 0 || !IsDue(oldest_age_us_, count_)) return absl::OkStatus();
  // More than one group adds, so that the bounds are met again; not so many that it would wait.
  int64_t left = kForgottenAtOnce + 2 * static_cast<int64_t>(group_.size());
  return store_->VisitCatalog(
      kRequestOrderKeyPrefix, OrderKey(oldest_position_),
      [&](absl::string_view key, absl::string_view value) {
        oldest_position_ = GetBigEndian<int64_t>(key.data() + kRequestOrderKeyPrefix.size());
        oldest_age_us_ = GetLittleEndian<int64_t>(value.data());
        if (left-- == 0 || !IsDue(oldest_age_us_, count_)) return false;
        changes.emplace_back(std::string(key), std::nullopt);
        changes.emplace_back(std::string(value.substr(8)), std::nullopt);
        --count_;
        return true;
      });
}

void RequestLog::ForgetProducers(std::vector<LogStore::CatalogChange>& changes) {
  if (age_us_ - producers_checked_us_ < absl::ToInt64Microseconds(kProducerCheckInterval)) return;
  producers_checked_us_ = age_us_;
  const int64_t oldest = age_us_ - absl::ToInt64Microseconds(limits_.producer_age_max);
  for (auto producer = producers_.begin(); producer != producers_.end();) {
    if (producer->second.last_age_us >= oldest) {
      ++producer;
      continue;
    }
    changes.emplace_back(absl::StrCat(kProducerKeyPrefix, producer->first), std::nullopt);
    producer = producers_.erase(producer);
  }
}

absl::StatusOr<std::vector<LogStore::CatalogChange>> RequestLog::TakeChanges() {
  std::vector<LogStore::CatalogChange> changes;
  if (!group_.empty()) {
    // Deletions before additions: a forgotten id may have been used again in this group.
    ICEPIE_RETURN_IF_ERROR(ForgetOld(changes));
    ForgetProducers(changes);
    changes.insert(changes.end(), std::make_move_iterator(changes_.begin()),
                   std::make_move_iterator(changes_.end()));
  }
  changes_.clear();
  group_.clear();
  return changes;
}

}  // namespace icepie
