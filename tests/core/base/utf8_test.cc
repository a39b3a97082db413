#include "core/base/utf8.h"

#include <gtest/gtest.h>

namespace icepie {
namespace {

TEST(Utf8Test, Characters) {
  for (const char* text : {"", "a", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf",
                           "\xee\x80\x80", "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf",
                           "Z\xc3\xbcrich \xe2\x86\x92 \xf0\x9f\xa5\xa7"}) {
    EXPECT_TRUE(IsUtf8(text)) << text;
  }
  EXPECT_TRUE(IsUtf8(absl::string_view("a\0b", 3)));
}

TEST(Utf8Test, OtherBytes) {
  for (const char* text :
       {"\x80", "\xff\xfe", "a\xc3", "\xc0\x80", "\xc1\xbf", "\xc2\x7f", "\xc2\xc0", "\xe0\x9f\xbf",
        "\xe2\x86", "\xe2\x86x", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf0\x9f\xa5",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80"}) {
    EXPECT_FALSE(IsUtf8(text)) << text;
  }
}

}  // namespace
}  // namespace icepie
