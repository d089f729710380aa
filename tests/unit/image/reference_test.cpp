#include "image/reference.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace msb::image {
namespace {

std::string outcome(std::string_view text) {
    try {
        return parse_reference(text).canonical();
    } catch (const Error& e) {
        return e.what();
    }
}

constexpr std::string_view kFormat = "invalid image reference: invalid reference format";

// Check 1 of spec/images.md section 19.
TEST(Reference, NormalForms) {
    EXPECT_EQ(outcome("alpine"), "docker.io/library/alpine:latest");
    EXPECT_EQ(outcome("test.com:5000"), "docker.io/library/test.com:5000");
    EXPECT_EQ(outcome("test:5000/repo"), "test:5000/repo:latest");
    EXPECT_EQ(outcome("index.docker.io/foo/bar"), "docker.io/foo/bar:latest");
    EXPECT_EQ(outcome("localhost/x"), "localhost/x:latest");
    EXPECT_EQ(outcome("user/x"), "docker.io/user/x:latest");
    EXPECT_EQ(outcome("a.b/c--d/e__f.g:T_1-x.y"), "a.b/c--d/e__f.g:T_1-x.y");
    std::string digest = "sha256:" + std::string(64, 'a');
    EXPECT_EQ(outcome("x@" + digest), "docker.io/library/x@" + digest);
    EXPECT_EQ(outcome("x:1@" + digest), "docker.io/library/x:1@" + digest);
}

TEST(Reference, WhatIsRefused) {
    EXPECT_EQ(outcome(""),
              "invalid image reference: repository name must have at least one component");
    for (const char* text : {"UP", ":::", "a//b", "a/", "/a", "-a", "a-", "a..b", "a___b",
                             "a:", "a:-x", "http://x", "a@b", "x y", "h_st.com/a", "test:port/a"})
        EXPECT_EQ(outcome(text), kFormat) << text;
    EXPECT_EQ(outcome("x@md5:" + std::string(32, '0')),
              "invalid image reference: unsupported digest algorithm");
    EXPECT_EQ(outcome("x@sha256:" + std::string(63, '0')),
              "invalid image reference: invalid checksum digest length");
    EXPECT_EQ(outcome("r.io/" + std::string(256, 'a')),
              "invalid image reference: repository name must not be more than 255 characters");
}

TEST(Reference, CacheKeyIsOfTheCanonicalText) {
    EXPECT_EQ(parse_reference("alpine").cache_key(),
              "c9ef5b1f0b442255774ae31a839ff48ce1206a606a97052db8b4a13ae153fb7c");
    EXPECT_EQ(parse_reference("alpine").api_host(), "index.docker.io");
    EXPECT_EQ(parse_reference("quay.io/a").api_host(), "quay.io");
}

TEST(Digest, Rules) {
    EXPECT_NO_THROW(check_digest("sha256:abc"));
    EXPECT_NO_THROW(check_digest("sha256+b64:AB-_="));
    for (const char* text : {"sha256", "sha256:", ":x", "SHA:x", "a++b:x", "a:x/y"})
        EXPECT_THROW(check_digest(text), Error) << text;
    EXPECT_EQ(digest_file_name("sha256:abc"), "sha256_abc");
    EXPECT_EQ(digest_file_name("../x:y"), ".._x_y");
}

}  // namespace
}  // namespace msb::image
