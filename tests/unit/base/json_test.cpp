#include "base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace msb::json {
namespace {

std::string parse_failure(std::string_view text) {
    try {
        parse(text);
    } catch (const ParseError& e) {
        return e.what();
    }
    return "parsed";
}

template <class Action>
std::string failure(Action action) {
    try {
        action();
    } catch (const ParseError& e) {
        return e.what();
    }
    return "no error";
}

TEST(Json, KeepsKeyOrder) {
    EXPECT_EQ(dump(parse(R"( {"b":1,"a":[true,null,"x"]} )")), R"({"b":1,"a":[true,null,"x"]})");
}

TEST(Json, MalformedDocumentsAreDescribedAsSerdeDoes) {
    EXPECT_EQ(parse_failure(""), "EOF while parsing a value at line 1 column 0");
    EXPECT_EQ(parse_failure("{} x"), "trailing characters at line 1 column 4");
    EXPECT_THAT(parse_failure("{\"a\":1,\n\"a\":2}"), testing::StartsWith("duplicate field `a`"));
    EXPECT_THAT(parse_failure("{\"a\":{\"b\":1,\"b\":2}}"),
                testing::StartsWith("duplicate field `b`"));
    EXPECT_THAT(parse_failure("{bad"), testing::StartsWith("expected value"));
    EXPECT_THAT(parse_failure("{\"a\":"), testing::StartsWith("EOF while parsing"));
    EXPECT_THAT(parse_failure("\"\xff\""), testing::StartsWith("invalid unicode"));
}

TEST(Json, NestingIsLimited) {
    EXPECT_EQ(parse_failure(std::string(128, '[') + std::string(128, ']')), "parsed");
    EXPECT_THAT(parse_failure(std::string(129, '[') + std::string(129, ']')),
                testing::StartsWith("recursion limit exceeded"));
    EXPECT_THAT(parse_failure(std::string(1'000'000, '[')),
                testing::StartsWith("recursion limit exceeded"));
}

TEST(Json, ReaderNamesWhatIsWrong) {
    Value value =
        parse(R"({"n":70000,"neg":-1,"f":5.5,"s":"x","null":null,"list":["a"],"b":true})");
    Reader reader(value, "Thing");
    EXPECT_EQ(failure([&] { reader.string("nope"); }), "missing field `nope`");
    EXPECT_EQ(failure([&] { reader.boolean("n"); }),
              "invalid type: integer `70000`, expected a boolean");
    EXPECT_EQ(failure([&] { reader.integer<std::uint16_t>("n"); }),
              "invalid value: integer `70000`, expected u16");
    EXPECT_EQ(failure([&] { reader.integer<std::uint32_t>("neg"); }),
              "invalid value: integer `-1`, expected u32");
    EXPECT_EQ(failure([&] { reader.integer<std::uint32_t>("f"); }),
              "invalid type: floating point `5.5`, expected u32");
    EXPECT_EQ(failure([&] { reader.variant("s", {"a", "b", "c"}); }),
              "unknown variant `x`, expected one of `a`, `b`, `c`");
    EXPECT_EQ(failure([&] { reader.string_or("null", "d"); }),
              "invalid type: null, expected a string");
    EXPECT_EQ(failure([&] { Reader(value["list"], "Thing"); }),
              "invalid type: sequence, expected struct Thing");
}

TEST(Json, NullIsAbsentOnlyForOptionals) {
    Value value = parse(R"({"null":null})");
    Reader reader(value, "Thing");
    EXPECT_EQ(reader.optional_string("null"), std::nullopt);
    EXPECT_EQ(reader.optional_integer<std::uint8_t>("absent"), std::nullopt);
    EXPECT_EQ(reader.integer_or<std::uint8_t>("absent", 7), 7);
    EXPECT_TRUE(reader.present("null"));
    EXPECT_FALSE(reader.has("null"));
}

}  // namespace
}  // namespace msb::json
