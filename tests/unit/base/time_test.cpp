#include "base/time.h"

#include <gtest/gtest.h>

namespace msb {
namespace {

constexpr std::int64_t kMoment = 1'763'767'761'822'049'210;  // 2025-11-21T23:29:21.822049210Z

TEST(Time, EveryTextFormOfOneMoment) {
    EXPECT_EQ(rfc3339_millis(kMoment), "2025-11-21T23:29:21.822Z");
    EXPECT_EQ(rfc3339_micros(kMoment), "2025-11-21T23:29:21.822049Z");
    EXPECT_EQ(rfc3339_nanos(kMoment), "2025-11-21T23:29:21.822049210Z");
    EXPECT_EQ(rfc3339_offset(kMoment), "2025-11-21T23:29:21.822049210+00:00");
    EXPECT_EQ(database_timestamp(kMoment), "2025-11-21 23:29:21.822049210");
}

TEST(Time, FractionHasTheFewestDigitGroupsThatLoseNothing) {
    std::int64_t second = kMoment / 1'000'000'000 * 1'000'000'000;
    EXPECT_EQ(database_timestamp(second), "2025-11-21 23:29:21");
    EXPECT_EQ(database_timestamp(second + 5'000'000), "2025-11-21 23:29:21.005");
    EXPECT_EQ(database_timestamp(second + 5'000), "2025-11-21 23:29:21.000005");
    EXPECT_EQ(database_timestamp(second + 5), "2025-11-21 23:29:21.000000005");
}

TEST(Time, ParseReadsBackWhatIsWritten) {
    EXPECT_EQ(parse_timestamp(database_timestamp(kMoment)), kMoment);
    EXPECT_EQ(parse_timestamp(rfc3339_nanos(kMoment)), kMoment);
    EXPECT_EQ(parse_timestamp("2025-11-22T01:29:21.822049210+02:00"), kMoment);
    EXPECT_EQ(parse_timestamp("1970-01-01 00:01"), 60'000'000'000);
}

TEST(Time, ParseRefusesWhatIsNotATimestamp) {
    for (const char* text : {"", "2026-01-01", "2026-13-01 00:00:00", "2026-02-30 00:00:00",
                             "2026-01-01 24:00:00", "2026-01-01 00:00:00.", "2026-01-01 00:00:00 ",
                             "2026-01-01T00:00:00+1", "not a time", "9999-12-31 00:00:00"})
        EXPECT_EQ(parse_timestamp(text), std::nullopt) << text;
}

TEST(Time, DurationsAreShortest) {
    EXPECT_EQ(display_duration(5'000'000'000), "5s");
    EXPECT_EQ(display_duration(1'500'000'000), "1.5s");
    EXPECT_EQ(display_duration(250'000'000), "250ms");
    EXPECT_EQ(display_duration(10'000), "10\u00b5s");
    EXPECT_EQ(display_duration(0), "0ns");
}

}  // namespace
}  // namespace msb
