// Events of the Nexmark benchmark, after the published definition of their fields: persons,
// auctions and bids of an auction house, 1, 3 and 46 of 50. Equal seeds make equal events.
#ifndef ICEPIE_TESTS_SLICES_NEXMARK_EVENTS_H_
#define ICEPIE_TESTS_SLICES_NEXMARK_EVENTS_H_

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace icepie::slices {

// By stream (person, auction, bid), in order.
using NexmarkEvents = std::map<std::string, std::vector<std::string>>;

class NexmarkGenerator {
 public:
  explicit NexmarkGenerator(uint64_t seed) : random_(seed) {}

  // The next `count` events, as JSON.
  NexmarkEvents Next(int64_t count);

 private:
  int64_t Below(int64_t end) {
    return static_cast<int64_t>(random_() % static_cast<uint64_t>(end));
  }
  std::string Letters(int64_t length_max);
  // Mostly one of the newest ids, of those below `end`.
  int64_t Recent(int64_t end, int64_t newest);
  int64_t Price();
  std::string Person(int64_t id);
  std::string Auction(int64_t id);
  std::string Bid();

  std::mt19937_64 random_;
  int64_t events_ = 0;
  int64_t persons_ = 0;
  int64_t auctions_ = 0;
  int64_t time_ms_ = 0;
};

}  // namespace icepie::slices

#endif  // ICEPIE_TESTS_SLICES_NEXMARK_EVENTS_H_
