#include "base/text.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace msb {
namespace {

TEST(Text, SplitKeepsEmptyParts) {
    EXPECT_EQ(split("a,,b", ','), (std::vector<std::string_view>{"a", "", "b"}));
    EXPECT_EQ(split("", ','), (std::vector<std::string_view>{""}));
}

TEST(Text, TrimRemovesAsciiWhiteSpaceOnly) {
    EXPECT_EQ(trim(" \t a b\r\n"), "a b");
    EXPECT_EQ(trim(" \n"), "");
}

TEST(Text, QuotedEscapesLikeRustDebug) {
    EXPECT_EQ(quoted("a\"b\\c\n\x01"), "\"a\\\"b\\\\c\\n\\u{1}\"");
}

TEST(Text, ParseIntegerTakesWholeDecimalTextInRange) {
    EXPECT_EQ(parse_integer<std::uint8_t>("255"), 255);
    EXPECT_EQ(parse_integer<std::uint8_t>("+7"), 7);
    EXPECT_EQ(parse_integer<std::uint8_t>("256"), std::nullopt);
    EXPECT_EQ(parse_integer<std::uint8_t>("-1"), std::nullopt);
    EXPECT_EQ(parse_integer<std::uint8_t>("1 "), std::nullopt);
    EXPECT_EQ(parse_integer<std::uint8_t>("++1"), std::nullopt);
    EXPECT_EQ(parse_integer<std::uint8_t>(""), std::nullopt);
    EXPECT_EQ(parse_integer<std::int32_t>("-12"), -12);
}

TEST(Text, ParseIntegerErrorsAreRustsWords) {
    EXPECT_EQ(parse_integer_error<std::uint16_t>("70000"),
              "number too large to fit in target type");
    EXPECT_EQ(parse_integer_error<std::uint16_t>("1.5"), "invalid digit found in string");
    EXPECT_EQ(parse_integer_error<std::uint16_t>(""), "cannot parse integer from empty string");
}

}  // namespace
}  // namespace msb
