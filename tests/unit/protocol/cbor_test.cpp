#include "protocol/cbor.h"

#include <gtest/gtest.h>

#include "support/hex_bytes.h"

namespace msb::protocol {
namespace {

using test::from_hex;
using test::to_hex;

// --- writer: RFC 8949 appendix A where it applies ---------------------------------------------------------------

template <class Write>
std::string written(Write write) {
    std::vector<std::byte> out;
    CborWriter writer(out);
    write(writer);
    return to_hex(out);
}

TEST(CborWriter, ShortestHeads) {
    const auto unsigned_hex = [](std::uint64_t v) {
        return written([&](CborWriter& w) { w.unsigned_integer(v); });
    };
    EXPECT_EQ(unsigned_hex(0), "00");
    EXPECT_EQ(unsigned_hex(23), "17");
    EXPECT_EQ(unsigned_hex(24), "1818");
    EXPECT_EQ(unsigned_hex(255), "18ff");
    EXPECT_EQ(unsigned_hex(256), "190100");
    EXPECT_EQ(unsigned_hex(65'535), "19ffff");
    EXPECT_EQ(unsigned_hex(65'536), "1a00010000");
    EXPECT_EQ(unsigned_hex(0xffff'ffff), "1affffffff");
    EXPECT_EQ(unsigned_hex(0x1'0000'0000), "1b0000000100000000");
    EXPECT_EQ(unsigned_hex(UINT64_MAX), "1bffffffffffffffff");
    const auto signed_hex = [](std::int64_t v) {
        return written([&](CborWriter& w) { w.signed_integer(v); });
    };
    EXPECT_EQ(signed_hex(10), "0a");
    EXPECT_EQ(signed_hex(-1), "20");
    EXPECT_EQ(signed_hex(-24), "37");
    EXPECT_EQ(signed_hex(-25), "3818");
    EXPECT_EQ(signed_hex(-1000), "3903e7");
    EXPECT_EQ(signed_hex(INT64_MIN), "3b7fffffffffffffff");
}

TEST(CborWriter, OtherItems) {
    EXPECT_EQ(written([](CborWriter& w) { w.text("IETF"); }), "6449455446");
    EXPECT_EQ(written([](CborWriter& w) { w.text(""); }), "60");
    EXPECT_EQ(written([](CborWriter& w) { w.bytes(from_hex("01020304")); }), "4401020304");
    EXPECT_EQ(written([](CborWriter& w) { w.boolean(false), w.boolean(true), w.null(); }),
              "f4f5f6");
    EXPECT_EQ(written([](CborWriter& w) { w.array(25), w.map(2); }), "9819a2");
}

// --- reader: integers -------------------------------------------------------------------------------------------

template <class Int>
std::string integer(std::string_view hex) {
    const auto bytes = from_hex(hex);
    CborReader reader(bytes);
    Int value{};
    return reader.integer(value) ? std::to_string(value) : reader.error();
}

TEST(CborReader, IntegersOfEveryHeadWidth) {
    for (const auto hex : {"0a", "180a", "19000a", "1a0000000a", "1b000000000000000a"})
        EXPECT_EQ(integer<std::uint8_t>(hex), "10");
    for (const auto hex : {"29", "3809", "390009", "3a00000009", "3b0000000000000009"})
        EXPECT_EQ(integer<std::int32_t>(hex), "-10");
    EXPECT_EQ(integer<std::uint16_t>("c1 d840 d9ffff 05"), "5") << "tags are skipped";
}

TEST(CborReader, IntegerRanges) {
    EXPECT_EQ(integer<std::uint8_t>("18ff"), "255");
    EXPECT_EQ(integer<std::uint8_t>("190100"), "integer 256 is out of range for u8");
    EXPECT_EQ(integer<std::uint16_t>("1a00011170"), "integer 70000 is out of range for u16");
    EXPECT_EQ(integer<std::uint32_t>("1b0000000100000000"),
              "integer 4294967296 is out of range for u32");
    EXPECT_EQ(integer<std::uint64_t>("1bffffffffffffffff"), "18446744073709551615");
    EXPECT_EQ(integer<std::uint64_t>("20"), "integer -1 is out of range for u64");
    EXPECT_EQ(integer<std::int32_t>("1a7fffffff"), "2147483647");
    EXPECT_EQ(integer<std::int32_t>("1a80000000"), "integer 2147483648 is out of range for i32");
    EXPECT_EQ(integer<std::int32_t>("3a7fffffff"), "-2147483648");
    EXPECT_EQ(integer<std::int32_t>("3a80000000"), "integer -2147483649 is out of range for i32");
    EXPECT_EQ(integer<std::int64_t>("3b7fffffffffffffff"), "-9223372036854775808");
    EXPECT_EQ(integer<std::int64_t>("3bffffffffffffffff"),
              "integer -1 - 18446744073709551615 is out of range for i64");
    EXPECT_EQ(integer<std::int64_t>("1b8000000000000000"),
              "integer 9223372036854775808 is out of range for i64");
}

TEST(CborReader, OnlyIntegersAreIntegers) {
    EXPECT_EQ(integer<int>("f90000"), "expected an integer, found a float");
    EXPECT_EQ(integer<int>("fa00000000"), "expected an integer, found a float");
    EXPECT_EQ(integer<int>("fb41f0000000000000"), "expected an integer, found a float");
    EXPECT_EQ(integer<int>("6131"), "expected an integer, found text");
    EXPECT_EQ(integer<int>("4131"), "expected an integer, found bytes");
    EXPECT_EQ(integer<int>("f5"), "expected an integer, found a bool");
    EXPECT_EQ(integer<int>("f6"), "expected an integer, found null");
    EXPECT_EQ(integer<int>("f7"), "expected an integer, found null");
    EXPECT_EQ(integer<int>("ff"), "expected an integer, found a break");
    EXPECT_EQ(integer<int>("e0"), "expected an integer, found a simple value");
    for (const auto hex : {"1c", "1d", "1e", "1f", "3f", "df00", "dc00"})
        EXPECT_EQ(integer<int>(hex), "malformed CBOR head") << hex;
    for (const auto hex : {"", "18", "1900", "1a000000", "1b00000000000000", "c1"})
        EXPECT_EQ(integer<int>(hex), "unexpected end of input") << hex;
}

// --- reader: bool, null, text, bytes ----------------------------------------------------------------------------

TEST(CborReader, BoolAndNull) {
    bool value = false;
    EXPECT_TRUE(CborReader(from_hex("f5")).boolean(value));
    EXPECT_TRUE(value);
    EXPECT_TRUE(CborReader(from_hex("c1f4")).boolean(value));
    EXPECT_FALSE(value);
    for (const auto hex : {"01", "f6", "6474727565", "f94000", "ff", "f814ff"})
        EXPECT_EQ(CborReader(from_hex(hex)).boolean(value), std::string_view(hex) == "f814ff")
            << hex;

    EXPECT_TRUE(CborReader(from_hex("f6")).take_null());
    EXPECT_TRUE(CborReader(from_hex("f7")).take_null());
    const auto other = from_hex("c105");
    CborReader reader(other);
    EXPECT_FALSE(reader.take_null());
    int number = 0;
    EXPECT_TRUE(reader.integer(number)) << "nothing but the tag was consumed";
    EXPECT_EQ(number, 5);
}

std::string text(std::string_view hex) {
    const auto bytes = from_hex(hex);
    CborReader reader(bytes);
    std::string value;
    return reader.text(value) ? "<" + value + ">" : reader.error();
}

TEST(CborReader, Text) {
    EXPECT_EQ(text("6449455446"), "<IETF>");
    EXPECT_EQ(text("7800"), "<>");
    EXPECT_EQ(text("7b0000000000000001 61"), "<a>");
    EXPECT_EQ(text("7f 6161 60 626263 ff"), "<abc>");
    EXPECT_EQ(text("7fff"), "<>");
    EXPECT_EQ(text("62c3bc"), "<\xc3\xbc>");
    EXPECT_EQ(text("64f0908591"), "<\xf0\x90\x85\x91>");
    EXPECT_EQ(text("4161"), "expected text, found bytes");
    EXPECT_EQ(text("8101"), "expected text, found an array");
    EXPECT_EQ(text("a0"), "expected text, found a map");
    EXPECT_EQ(text("6261"), "unexpected end of input");
    EXPECT_EQ(text("7bffffffffffffffff 61"), "unexpected end of input");
    EXPECT_EQ(text("7f 6161"), "unexpected end of input");
    for (const auto hex : {"7f 4161 ff", "7f 7f ff ff", "7f 01 ff", "7f c1 6161 ff"})
        EXPECT_EQ(text(hex), "malformed chunk of an indefinite-length string") << hex;
    // Each chunk is text of its own: a character may not be split.
    EXPECT_EQ(text("7f 61c3 61bc ff"), "text is not valid UTF-8");
}

TEST(CborReader, TextIsUtf8) {
    for (const auto good :
         {"", "a", "12345678", "123456789012345\xc3\xbc", "\xc2\x80", "\xed\x9f\xbf",
          "\xee\x80\x80", "\xf4\x8f\xbf\xbf", "\xe0\xa0\x80", "\xf0\x90\x80\x80"})
        EXPECT_TRUE(is_valid_utf8(good));
    for (const auto bad :
         {"\x80", "\xc0\x80", "\xc1\xbf", "\xc3", "\xc3(", "\xe0\x9f\xbf", "\xed\xa0\x80",
          "\xe2\x82", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff",
          "\xf0\x90\x80", "\xf0\x90\x80(", "12345678\xfe"})
        EXPECT_FALSE(is_valid_utf8(bad)) << bad;
}

std::string bytes(std::string_view hex) {
    const auto input = from_hex(hex);
    CborReader reader(input);
    Bytes value;
    return reader.bytes(value) ? to_hex(value.span()) : reader.error();
}

TEST(CborReader, Bytes) {
    EXPECT_EQ(bytes("43010203"), "010203");
    EXPECT_EQ(bytes("590002 0102"), "0102");
    EXPECT_EQ(bytes("d84042 6869"), "6869");
    EXPECT_EQ(bytes("5f 4101 40 420203 ff"), "010203");
    EXPECT_EQ(bytes("83 00 18ff 190010"), "00ff10");
    EXPECT_EQ(bytes("9f 01 c1 02 ff"), "0102");
    EXPECT_EQ(bytes("80"), "");
    EXPECT_EQ(bytes("6161"), "expected bytes, found text");
    EXPECT_EQ(bytes("a0"), "expected bytes, found a map");
    EXPECT_EQ(bytes("f6"), "expected bytes, found null");
    EXPECT_EQ(bytes("81 190100"), "integer 256 is out of range for u8");
    EXPECT_EQ(bytes("81 20"), "integer -1 is out of range for u8");
    EXPECT_EQ(bytes("81 4101"), "expected an integer, found bytes");
    EXPECT_EQ(bytes("4201"), "unexpected end of input");
    EXPECT_EQ(bytes("5f 4101"), "unexpected end of input");
    EXPECT_EQ(bytes("5f 6161 ff"), "malformed chunk of an indefinite-length string");
    // Declared lengths cost nothing.
    EXPECT_EQ(bytes("5b7fffffffffffffff"), "unexpected end of input");
    EXPECT_EQ(bytes("9bffffffffffffffff 01"), "unexpected end of input");
}

TEST(CborReader, DefiniteBytesAreAView) {
    const auto input = from_hex("43010203");
    CborReader reader(input);
    Bytes value;
    ASSERT_TRUE(reader.bytes(value));
    EXPECT_EQ(value.span().data(), input.data() + 1);
}

// --- reader: containers -----------------------------------------------------------------------------------------

std::string keys(std::string_view hex) {
    const auto input = from_hex(hex);
    CborReader reader(input);
    CborReader::Container map;
    std::string found;
    if (!reader.enter_map(map)) return reader.error();
    for (std::string_view key; reader.next_key(map, key);) {
        found += std::string(key) + ";";
        if (!reader.skip()) break;
    }
    return reader.failed() ? reader.error() : found;
}

TEST(CborReader, Maps) {
    EXPECT_EQ(keys("a0"), "");
    EXPECT_EQ(keys("bfff"), "");
    EXPECT_EQ(keys("a2 6161 01 6162 02"), "a;b;");
    EXPECT_EQ(keys("b90002 6161 01 6162 02"), "a;b;");
    EXPECT_EQ(keys("bf 6161 01 6162 02 ff"), "a;b;");
    EXPECT_EQ(keys("a1 4161 01"), "a;") << "byte string keys";
    EXPECT_EQ(keys("a1 c1 6161 01"), "a;") << "tagged keys";
    EXPECT_EQ(keys("a1 01 01"), "map key is not definite-length text");
    EXPECT_EQ(keys("a1 7f6161ff 01"), "map key is not definite-length text");
    EXPECT_EQ(keys("a1 61ff 01"), "map key is not valid UTF-8");
    EXPECT_EQ(keys("a1 6161"), "unexpected end of input");
    EXPECT_EQ(keys("bf 6161 01"), "unexpected end of input");
    EXPECT_EQ(keys("a1 6161 ff"), "unexpected break");
    EXPECT_EQ(keys("bbffffffffffffffff 6161 01"), "unexpected end of input");
    EXPECT_EQ(keys("81 01"), "expected a map, found an array");
}

TEST(CborReader, MapKeyLengthLimit) {
    const auto map_with_key = [](std::size_t size) {
        std::vector<std::byte> out;
        CborWriter writer(out);
        writer.map(1);
        writer.text(std::string(size, 'k'));
        writer.null();
        return to_hex(out);
    };
    EXPECT_EQ(keys(map_with_key(4096)), std::string(4096, 'k') + ";");
    EXPECT_EQ(keys(map_with_key(4097)), "map key is too long");
}

TEST(CborReader, VariantsAreDefiniteOneEntryMaps) {
    const auto variant = [](std::string_view hex) {
        const auto input = from_hex(hex);
        CborReader reader(input);
        std::string_view name;
        return reader.enter_variant(name) ? std::string(name) : reader.error();
    };
    EXPECT_EQ(variant("a1 6161 01"), "a");
    EXPECT_EQ(variant("b801 6161 01"), "a");
    EXPECT_EQ(variant("c1 a1 6161 01"), "a");
    EXPECT_EQ(variant("a0"), "expected a map with exactly one entry");
    EXPECT_EQ(variant("a2 6161 01 6162 01"), "expected a map with exactly one entry");
    EXPECT_EQ(variant("bf 6161 01 ff"), "expected a map with exactly one entry");
    EXPECT_EQ(variant("6161"), "expected a map, found text");
}

// --- reader: skip -----------------------------------------------------------------------------------------------

// The hex digits left behind the first item, or the error.
std::string after_skip(std::string_view hex) {
    const auto input = from_hex(hex);
    CborReader reader(input);
    if (!reader.skip()) return reader.error();
    int sentinel = 0;
    return reader.integer(sentinel) ? "ok " + std::to_string(sentinel)
                                    : "no sentinel: " + reader.error();
}

TEST(CborReader, SkipsEveryForm) {
    for (const auto item : {"00",
                            "1bffffffffffffffff",
                            "20",
                            "40",
                            "4401020304",
                            "5f4101ff",
                            "60",
                            "6161",
                            "7f61616162ff",
                            "80",
                            "83010203",
                            "9fff",
                            "9f0102ff",
                            "a0",
                            "a201020304",
                            "bfff",
                            "bf01020304ff",
                            "c1c2c3d840 41ff",
                            "f4",
                            "f5",
                            "f6",
                            "f7",
                            "e0",
                            "f8ff",
                            "f93c00",
                            "fa47c35000",
                            "fb3ff199999999999a",
                            "82 81 81 80 bf 61 61 9f a1 01 81 5f ff ff ff",
                            "a1 a1 01 02 81 03",
                            "81 c1 80",
                            "84 80 a0 9fff bfff"})
        EXPECT_EQ(after_skip(std::string(item) + " 07"), "ok 7") << item;
}

TEST(CborReader, SkipRefusesMalformedItems) {
    EXPECT_EQ(after_skip("ff"), "unexpected break");
    EXPECT_EQ(after_skip("81ff"), "unexpected break");
    EXPECT_EQ(after_skip("a101ff"), "unexpected break");
    EXPECT_EQ(after_skip("bf01ff"), "unexpected break")
        << "an indefinite map may not end behind a key";
    EXPECT_EQ(after_skip("9fc1ff"), "unexpected break") << "a tag needs an item";
    EXPECT_EQ(after_skip("bf 01 bf ff ff 07"), "ok 7");
    for (const auto hex : {"", "81", "8201", "a101", "9f", "bf0102", "41", "5f", "5f41", "c1",
                           "fb00", "9b00ffffffffffffff", "bb8000000000000001 00"})
        EXPECT_EQ(after_skip(hex), "unexpected end of input") << hex;
    EXPECT_EQ(after_skip("1c"), "malformed CBOR head");
    EXPECT_EQ(after_skip("5f6161ff"), "malformed chunk of an indefinite-length string");
}

std::string nested(std::size_t depth, std::string_view open, std::string_view close) {
    std::string hex;
    for (std::size_t i = 0; i < depth; ++i)
        hex += open;
    hex += "00";
    for (std::size_t i = 0; i < depth; ++i)
        hex += close;
    return hex;
}

TEST(CborReader, NestingLimit) {
    EXPECT_EQ(after_skip(nested(256, "81", "") + "07"), "ok 7");
    EXPECT_EQ(after_skip(nested(257, "81", "") + "07"), "nested too deeply");
    EXPECT_EQ(after_skip(nested(256, "9f", "ff") + "07"), "ok 7");
    EXPECT_EQ(after_skip(nested(257, "9f", "ff")), "nested too deeply");
    EXPECT_EQ(after_skip(nested(257, "bf00", "ff")), "nested too deeply");
    // Containers the reader has entered count too.
    EXPECT_EQ(keys("a1 6161" + nested(255, "81", "")), "a;");
    EXPECT_EQ(keys("a1 6161" + nested(256, "81", "")), "nested too deeply");
    // A million tags are no nesting.
    EXPECT_EQ(after_skip(nested(1'000'000, "c1", "") + "07"), "ok 7");
    EXPECT_EQ(after_skip(nested(1'000'000, "81", "")), "nested too deeply");
}

TEST(CborReader, NestingLimitOfEnteredContainers) {
    const auto input = from_hex(nested(257, "81", ""));
    CborReader reader(input);
    CborReader::Container array;
    for (int depth = 0; depth < 256; ++depth)
        ASSERT_TRUE(reader.enter_array(array) && reader.next_item(array)) << depth;
    EXPECT_FALSE(reader.enter_array(array));
    EXPECT_EQ(reader.error(), "nested too deeply");
}

TEST(CborReader, TheFirstFailureStays) {
    const auto input = from_hex("6161 05");
    CborReader reader(input);
    int number = 0;
    EXPECT_FALSE(reader.integer(number));
    EXPECT_FALSE(reader.integer(number)) << "although an integer follows";
    EXPECT_FALSE(reader.skip());
    EXPECT_FALSE(reader.take_null());
    EXPECT_EQ(reader.error(), "expected an integer, found text");
}

}  // namespace
}  // namespace msb::protocol
