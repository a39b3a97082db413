// The feed of a domain file's tests, fed with payloads.
#ifndef ICEPIE_TESTS_SLICES_MEMORY_FEED_H_
#define ICEPIE_TESTS_SLICES_MEMORY_FEED_H_

#include <string>
#include <vector>

#include "slices/fixture_feed.h"

namespace icepie::slices {

class MemoryFeed : public FixtureFeed {
 public:
  // Appends payloads as one block at the next positions; returns the new head.
  int64_t Append(const std::string& stream, const std::vector<std::string>& payloads,
                 int64_t ingest_time_us = 1'000'000) {
    std::vector<NewRecord> records(payloads.size());
    for (size_t i = 0; i < payloads.size(); ++i) {
      records[i].stream = stream;
      records[i].payload = payloads[i];
    }
    return FixtureFeed::Append(stream, records, ingest_time_us);
  }
};

}  // namespace icepie::slices

#endif  // ICEPIE_TESTS_SLICES_MEMORY_FEED_H_
