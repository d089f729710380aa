// Value grammars that stand alone (spec/cli.md sections 3, 11 and 12.10).
#include "cli/values.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <limits>
#include <set>

#include "base/fd.h"
#include "base/time.h"
#include "value_error.h"

namespace msb::cli {
namespace {

struct SizeCase {
    std::string text;
    std::uint32_t mib;
};

TEST(Size, AcceptsGibibytesMebibytesAndBareMebibytes) {
    const SizeCase cases[] = {{"1.5G", 1536},
                              {"1 G", 1024},
                              {"64", 64},
                              {"512M", 512},
                              {"512m", 512},
                              {"1g", 1024},
                              {"1 M ", 1},
                              {" 5", 5},
                              {"+5", 5},
                              {"+1G", 1024},
                              {"1e3G", 1024000},
                              {"0.0001G", 0},
                              {".5G", 512},
                              {"4294967295", 4294967295u},
                              {"5000000M", 5000000}};
    for (const auto& [text, mib] : cases)
        EXPECT_EQ(parse_size_mib(text), mib) << text;
}

TEST(Size, RefusesWithTheContractsTexts) {
    const std::pair<std::string, std::string> cases[] = {
        {"1.5M", "invalid size: invalid digit found in string"},
        {"1GB", "invalid size (expected e.g. 512M, 1G): invalid digit found in string"},
        {"1024K", "invalid size (expected e.g. 512M, 1G): invalid digit found in string"},
        {"1T", "invalid size (expected e.g. 512M, 1G): invalid digit found in string"},
        {"abcG", "invalid size: invalid float literal"},
        {"0x1G", "invalid size: invalid float literal"},
        {"nan(1)G", "invalid size: invalid float literal"},
        {"G", "invalid size: cannot parse float from empty string"},
        {"M", "invalid size: cannot parse integer from empty string"},
        {"", "invalid size (expected e.g. 512M, 1G): cannot parse integer from empty string"},
        {"-1G", "size must be a finite positive number"},
        {"nanG", "size must be a finite positive number"},
        {"infG", "size must be a finite positive number"},
        {"1e999G", "size must be a finite positive number"},
        {"5000000G", "size too large"},
        {"4294967296",
         "invalid size (expected e.g. 512M, 1G): number too large to fit in target type"},
        {"1.5", "invalid size (expected e.g. 512M, 1G): invalid digit found in string"},
    };
    for (const auto& [text, error] : cases)
        EXPECT_EQ(error_of([&] { return parse_size_mib(text); }), error) << text;
}

TEST(Bytes, CountsInBinaryUnits) {
    EXPECT_EQ(parse_bytes("4096"), 4096u);
    EXPECT_EQ(parse_bytes("64k"), 65536u);
    EXPECT_EQ(parse_bytes("1M"), 1048576u);
    EXPECT_EQ(parse_bytes("2G"), 2147483648u);
    EXPECT_EQ(
        error_of([] { return parse_bytes("1T"); }),
        "invalid size `1T` (expected raw bytes or K/M/G suffix): invalid digit found in string");
    EXPECT_EQ(error_of([] { return parse_bytes(""); }),
              "invalid size `` (expected raw bytes or K/M/G suffix): cannot parse integer from "
              "empty string");
    EXPECT_EQ(error_of([] { return parse_bytes("18446744073709551615G"); }),
              "size `18446744073709551615G` overflows u64 bytes");
}

TEST(Durations, AreWholeNumbersWithAUnit) {
    EXPECT_EQ(parse_seconds("30s"), 30u);
    EXPECT_EQ(parse_seconds("5m"), 300u);
    EXPECT_EQ(parse_seconds("1h"), 3600u);
    EXPECT_EQ(parse_seconds("90"), 90u);
    EXPECT_EQ(parse_seconds("18446744073709551615h"), std::numeric_limits<std::uint64_t>::max());
    for (const auto* text : {"1.5h", "500ms", "1d", "5S", "5 s", "-1", "x"})
        EXPECT_EQ(error_of([&] { return parse_seconds(text); }), "invalid digit found in string")
            << text;
    EXPECT_EQ(error_of([] { return parse_seconds(""); }), "cannot parse integer from empty string");
    EXPECT_EQ(error_of([] { return parse_seconds("99999999999999999999"); }),
              "number too large to fit in target type");
}

TEST(Durations, MillisecondsNameTheFlagInErrors) {
    using std::chrono::milliseconds;
    EXPECT_EQ(parse_milliseconds("500ms", "--x"), milliseconds(500));
    EXPECT_EQ(parse_milliseconds("2m", "--x"), milliseconds(120000));
    EXPECT_EQ(parse_milliseconds("0", "--x"), milliseconds(0));
    EXPECT_GT(parse_milliseconds("18446744073709551615h", "--x"), milliseconds(1));
    EXPECT_EQ(error_of([] { return parse_milliseconds("zz", "--replace-with-timeout"); }),
              "--replace-with-timeout: invalid digit found in string");
}

TEST(LogTime, TakesInstantsAndAges) {
    constexpr std::int64_t kSecond = 1'000'000'000;
    const std::int64_t now = 1'800'000'000 * kSecond;
    EXPECT_EQ(parse_log_time("30s", now), now - 30 * kSecond);
    EXPECT_EQ(parse_log_time("5m", now), now - 300 * kSecond);
    EXPECT_EQ(parse_log_time("2h", now), now - 7200 * kSecond);
    EXPECT_EQ(parse_log_time("1d", now), now - 86400 * kSecond);
    EXPECT_EQ(parse_log_time("99999999999999999d", now), 0) << "before the epoch is the epoch";
    EXPECT_EQ(rfc3339_millis(parse_log_time("2020-01-01T00:00:00Z", now)),
              "2020-01-01T00:00:00.000Z");
    EXPECT_EQ(rfc3339_millis(parse_log_time("2020-01-01T02:00:00+02:00", now)),
              "2020-01-01T00:00:00.000Z");
    for (const std::string text : {"zz", "5x", "5", "", "2020-01-01", "2020-01-01T00:00:00", "-5m"})
        EXPECT_EQ(error_of([&] { return parse_log_time(text, now); }),
                  "could not parse time \"" + text + "\" (expected RFC 3339 or `5m` etc.)");
}

TEST(Environment, ComesFromTheTextOrTheHost) {
    EXPECT_EQ(parse_env("K=a=b").key, "K");
    EXPECT_EQ(parse_env("K=a=b").value, "a=b");
    EXPECT_EQ(parse_env("K=").value, "");
    ::setenv("CLI_TEST_VALUE", "from host", 1);
    EXPECT_EQ(parse_env("CLI_TEST_VALUE").value, "from host");
    ::unsetenv("CLI_TEST_VALUE");
    EXPECT_EQ(error_of([] { return parse_env("CLI_TEST_VALUE"); }),
              "environment variable 'CLI_TEST_VALUE' not set");
    EXPECT_EQ(error_of([] { return parse_env(""); }), "environment variable '' not set");
}

TEST(Labels, ABareKeyHasAnEmptyValue) {
    EXPECT_EQ(parse_label("a=b=c").value, "b=c");
    EXPECT_EQ(parse_label("a").key, "a");
    EXPECT_EQ(parse_label("a").value, "");
}

TEST(Rlimits, HaveASoftAndAHardLimit) {
    const auto limit = parse_rlimit("NOFILE=1:2");
    EXPECT_EQ(limit.resource, "nofile");
    EXPECT_EQ(limit.soft, 1u);
    EXPECT_EQ(limit.hard, 2u);
    EXPECT_EQ(parse_rlimit("as=7").hard, 7u);
    const std::pair<std::string, std::string> cases[] = {
        {"nofile=2:1", "soft limit cannot exceed hard limit"},
        {"nofile=1:2:3", "too many ':' separators"},
        {"nofile", "rlimit must be in format RESOURCE=LIMIT"},
        {"nofile=", "invalid soft limit: cannot parse integer from empty string"},
        {"nofile=1:x", "invalid hard limit: invalid digit found in string"},
        {"nofile=unlimited", "invalid soft limit: invalid digit found in string"},
        {"zz=1", "unknown rlimit resource: zz"},
        {"=1", "unknown rlimit resource: "},
    };
    for (const auto& [text, error] : cases)
        EXPECT_EQ(error_of([&] { return parse_rlimit(text); }), error) << text;
}

TEST(Scripts, SnippetsAreDecodedAndGetAnInterpreter) {
    const auto scripts = collect_scripts({R"(a=echo \"x\"\n\ty\q\\)"}, {}, {}, "/bin/sh");
    EXPECT_EQ(scripts.at("a"), "#!/bin/sh\necho \"x\"\n\ty\\q\\\n");
    EXPECT_EQ(collect_scripts({"a=1"}, {}, {}, "bash").at("a"), "#!/usr/bin/env bash\n1\n");
    EXPECT_EQ(collect_scripts({}, {R"(a=x\n)"}, {}, "/bin/sh").at("a"), R"(x\n)");
    EXPECT_EQ(collect_scripts({"a=x\\n"}, {}, {}, "/bin/sh").at("a"), "#!/bin/sh\nx\n")
        << "one newline at the end";
}

TEST(Scripts, ANameMayComeOnceOverAllFlags) {
    EXPECT_EQ(error_of([] { return collect_scripts({"a=1"}, {"a=2"}, {}, "/bin/sh"); }),
              "script name 'a' specified more than once");
    EXPECT_EQ(error_of([] { return collect_scripts({"zz"}, {}, {}, "/bin/sh"); }),
              "script must be in format NAME=BODY");
    EXPECT_EQ(error_of([] { return collect_scripts({"=1"}, {}, {}, "/bin/sh"); }),
              "script name must not be empty (NAME=BODY)");
    EXPECT_EQ(error_of([] { return collect_scripts({}, {}, {"a:/nope"}, "/bin/sh"); }),
              "failed to read script file '/nope': No such file or directory (os error 2)");
    EXPECT_EQ(error_of([] { return collect_scripts({}, {}, {"a:/"}, "/bin/sh"); }),
              "failed to read script file '/': Is a directory (os error 21)");
}

TEST(Shell, IsOneWord) {
    EXPECT_EQ(error_of([] { return check_shell("/bin/sh"), 0; }), "");
    EXPECT_EQ(error_of([] { return check_shell(""), 0; }), "--shell must not be empty");
    EXPECT_EQ(error_of([] { return check_shell("/"), 0; }),
              "--shell \"/\" is not a valid interpreter");
    EXPECT_EQ(error_of([] { return check_shell("a\tb"), 0; }),
              "--shell must not contain whitespace or NUL (got \"a\\tb\"); use --script-raw or "
              "--script-path if you need a "
              "custom shebang");
}

TEST(Paths, AreToldFromReferencesByTheirStart) {
    for (const auto* text : {".", "..", "/x", "./x", "../x"})
        EXPECT_TRUE(is_path(text)) << text;
    for (const auto* text : {"x", ".x", "...", "~/x", "x/y", ""})
        EXPECT_FALSE(is_path(text)) << text;
}

TEST(Names, FollowTheStoresRules) {
    EXPECT_EQ(error_of([] { return check_sandbox_name("a.b-c_9"), 0; }), "");
    EXPECT_EQ(error_of([] { return check_sandbox_name(""), 0; }),
              "invalid config: sandbox name must not be empty");
    EXPECT_EQ(error_of([] { return check_sandbox_name("a b"), 0; }),
              "invalid config: sandbox name must start with an alphanumeric and contain only "
              "alphanumeric, dots, hyphens, "
              "and underscores: a b");
    EXPECT_EQ(error_of([] { return check_sandbox_name(std::string(129, 'a')), 0; }),
              "invalid config: sandbox name must be at most 128 characters: got 129");
}

TEST(Names, GeneratedOnesAreEightHexDigitsAndDiffer) {
    std::set<std::string> names;
    for (int i = 0; i < 100; ++i) {
        const auto name = generate_name();
        ASSERT_EQ(name.size(), 12u);
        EXPECT_TRUE(name.starts_with("msb-"));
        EXPECT_EQ(name.find_first_not_of("0123456789abcdef", 4), std::string::npos) << name;
        names.insert(name);
    }
    EXPECT_GT(names.size(), 95u);
}

}  // namespace
}  // namespace msb::cli
