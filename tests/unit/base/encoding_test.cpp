#include "base/encoding.h"

#include <gtest/gtest.h>

#include "base/hash.h"

namespace msb {
namespace {

TEST(Encoding, Base64RoundTripsInBothForms) {
    for (std::string data : {"", "f", "fo", "foo", "foob", "\xff\xfe\x00x"}) {
        for (Base64 form : {Base64::kStandardPadded, Base64::kUrlUnpadded})
            EXPECT_EQ(base64_decode(base64_encode(data, form), form), data);
    }
    EXPECT_EQ(base64_encode("5", Base64::kUrlUnpadded), "NQ");
    EXPECT_EQ(base64_encode(std::string(1, '\0')), "AA==");
}

TEST(Encoding, Base64RefusesOtherSpellings) {
    EXPECT_EQ(base64_decode("AA="), std::nullopt);
    EXPECT_EQ(base64_decode("AB=="), std::nullopt);  // set bits that carry nothing
    EXPECT_EQ(base64_decode("A*=="), std::nullopt);
    EXPECT_EQ(base64_decode("NQ==", Base64::kUrlUnpadded), std::nullopt);
}

TEST(Encoding, LossyUtf8ReplacesMaximalSubparts) {
    EXPECT_EQ(utf8_lossy("\xff\xfehi"), "\xef\xbf\xbd\xef\xbf\xbdhi");
    EXPECT_EQ(utf8_lossy("\xe2\x82"), "\xef\xbf\xbd");  // one truncated sequence, one mark
    EXPECT_EQ(utf8_lossy("\xed\xa0\x80"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");  // a surrogate
    EXPECT_EQ(utf8_lossy("\xf0\x9f\x98\x80"), "\xf0\x9f\x98\x80");
    EXPECT_FALSE(is_utf8("\xc0\x80"));
    EXPECT_TRUE(is_utf8("h\xc3\xa9"));
}

TEST(Hash, KnownDigests) {
    EXPECT_EQ(sha256_hex("worker").substr(0, 24), "87eba76e7f3164534045ba92");
    EXPECT_EQ(fnv1a64("/root/.microsandbox"), 0x36811d6a2cbe4840ULL);
}

}  // namespace
}  // namespace msb
