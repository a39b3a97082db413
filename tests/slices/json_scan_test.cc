#include "slices/reading/json_scan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <random>

#include "absl/strings/str_cat.h"

namespace icepie::slices {
namespace {

using ::testing::HasSubstr;

// What another strict parser says; nothing about numbers beyond a double, which it refuses.
std::optional<bool> OtherParserTakes(const std::string& text) {
  try {
    return !nlohmann::json::parse(text).is_discarded();
  } catch (const nlohmann::json::out_of_range&) {
    return std::nullopt;
  } catch (const nlohmann::json::parse_error&) {
    return false;
  }
}

// The text without anything readable behind it, so that the address sanitizer sees reads beyond.
bool Scans(JsonScanner& scanner, const std::string& text) {
  const std::vector<char> bytes(text.begin(), text.end());
  return scanner.Scan(absl::string_view(bytes.data(), bytes.size()));
}

std::string Error(const std::string& text) {
  JsonScanner scanner;
  EXPECT_FALSE(scanner.Scan(text)) << text;
  return scanner.error();
}

TEST(JsonScanTest, TakesWellFormedText) {
  for (const std::string text :
       {"{}", "[]", " {\"a\" : [ 1 , 2.5e-3 , -0 , true , false , null , \"x\" ] } \n", "1", "\"\"",
        "123456789012345678901234567890", "1e999",
        "\"\\ud83c\\udf70 \\u00e9 \\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"Zürich 東京 🍰\"", "[[[[{}]]]]",
        "-1.5E+10"}) {
    JsonScanner scanner;
    EXPECT_TRUE(Scans(scanner, text)) << text << ": " << scanner.error();
  }
}

TEST(JsonScanTest, RefusesEverythingElse) {
  for (const std::string& text : std::vector<std::string>{"",
                                                          " ",
                                                          "{",
                                                          "[",
                                                          "{\"a\"}",
                                                          "{\"a\":}",
                                                          "{\"a\":1,}",
                                                          "{a:1}",
                                                          "{'a':1}",
                                                          "[1,]",
                                                          "[1 2]",
                                                          "{\"a\":1 \"b\":2}",
                                                          "01",
                                                          "-",
                                                          "+1",
                                                          ".5",
                                                          "1.",
                                                          "1e",
                                                          "1e+",
                                                          "0x10",
                                                          "NaN",
                                                          "Infinity",
                                                          "nul",
                                                          "True",
                                                          "truex",
                                                          "1 2",
                                                          "{} {}",
                                                          "\"a",
                                                          "\"\\x\"",
                                                          "\"\\u12\"",
                                                          "\"\\u12g4\"",
                                                          "\"\\ud83c\"",
                                                          "\"\\ud83cx\"",
                                                          "\"\\ud83c\\u0041\"",
                                                          "\"\\udf70\"",
                                                          "\"tab\there\"",
                                                          "\"line\nbreak\"",
                                                          std::string("\"\0\"", 3),
                                                          "\"\xFF\"",
                                                          "\"\xC0\xAF\"",
                                                          "\"\xED\xA0\x80\"",
                                                          "\"cut \xE6\x9D\"",
                                                          "\xEF\xBB\xBF{}",
                                                          "// comment\n1",
                                                          "{\"a\":1}x",
                                                          "]",
                                                          "}",
                                                          ",",
                                                          ":",
                                                          "\\"}) {
    JsonScanner scanner;
    EXPECT_FALSE(Scans(scanner, text)) << text;
  }
}

TEST(JsonScanTest, SaysWhatAndWhere) {
  EXPECT_EQ(Error(""), "byte 0: a value is missing");
  EXPECT_EQ(Error("{\"a\" 1}"), "byte 5: expected ':'");
  EXPECT_EQ(Error("{\"a\":nope}"), "byte 5: expected a value");
  EXPECT_EQ(Error("{} x"), "byte 3: unexpected text after the value");
  EXPECT_THAT(Error("\"\xFF\""), HasSubstr("not UTF-8"));
}

TEST(JsonScanTest, BoundsTheDepth) {
  JsonScanner scanner;
  const std::string open(kJsonDepthMax, '[');
  const std::string close(kJsonDepthMax, ']');
  EXPECT_TRUE(scanner.Scan(open + close));
  EXPECT_FALSE(scanner.Scan("[" + open + close + "]"));
  EXPECT_THAT(scanner.error(), HasSubstr("deeper than 1024"));
  EXPECT_FALSE(scanner.Scan(std::string(1'000'000, '[')));
}

// Whatever happens to a text, this scanner and another strict parser agree on it.
TEST(JsonScanTest, AgreesWithAnotherParserOnDamagedText) {
  const std::vector<std::string> texts = {
      R"({"date":"2001-01-01 00:01:00","delay":33,"distance":2176,"origin":"LAS","destination":"PHL"})",
      R"({"a":[1,-2.5e+10,0,{"b":null}],"c":true,"d":false,"e":{},"f":[],"g":"\u00e9\n\\"})",
      "[\"Z\u00fcrich \u6771\u4eac\",\"\\ud83c\\udf70\",123456789012345678901234567890]"};
  const std::string alphabet = "{}[]:,\"\\0123456789.eE+-truefalsn u\x80\xC3\xFF\x1F";
  std::mt19937 random(20261122);
  int well_formed = 0;
  JsonScanner scanner;
  scanner.AddPath({"a"});
  scanner.AddPath({"origin"});
  for (int round = 0; round < 60'000; ++round) {
    std::string text = texts[round % texts.size()];
    const int edits = 1 + static_cast<int>(random() % 2);
    for (int i = 0; i < edits; ++i) {
      const size_t at = random() % text.size();
      const char c = alphabet[random() % alphabet.size()];
      if (random() % 3 == 0) {
        text.erase(at, 1);
      } else if (random() % 2 == 0) {
        text.insert(at, 1, c);
      } else {
        text[at] = c;
      }
    }
    const std::optional<bool> expected = OtherParserTakes(text);
    if (!expected) continue;
    ASSERT_EQ(Scans(scanner, text), *expected) << text << ": " << scanner.error();
    well_formed += *expected ? 1 : 0;
  }
  EXPECT_GT(well_formed, 1000);
}

TEST(JsonScanTest, PicksUpValuesAsWritten) {
  JsonScanner scanner;
  const int all = scanner.AddPath({});
  const int value = scanner.AddPath({"amount", "value"});
  const int amount = scanner.AddPath({"amount"});
  const int name = scanner.AddPath({"a rather long key"});
  const int absent = scanner.AddPath({"x"});
  EXPECT_EQ(scanner.AddPath({"amount", "value"}), value);
  const std::string text =
      R"({"skip":{"amount":1},"amount":{"value":1.50e1,"x":2},"a rather long \u006bey":"a\"b"})";
  ASSERT_TRUE(scanner.Scan(text));
  EXPECT_EQ(scanner.value(all).text, text);
  EXPECT_EQ(scanner.value(value).kind, JsonKind::kNumber);
  EXPECT_EQ(scanner.value(value).text, "1.50e1");
  EXPECT_EQ(scanner.value(amount).kind, JsonKind::kObject);
  EXPECT_EQ(scanner.value(amount).text, R"({"value":1.50e1,"x":2})");
  EXPECT_EQ(scanner.value(name).kind, JsonKind::kString);
  EXPECT_TRUE(scanner.value(name).escaped);
  EXPECT_EQ(scanner.value(name).raw(), R"("a\"b")");
  EXPECT_EQ(scanner.value(absent).kind, JsonKind::kMissing);
  ASSERT_TRUE(scanner.Scan(R"({"x":null,"amount":null})"));
  EXPECT_EQ(scanner.value(absent).kind, JsonKind::kNull);
  EXPECT_EQ(scanner.value(value).kind, JsonKind::kMissing);
  EXPECT_EQ(scanner.value(name).kind, JsonKind::kMissing);
}

