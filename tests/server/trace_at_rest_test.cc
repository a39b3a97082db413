#include "server/record/trace_at_rest.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;

// A record of the stream payments at position 5.
class TraceAtRestTest : public ::testing::Test {
 protected:
  TraceAtRestTest() {
    record_.set_stream("payments");
    record_.set_position(5);
  }

  v1::Slice& Add(const std::string& name, const std::vector<std::string>& reads) {
    v1::Slice& slice = *slices_.add_slices();
    slice.set_name("shop." + name);
    for (const std::string& read : reads) slice.add_reads(read);
    slice.mutable_meta()->set_applied_position(10);
    slice.mutable_counts()->set_input(3);
    return slice;
  }

  // Empty: the workers have to be asked.
  std::map<std::string, v1::SliceTrace> Trace() const {
    std::map<std::string, v1::SliceTrace> traces;
    const auto is_stream = [this](const std::string& name) { return streams_.count(name) > 0; };
    for (v1::SliceTrace& trace : TraceDomainAtRest(slices_, "shop", record_, is_stream)) {
      traces[trace.slice()] = trace;
    }
    return traces;
  }

  std::set<std::string> streams_ = {"payments", "orders"};
  v1::ListSlicesResponse slices_;
  v1::Record record_;
};

TEST_F(TraceAtRestTest, WhatASliceReadsDirectlyOrThroughOthersTellsItsFate) {
  Add("paid", {"payments"});
  Add("by_day", {"paid"});
  Add("by_year", {"by_day"});
  Add("bought", {"orders"});
  Add("late", {"payments"}).mutable_meta()->set_applied_position(5);
  slices_.add_slices()->set_name("bank.paid");  // another domain's
  auto traces = Trace();
  ASSERT_EQ(traces.size(), 5U);
  EXPECT_EQ(traces["shop.paid"].fate(), v1::APPLIED);
  EXPECT_EQ(traces["shop.paid"].via(), "");
  EXPECT_EQ(traces["shop.by_year"].fate(), v1::APPLIED);
  EXPECT_EQ(traces["shop.by_year"].via(), "by_day");
  EXPECT_EQ(traces["shop.bought"].fate(), v1::NOT_READ);
  EXPECT_EQ(traces["shop.late"].fate(), v1::PENDING);
}

TEST_F(TraceAtRestTest, WhoHasLeftOutRecordsIsAsked) {
  Add("paid", {"payments"}).mutable_counts()->set_filtered(1);
  EXPECT_TRUE(Trace().empty());
}

TEST_F(TraceAtRestTest, ASliceWithTheNameOfAStreamIsAsked) {
  Add("paid", {"payments"});
  Add("orders", {"orders"});
  EXPECT_TRUE(Trace().empty());
}

TEST_F(TraceAtRestTest, SlicesWithTheNamesOfEachOthersStreamsAreAsked) {
  Add("orders", {"bills"});
  Add("bills", {"orders"});
  EXPECT_TRUE(Trace().empty());
  streams_ = {"payments"};  // also when no record of those has ever come
  EXPECT_TRUE(Trace().empty());
}

TEST_F(TraceAtRestTest, WhoReadsASliceWithTheNameOfTheRecordsStreamIsAsked) {
  Add("payments", {"orders"});
  Add("paid", {"payments"});
  EXPECT_TRUE(Trace().empty());
}

TEST_F(TraceAtRestTest, ManyWaysToTheSameSlicesTakeNoLonger) {
  Add("level0a", {"orders"});
  Add("level0b", {"orders"});
  for (int i = 1; i < 60; ++i) {
    const std::string below = "level" + std::to_string(i - 1);
    Add("level" + std::to_string(i) + "a", {below + "a", below + "b"});
    Add("level" + std::to_string(i) + "b", {below + "a", below + "b"});
  }
  EXPECT_EQ(Trace().size(), 120U);
}

}  // namespace
}  // namespace icepie::server
