#include "base/time.h"

#include <array>
#include <cstdio>
#include <ctime>

#include "base/text.h"

namespace msb {

namespace {

constexpr std::int64_t kNsPerSecond = 1'000'000'000;

std::int64_t read_clock(clockid_t clock) {
    timespec now{};
    ::clock_gettime(clock, &now);
    return now.tv_sec * kNsPerSecond + now.tv_nsec;
}

struct Civil {
    std::tm fields{};
    std::int64_t nanos = 0;
};

Civil to_utc(std::int64_t unix_ns) {
    std::int64_t seconds = unix_ns / kNsPerSecond;
    std::int64_t nanos = unix_ns % kNsPerSecond;
    if (nanos < 0) {
        nanos += kNsPerSecond;
        --seconds;
    }
    Civil civil;
    civil.nanos = nanos;
    std::time_t time = seconds;
    ::gmtime_r(&time, &civil.fields);
    return civil;
}

std::string date_and_time(const std::tm& tm, char separator) {
    std::array<char, 64> buffer;
    int length = std::snprintf(buffer.data(), buffer.size(), "%04d-%02d-%02d%c%02d:%02d:%02d",
                               tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, separator, tm.tm_hour,
                               tm.tm_min, tm.tm_sec);
    return {buffer.data(), static_cast<std::size_t>(length)};
}

std::string fraction(std::int64_t nanos, int digits) {
    std::array<char, 16> buffer;
    std::snprintf(buffer.data(), buffer.size(), ".%09lld", static_cast<long long>(nanos));
    return {buffer.data(), static_cast<std::size_t>(digits) + 1};
}

// 0, 3, 6 or 9 digits: the fewest that lose nothing.
std::string shortest_fraction(std::int64_t nanos) {
    if (nanos == 0) return "";
    if (nanos % 1'000'000 == 0) return fraction(nanos, 3);
    if (nanos % 1'000 == 0) return fraction(nanos, 6);
    return fraction(nanos, 9);
}

// Consumes exactly `count` digits.
bool take_digits(std::string_view& text, std::size_t count, int& value) {
    if (text.size() < count) return false;
    value = 0;
    for (std::size_t i = 0; i < count; ++i) {
        if (text[i] < '0' || text[i] > '9') return false;
        value = value * 10 + (text[i] - '0');
    }
    text.remove_prefix(count);
    return true;
}

bool take(std::string_view& text, char c) {
    if (text.empty() || text.front() != c) return false;
    text.remove_prefix(1);
    return true;
}

// ".123456789": up to nine digits are kept, further ones are dropped.
bool take_fraction(std::string_view& text, std::int64_t& nanos) {
    std::size_t digits = 0;
    nanos = 0;
    while (!text.empty() && text.front() >= '0' && text.front() <= '9') {
        if (digits < 9) nanos = nanos * 10 + (text.front() - '0');
        ++digits;
        text.remove_prefix(1);
    }
    for (std::size_t i = digits; i < 9; ++i)
        nanos *= 10;
    return digits > 0;
}

// "", "Z", "+HH:MM" or "-HH:MM"; the offset east of UTC in seconds.
bool take_zone(std::string_view text, std::int64_t& offset) {
    offset = 0;
    if (text.empty() || text == "Z" || text == "z") return true;
    int sign = text.front() == '-' ? -1 : 1;
    if (!take(text, '+') && !take(text, '-')) return false;
    int hours = 0;
    int minutes = 0;
    if (!take_digits(text, 2, hours)) return false;
    take(text, ':');
    if (!take_digits(text, 2, minutes) || !text.empty() || hours > 23 || minutes > 59) return false;
    offset = sign * (hours * 3600 + minutes * 60);
    return true;
}

}  // namespace

std::int64_t wall_clock_ns() {
    return read_clock(CLOCK_REALTIME);
}
std::int64_t monotonic_ns() {
    return read_clock(CLOCK_MONOTONIC);
}
std::int64_t boottime_ns() {
    return read_clock(CLOCK_BOOTTIME);
}

std::string rfc3339_millis(std::int64_t unix_ns) {
    Civil civil = to_utc(unix_ns);
    return date_and_time(civil.fields, 'T') + fraction(civil.nanos, 3) + "Z";
}

std::string rfc3339_micros(std::int64_t unix_ns) {
    Civil civil = to_utc(unix_ns);
    return date_and_time(civil.fields, 'T') + fraction(civil.nanos, 6) + "Z";
}

std::string rfc3339_nanos(std::int64_t unix_ns) {
    Civil civil = to_utc(unix_ns);
    return date_and_time(civil.fields, 'T') + shortest_fraction(civil.nanos) + "Z";
}

std::string rfc3339_offset(std::int64_t unix_ns) {
    Civil civil = to_utc(unix_ns);
    return date_and_time(civil.fields, 'T') + shortest_fraction(civil.nanos) + "+00:00";
}

std::string database_timestamp(std::int64_t unix_ns) {
    Civil civil = to_utc(unix_ns);
    return date_and_time(civil.fields, ' ') + shortest_fraction(civil.nanos);
}

std::string local_time(std::int64_t unix_ns) {
    std::time_t time = unix_ns / kNsPerSecond;
    std::tm fields{};
    ::localtime_r(&time, &fields);
    return date_and_time(fields, ' ');
}

std::optional<std::int64_t> parse_timestamp(std::string_view text) {
    int year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0;
    if (!take_digits(text, 4, year) || !take(text, '-') || !take_digits(text, 2, month) ||
        !take(text, '-') || !take_digits(text, 2, day))
        return std::nullopt;
    if (!take(text, 'T') && !take(text, 't') && !take(text, ' ')) return std::nullopt;
    if (!take_digits(text, 2, hour) || !take(text, ':') || !take_digits(text, 2, minute))
        return std::nullopt;
    std::int64_t nanos = 0;
    if (take(text, ':')) {
        if (!take_digits(text, 2, second)) return std::nullopt;
        if (take(text, '.') && !take_fraction(text, nanos)) return std::nullopt;
    }
    std::int64_t offset = 0;
    if (!take_zone(text, offset)) return std::nullopt;
    if (month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 60)
        return std::nullopt;

    std::tm fields{};
    fields.tm_year = year - 1900;
    fields.tm_mon = month - 1;
    fields.tm_mday = day;
    fields.tm_hour = hour;
    fields.tm_min = minute;
    fields.tm_sec = second;
    std::int64_t seconds = ::timegm(&fields);
    if (fields.tm_mday != day) return std::nullopt;  // 31 April was normalised to 1 May
    seconds -= offset;
    // The range of 64-bit nanoseconds: years 1678 to 2261.
    constexpr std::int64_t kMaxSeconds = INT64_MAX / kNsPerSecond - 1;
    if (seconds > kMaxSeconds || seconds < -kMaxSeconds) return std::nullopt;
    return seconds * kNsPerSecond + nanos;
}

std::string display_duration(std::int64_t ns) {
    struct Unit {
        std::int64_t size;
        std::string_view name;
    };
    static constexpr std::array kUnits{Unit{kNsPerSecond, "s"}, Unit{1'000'000, "ms"},
                                       Unit{1'000, "\u00b5s"}, Unit{1, "ns"}};
    Unit unit = kUnits.back();
    for (const Unit& candidate : kUnits) {
        if (ns >= candidate.size) {
            unit = candidate;
            break;
        }
    }
    std::string text = std::to_string(ns / unit.size);
    if (std::int64_t rest = ns % unit.size; rest != 0) {
        std::string digits = std::to_string(unit.size + rest).substr(1);
        while (digits.back() == '0')
            digits.pop_back();
        text += "." + digits;
    }
    return text + std::string(unit.name);
}

}  // namespace msb
