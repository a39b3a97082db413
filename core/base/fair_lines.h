// What waits for its turn, of many who send it to many places: whoever sends a lot waits for
// himself, whether he sends it all to one place or a little to each of a thousand, and so does a
// place that many send to.
//
// Things stand in lines, one for each pair of a sender and a place (an append: a connection and a
// stream). Lines stand in groups: those of a sender of whom more waits than for the place, or those
// of a place for which more waits than of the sender. Groups take turns by bytes, and so do the
// lines within a group (deficit round robin).
#ifndef ICEPIE_CORE_BASE_FAIR_LINES_H_
#define ICEPIE_CORE_BASE_FAIR_LINES_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <utility>

#include "core/base/check.h"

namespace icepie {

// Where a thing waits. Different ones may share a number: they then share turns.
struct LinePlace {
  uint64_t sender = 0;  // 0: those of whom nothing is known are one
  uint64_t place = 0;

  bool operator<(const LinePlace& other) const {
    return std::pair(sender, place) < std::pair(other.sender, other.place);
  }
};

// Threads: none; the caller's.
template <typename Item>
class FairLines {
 public:
  struct Waiting {
    int64_t bytes = 0;
    size_t count = 0;
  };

  // Those of one sender for one place keep their order.
  void Add(const LinePlace& at, int64_t bytes, Item item);

  // The one whose turn it is; not while nothing waits.
  Item Take();

  Waiting WaitingOf(uint64_t sender) const { return Of(by_sender_, sender); }
  Waiting WaitingFor(uint64_t place) const { return Of(by_place_, place); }
  // The part of `whole` that may be used before one more is refused there: all of it while less
  // than an eighth waits of the sender and for the place, a sixteenth less for each of the two of
  // which more does. `Waiting::bytes` or `Waiting::count` is what counts.
  template <typename Amount>
  Amount RoomAt(const LinePlace& at, Amount whole, Amount Waiting::*counted) const;
  size_t count() const { return count_; }
  bool empty() const { return count_ == 0; }

 private:
  static constexpr int64_t kTurnBytes = int64_t{64} << 10;

  struct Entry {
    int64_t bytes = 0;
    Item item;
  };
  using GroupKey = std::pair<bool, uint64_t>;  // whether of a place; which
  struct Line {
    std::deque<Entry> items;
    GroupKey group;
    int64_t credit = 0;
    bool in_turn = false;
  };
  struct Group {
    std::deque<LinePlace> turns;  // of its lines
    int64_t credit = 0;
    bool in_turn = false;
  };

  // The line whose first item is next.
  Line& Next();
  void Join(const LinePlace& at, Line& line);
  void Leave(const LinePlace& at, Line& line);
  static const Waiting& Of(const std::map<uint64_t, Waiting>& waiting, uint64_t key);
  static void Count(std::map<uint64_t, Waiting>& waiting, uint64_t key, int64_t bytes, int count);

  // Each has only what waits.
  std::map<LinePlace, Line> lines_;
  std::map<GroupKey, Group> groups_;
  std::deque<GroupKey> turns_;
  std::map<uint64_t, Waiting> by_sender_;
  std::map<uint64_t, Waiting> by_place_;
  size_t count_ = 0;
};

template <typename Item>
const typename FairLines<Item>::Waiting& FairLines<Item>::Of(
    const std::map<uint64_t, Waiting>& waiting, uint64_t key) {
  static const Waiting none;
  const auto found = waiting.find(key);
  return found == waiting.end() ? none : found->second;
}

template <typename Item>
void FairLines<Item>::Count(std::map<uint64_t, Waiting>& waiting, uint64_t key, int64_t bytes,
                            int count) {
  const auto found = waiting.try_emplace(key).first;
  found->second.bytes += bytes;
  found->second.count += static_cast<size_t>(count);  // -1 wraps round to one less
  if (found->second.count == 0) waiting.erase(found);
}

template <typename Item>
void FairLines<Item>::Add(const LinePlace& at, int64_t bytes, Item item) {
  Line& line = lines_[at];
  if (line.items.empty()) Join(at, line);
  line.items.push_back({bytes, std::move(item)});
  Count(by_sender_, at.sender, bytes, 1);
  Count(by_place_, at.place, bytes, 1);
  ++count_;
}

template <typename Item>
void FairLines<Item>::Join(const LinePlace& at, Line& line) {
  const bool of_place = Of(by_place_, at.place).bytes > Of(by_sender_, at.sender).bytes;
  line.group = {of_place, of_place ? at.place : at.sender};
  Group& group = groups_[line.group];
  if (group.turns.empty()) turns_.push_back(line.group);
  group.turns.push_back(at);
}

template <typename Item>
typename FairLines<Item>::Line& FairLines<Item>::Next() {
  ICEPIE_CHECK(count_ > 0);
  while (true) {
    Group& group = groups_.at(turns_.front());
    if (!group.in_turn) group.credit += kTurnBytes;
    group.in_turn = true;
    Line& line = lines_.at(group.turns.front());
    if (!line.in_turn) line.credit += kTurnBytes;
    line.in_turn = true;
    const int64_t bytes = line.items.front().bytes;
    if (bytes > line.credit) {
      line.in_turn = false;
      group.turns.push_back(group.turns.front());
      group.turns.pop_front();
    } else if (bytes > group.credit) {
      group.in_turn = false;
      turns_.push_back(turns_.front());
      turns_.pop_front();
    } else {
      return line;
    }
  }
}

template <typename Item>
Item FairLines<Item>::Take() {
  Line& line = Next();
  Group& group = groups_.at(line.group);
  const LinePlace at = group.turns.front();
  Entry entry = std::move(line.items.front());
  line.items.pop_front();
  line.credit -= entry.bytes;
  group.credit -= entry.bytes;
  Count(by_sender_, at.sender, -entry.bytes, -1);
  Count(by_place_, at.place, -entry.bytes, -1);
  --count_;
  if (line.items.empty()) Leave(at, line);
  return std::move(entry.item);
}

// The line is the first of the first group. What credit it has left is void.
template <typename Item>
void FairLines<Item>::Leave(const LinePlace& at, Line& line) {
  Group& group = groups_.at(line.group);
  group.turns.pop_front();
  if (group.turns.empty()) {
    groups_.erase(line.group);
    turns_.pop_front();
  }
  lines_.erase(at);
}

template <typename Item>
template <typename Amount>
Amount FairLines<Item>::RoomAt(const LinePlace& at, Amount whole, Amount Waiting::*counted) const {
  const bool much_of_sender = WaitingOf(at.sender).*counted >= whole / 8;
  const bool much_for_place = WaitingFor(at.place).*counted >= whole / 8;
  const Amount reserved = whole / 16;
  return whole - (much_of_sender ? reserved : 0) - (much_for_place ? reserved : 0);
}

}  // namespace icepie

#endif  // ICEPIE_CORE_BASE_FAIR_LINES_H_
