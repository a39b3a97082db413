#include "core/append/json_validation.h"

#include <gtest/gtest.h>

namespace icepie {
namespace {

struct BadCase {
  std::string text;
  size_t place;
};

TEST(JsonValidationTest, WellFormedValuesPass) {
  const std::string deep = std::string(1000, '[') + std::string(1000, ']');
  for (const std::string& text :
       {std::string("{}"), std::string("[]"), std::string("\"\""), std::string("0"),
        std::string("-0.5e-3"), std::string("true"), std::string("false"), std::string("null"),
        std::string(" {\"a\" : [1, 2 , {\"b\":null}] }\n"), std::string(R"("\u00e4\ud83d\ude00")"),
        std::string("\"ä€😀\""), std::string(R"({"a":1,"a":2})"), deep,
        // Beyond 64 bits and beyond a double, yet JSON: an amount in wei, a huge exponent.
        std::string(R"({"amount":123456789012345678901234567890})"), std::string("-1e999"),
        std::string(R"([1e400,{"n":99999999999999999999}])")}) {
    const auto defect = FindJsonDefect(text);
    EXPECT_FALSE(defect.has_value()) << text << ": " << defect->what << " at " << defect->place;
  }
}

TEST(JsonValidationTest, DefectsAreFoundAtTheirPlace) {
  for (const BadCase& bad : std::vector<BadCase>{
           {"", 0},
           {"   ", 3},
           {R"({"a":1,"b":nope})", 11},
           {R"({"a":1)", 6},
           {R"({"a" 1})", 5},
           {R"({a:1})", 1},
           {"[1,]", 3},
           {"[1 2]", 3},
           {"{\"a\":1,}", 7},
           {"1 2", 2},
           {"01", 1},
           {"1.", 2},
           {"-", 1},
           {"1e", 2},
           {"+1", 0},
           {"NaN", 0},
           {"tru", 0},
           {"'a'", 0},
           {"\"a", 2},
           {R"("\x")", 2},
           {R"("\u12g4")", 5},
           {R"("\ud83d")", 7},
           {"\"\n\"", 1},
           {"\"\xff\"", 1},
           {"\"\xc0\xaf\"", 1},
           {"\"\xed\xa0\x80\"", 1},
           {"\"\xf4\x90\x80\x80\"", 1},
           {"\"\xe2\x82\"", 1},
           {std::string("1\0", 2), 1},
           {"\xEF\xBB\xBF{}", 0},
           {"]", 0},
           {"{}}", 2},
       }) {
    const auto defect = FindJsonDefect(bad.text);
    ASSERT_TRUE(defect.has_value()) << bad.text;
    EXPECT_EQ(defect->place, bad.place) << bad.text << ": " << defect->what;
    EXPECT_FALSE(defect->what.empty());
  }
}

TEST(JsonValidationTest, DepthIsBounded) {
  const std::string open(100000, '[');
  ASSERT_TRUE(FindJsonDefect(open).has_value());
  const std::string deep = std::string(2000, '[') + std::string(2000, ']');
  const auto defect = FindJsonDefect(deep);
  ASSERT_TRUE(defect.has_value());
  EXPECT_EQ(defect->place, size_t{kJsonDepthMax});
}

}  // namespace
}  // namespace icepie
