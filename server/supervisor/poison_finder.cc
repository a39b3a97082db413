#include "server/supervisor/poison_finder.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace icepie::server {
namespace {

using slices::Activity;
using slices::FlightNote;

// A probe divides what is suspected into so many parts.
constexpr int64_t kParts = 64;

// The work of slices that was under way: what is blamed first, then what changes most.
const FlightNote* PickNote(const std::vector<FlightNote>& notes) {
  const FlightNote* picked = nullptr;
  const auto rank = [](const FlightNote& note) {
    if (note.blamed) return 0;
    return note.activity == Activity::kApply ? 1 : note.activity == Activity::kOpen ? 2 : 3;
  };
  for (const FlightNote& note : notes) {
    // A query that is blamed explains the death.
    if (note.activity == Activity::kQuery && note.blamed) return nullptr;
    if (note.activity == Activity::kQuery) continue;
    if (picked == nullptr || rank(note) < rank(*picked)) picked = &note;
  }
  return picked;
}

// "volume/7" of it and of its expectation "volume/7/small".
std::string GenerationIn(const std::string& subject) {
  const std::vector<absl::string_view> parts = absl::StrSplit(subject, '/');
  return absl::StrJoin(parts.begin(), parts.begin() + std::min<size_t>(2, parts.size()), "/");
}

// A probe is part of the recompute in front of which it is made.
Activity WorkOf(const FlightNote& note) {
  return note.activity == Activity::kProbe ? Activity::kRecompute : note.activity;
}

bool IsOverRecords(Activity activity) {
  return activity == Activity::kApply || activity == Activity::kRecompute;
}

std::string WorkName(Activity activity, const std::string& subject) {
  switch (activity) {
    case Activity::kCheck:
      return absl::StrCat("checking its expectation ", subject.substr(subject.rfind('/') + 1));
    case Activity::kOpen:
      return "opening its state";
    case Activity::kRecompute:
      return "recomputing it";
    case Activity::kSave:
      return "saving it";
    default:
      return "applying records to it";
  }
}

}  // namespace

void PoisonFinder::Forget() { *this = PoisonFinder(); }

void PoisonFinder::Forget(const std::string& slice) {
  EraseGenerationsOf(slice, found_);
  EraseGenerationsOf(slice, known_);
  if (generation_.compare(0, slice.size() + 1, slice + "/") == 0) generation_.clear();
}

void PoisonFinder::Suspect(const FlightNote& note) {
  generation_ = GenerationIn(note.subject);
  subject_ = note.subject;
  activity_ = WorkOf(note);
  deaths_ = known_[generation_];
  blamed_ = 0;
  probes_ = 0;
  begin_ = note.begin;
  end_ = activity_ == Activity::kRecompute ? note.end : std::max(note.end, note.begin + 1);
  records_ = 0;
}

// False: it was at other records, so none of the former ones can be it.
bool PoisonFinder::Narrow(const FlightNote& note) {
  if (generation_.empty() || note.subject != subject_ || WorkOf(note) != activity_) return false;
  if (!IsOverRecords(activity_)) return true;
  const int64_t begin = std::max(begin_, note.begin);
  const int64_t end = std::min(end_, note.end);
  // Tried without any.
  const bool none = note.begin == note.end && begin == end;
  if (begin >= end && !none) return false;
  narrowed_ = begin > begin_ || end < end_;
  begin_ = begin;
  end_ = end;
  return true;
}

PoisonVerdict PoisonFinder::OnDeath(absl::Time now, const std::vector<FlightNote>& notes) {
  const FlightNote* note = PickNote(notes);
  if (note == nullptr) return {};
  if (now - last_ > kWindow || !Narrow(*note)) Suspect(*note);
  last_ = now;
  alone_ = note->activity == Activity::kProbe;
  ++deaths_;
  blamed_ += note->blamed ? 1 : 0;
  if (deaths_ < kDeaths && blamed_ < kBlamedDeaths) return {};
  return Judge();
}

PoisonVerdict PoisonFinder::Judge() {
  PoisonVerdict verdict;
  verdict.generation = generation_;
  std::set<int64_t>& found = found_[generation_];
  const bool too_many = found.size() >= kRecordsMax || probes_ >= kProbesMax;
  const bool one = end_ - begin_ == 1;
  // No part of them did so: all together do, or what else it reads.
  const bool together = activity_ == Activity::kRecompute &&
                        (end_ <= begin_ || (records_ > 0 && !narrowed_ && !alone_));
  // It does so without the record, too.
  const bool in_vain = one && found.count(begin_) > 0;
  if (!IsOverRecords(activity_) || too_many || together || in_vain) {
    verdict.kind = PoisonVerdict::kSlice;
    verdict.why = absl::StrCat(
        WorkName(activity_, subject_), " ended the worker ", deaths_, " times in a row",
        in_vain         ? absl::StrCat(", also without the record at position ", begin_)
        : found.empty() ? ""
                        : ", and more records than can be left out do so");
    known_[generation_] = kDeaths - 1;  // when it is tried again
    generation_.clear();
    return verdict;
  }
  // What follows another slice has few records at a time, often none of its own. Only a probe tells
  // whether it does so without them, and whether it does without others.
  const bool tried = activity_ != Activity::kRecompute || alone_;
  if (one && tried) {
    verdict.kind = PoisonVerdict::kRecord;
    verdict.position = begin_;
    found.insert(begin_);
    known_[generation_] = kDeaths - 2;  // should there be another
    generation_.clear();
    return verdict;
  }
  ++probes_;
  const int64_t part = std::max<int64_t>(1, (end_ - begin_) / kParts);
  // What did not narrow it down was too coarse for the few records in the range.
  records_ = records_ == 0 ? part : std::max<int64_t>(1, std::min(part, records_ / kParts));
  verdict.kind = PoisonVerdict::kProbe;
  verdict.begin = begin_;
  verdict.end = end_;
  verdict.records = records_;
  return verdict;
}

}  // namespace icepie::server