TEST(JsonScanTest, SaysWhenTheWayIsNoObject) {
  JsonScanner scanner;
  const int value = scanner.AddPath({"a", "b", "c"});
  for (const std::string way : {"5", "[{\"b\":{\"c\":1}}]", "\"b\"", "true"}) {
    const std::string text = absl::StrCat("{\"a\":", way, "}");
    ASSERT_TRUE(scanner.Scan(text));
    EXPECT_EQ(scanner.value(value).kind, JsonKind::kNotAnObject) << way;
    EXPECT_EQ(scanner.value(value).text, way);
  }
  const std::string array = R"([{"a":{"b":{"c":1}}}])";
  ASSERT_TRUE(scanner.Scan(array));
  EXPECT_EQ(scanner.value(value).kind, JsonKind::kNotAnObject);
  ASSERT_TRUE(scanner.Scan(R"({"a":{"b":null}})"));
  EXPECT_EQ(scanner.value(value).kind, JsonKind::kMissing);
}

TEST(JsonScanTest, SaysWhenAKeyOccursTwice) {
  JsonScanner scanner;
  const int value = scanner.AddPath({"a", "b"});
  for (const std::string text :
       {R"({"a":{"b":1,"b":1}})", R"({"a":{"b":1},"a":{"b":2}})", R"({"a":{"b":1},"a":5})",
        R"({"a":{},"a":{"b":1}})", R"({"a":{"b":1},"\u0061":{}})", R"({"a":null,"a":{"b":1}})"}) {
    ASSERT_TRUE(scanner.Scan(text)) << text;
    EXPECT_EQ(scanner.value(value).kind, JsonKind::kDuplicate) << text;
  }
  ASSERT_TRUE(scanner.Scan(R"({"x":1,"x":2,"a":{"y":1,"y":2,"b":3}})"));
  EXPECT_EQ(scanner.value(value).text, "3");
}

TEST(JsonScanTest, Unescapes) {
  std::string text;
  UnescapeJson(R"(a\"\\\/\b\f\n\r\t\u0041\u00e9\u6771\ud83c\udf70z)", text);
  EXPECT_EQ(text, "a\"\\/\b\f\n\r\tA\u00e9\u6771\U0001F370z");
}

}  // namespace
}  // namespace icepie::slices
