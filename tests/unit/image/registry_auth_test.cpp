#include "image/registry_auth.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/encoding.h"

namespace msb::image {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

WallSeconds at(long seconds) {
    return WallSeconds(std::chrono::seconds(seconds));
}

TEST(Challenges, ReadsQuotedAndPlainValues) {
    auto challenges = parse_challenges(
        R"(Bearer realm="https://auth.example/token?a=b,c",service=registry.example , SCOPE="x \"y\"")");
    ASSERT_THAT(challenges, SizeIs(1));
    EXPECT_EQ(challenges[0].scheme, "Bearer");
    EXPECT_EQ(challenges[0].values["realm"], "https://auth.example/token?a=b,c");
    EXPECT_EQ(challenges[0].values["service"], "registry.example");
    EXPECT_EQ(challenges[0].values["scope"], R"(x "y")");
}

TEST(Challenges, SeparatesSeveralInOneHeader) {
    auto challenges =
        parse_challenges(R"(Basic realm="a", Negotiate, bEARER realm="b",service="c")");
    ASSERT_THAT(challenges, SizeIs(3));
    EXPECT_EQ(challenges[1].scheme, "Negotiate");
    EXPECT_EQ(challenges[2].values["realm"], "b");
}

TEST(Challenges, StopsAtWhatItCannotRead) {
    EXPECT_THAT(parse_challenges(""), IsEmpty());
    EXPECT_THAT(parse_challenges("\"quoted\""), IsEmpty());
    EXPECT_THAT(parse_challenges(R"(Bearer realm="never closed)")[0].values, IsEmpty());
    std::string many;
    for (int i = 0; i < 1000; ++i)
        many += "Basic realm=x, ";
    EXPECT_THAT(parse_challenges(many), SizeIs(kMaxChallenges));
}

TEST(Bearer, NeedsARealm) {
    EXPECT_FALSE(find_bearer({R"(Bearer service="x")"}));
    EXPECT_FALSE(find_bearer({R"(Basic realm="x")"}));
    auto bearer = find_bearer({R"(Basic realm="x")", R"(BEARER Realm="http://t/",Service="s")"});
    ASSERT_TRUE(bearer);
    EXPECT_EQ(bearer->realm, "http://t/");
    EXPECT_EQ(bearer->service, "s");
}

TEST(Bearer, BuildsTheTokenRequest) {
    EXPECT_EQ(token_url({"https://auth/token", "my service"}, "library/alpine"),
              "https://auth/token?scope=repository%3Alibrary%2Falpine%3Apull&service=my+service");
    EXPECT_EQ(token_url({"https://auth/token?x=1", std::nullopt}, "a"),
              "https://auth/token?x=1&scope=repository%3Aa%3Apull");
}

TEST(Tokens, PreferTokenOverAccessToken) {
    EXPECT_EQ(parse_token_answer(R"({"access_token":"b","token":"a","expires_in":300})"), "a");
    EXPECT_EQ(parse_token_answer(R"({"access_token":"b"})"), "b");
}

TEST(Tokens, RefuseWhatDoesNotFitIntoAHeader) {
    EXPECT_FALSE(parse_token_answer(R"({"token":"a\r\nEvil: yes"})"));
    EXPECT_FALSE(parse_token_answer(R"({"token":""})"));
    EXPECT_FALSE(parse_token_answer(R"({"token":5})"));
    EXPECT_FALSE(parse_token_answer("[]"));
    EXPECT_FALSE(parse_token_answer("nonsense"));
    EXPECT_FALSE(parse_token_answer(R"({"token":")" + std::string(100'000, 'a') + "\"}"));
}

std::string jwt(const std::string& claims) {
    return "e30." + base64_encode(claims, Base64::kUrlUnpadded) + ".c2ln";
}

TEST(Tokens, HoldUntilTheirExpiryElseAMinute) {
    EXPECT_EQ(token_expiry(jwt(R"({"exp":5000})"), at(1000)), at(5000));
    EXPECT_EQ(token_expiry(jwt(R"({"exp":5000.9})"), at(1000)), at(5000));
    EXPECT_EQ(token_expiry("opaque", at(1000)), at(1060));
    EXPECT_EQ(token_expiry(jwt("{}"), at(1000)), at(1060));
    EXPECT_EQ(token_expiry(jwt(R"({"exp":"soon"})"), at(1000)), at(1060));
    EXPECT_EQ(token_expiry(jwt(R"({"exp":1e300})"), at(1000)), at(1060));
    EXPECT_EQ(token_expiry("e30.!!!.x", at(1000)), at(1060));
}

TEST(Tokens, AreCachedByHostAndRepositoryUntilTheyExpire) {
    TokenCache cache;
    cache.store("h", "a", "Bearer 1", at(100));
    EXPECT_EQ(cache.find("h", "a", at(99)), "Bearer 1");
    EXPECT_EQ(cache.find("h", "b", at(99)), std::nullopt);
    EXPECT_EQ(cache.find("g", "a", at(99)), std::nullopt);
    EXPECT_EQ(cache.find("h", "a", at(100)), std::nullopt);
}

TEST(Tokens, DropOnlyTheOneThatFailed) {
    TokenCache cache;
    cache.store("h", "a", "Bearer new", at(100));
    cache.drop("h", "a", "Bearer old");
    EXPECT_EQ(cache.find("h", "a", at(1)), "Bearer new");
    cache.drop("h", "a", "Bearer new");
    EXPECT_EQ(cache.find("h", "a", at(1)), std::nullopt);
}

}  // namespace
}  // namespace msb::image
