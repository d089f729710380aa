#include "cli/style.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "base/fd.h"

namespace msb::cli {

namespace {

constexpr std::size_t kTableGap = 4;
constexpr std::size_t kActionLabel = 12;
constexpr std::size_t kDetailLabel = 16;

std::string_view sgr(Tone tone) {
    switch (tone) {
        case Tone::kPlain:
            return "";
        case Tone::kError:
            return "\x1b[31m\x1b[1m";
        case Tone::kWarn:
            return "\x1b[33m\x1b[1m";
        case Tone::kInfo:
            return "\x1b[36m\x1b[1m";
        case Tone::kDone:
            return "\x1b[32m\x1b[1m";
        case Tone::kGood:
            return "\x1b[32m";
        case Tone::kBad:
            return "\x1b[31m";
        case Tone::kNotice:
            return "\x1b[33m";
        case Tone::kDim:
            return "\x1b[2m";
        case Tone::kHeader:
            return "\x1b[36m\x1b[1m";
        case Tone::kLabel:
            return "\x1b[36m";
        case Tone::kTitle:
            return "\x1b[1m";
        case Tone::kBar:
            return "\x1b[35m";
    }
    return "";
}

std::string_view environment_value(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : std::string_view();
}

std::string one_decimal(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.1f", value);
    return text;
}

}  // namespace

bool colors_wanted(const ColorEnvironment& environment) {
    if (!environment.clicolor_force.empty() && environment.clicolor_force != "0") return true;
    return environment.terminal && !environment.no_color && !environment.term.empty() &&
           environment.term != "dumb" && environment.clicolor != "0";
}

bool colors_enabled() {
    static const bool enabled =
        colors_wanted({.terminal = ::isatty(STDOUT_FILENO) == 1,
                       .no_color = std::getenv("NO_COLOR") != nullptr,
                       .clicolor = environment_value("CLICOLOR"),
                       .clicolor_force = environment_value("CLICOLOR_FORCE"),
                       .term = environment_value("TERM")});
    return enabled;
}

std::string paint(std::string_view text, Tone tone, bool colors) {
    if (!colors || tone == Tone::kPlain || text.empty()) return std::string(text);
    return std::string(sgr(tone)) + std::string(text) + "\x1b[0m";
}

std::string printable(std::string_view text) {
    std::string shown;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto byte = static_cast<unsigned char>(text[i]);
        const bool c1 =
            byte == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;
        if ((byte < 0x20 && byte != '\n') || byte == 0x7f || c1) {
            shown += "\xef\xbf\xbd";
            if (c1) ++i;
        } else {
            shown += text[i];
        }
    }
    return shown;
}

std::size_t text_width(std::string_view text) {
    return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
        return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
    }));
}

std::string pad_right(std::string_view text, std::size_t width) {
    const std::size_t used = text_width(text);
    return std::string(text) + std::string(used < width ? width - used : 0, ' ');
}

void write_out(std::string_view text) {
    if (write_all(STDOUT_FILENO, text) != 0) std::_Exit(1);
}

void write_err(std::string_view text) {
    (void)write_all(STDERR_FILENO, text);
}

void print_error(std::string_view text) {
    write_err(paint("error:", Tone::kError) + " " + printable(text) + "\n");
}

void print_warning(std::string_view text) {
    write_err(paint("warn:", Tone::kWarn) + " " + std::string(text) + "\n");
}

void print_notice(std::string_view text) {
    write_err(std::string(text) + "\n");
}

void print_block(std::string_view title, const std::vector<std::string>& lines) {
    std::string text = paint("error:", Tone::kError) + " " + printable(title) + "\n";
    for (const auto& line : lines)
        text += "  " + paint("→", Tone::kDim) + " " + printable(line) + "\n";
    write_err(text);
}

std::string action_line(std::string_view glyph, Tone tone, std::string_view label,
                        std::string_view target) {
    return "   " + paint(glyph, tone) + " " + pad_right(label, kActionLabel) + " " +
           std::string(target);
}

std::string render_table(const std::vector<std::string_view>& header,
                         const std::vector<std::vector<Cell>>& rows, bool colors) {
    if (rows.empty()) return {};
    std::vector<std::size_t> widths;
    for (auto title : header)
        widths.push_back(text_width(title));
    for (const auto& row : rows)
        for (std::size_t i = 0; i < row.size() && i < widths.size(); ++i)
            widths[i] = std::max(widths[i], text_width(row[i].text));

    std::string table;
    const auto append = [&](std::string& line, std::size_t column, std::string_view text,
                            Tone tone) {
        line += paint(text, tone, colors);
        if (column + 1 < widths.size())
            line += std::string(widths[column] - text_width(text) + kTableGap, ' ');
    };
    std::string titles;
    for (std::size_t i = 0; i < header.size(); ++i)
        append(titles, i, header[i], Tone::kPlain);
    table += paint(titles, Tone::kHeader, colors);
    table += "\n";
    for (const auto& row : rows) {
        for (std::size_t i = 0; i < row.size() && i < widths.size(); ++i)
            append(table, i, row[i].text, row[i].tone);
        table += "\n";
    }
    return table;
}

std::string detail(std::string_view label, std::string_view value) {
    const std::string shown = std::string(label) + ":";
    return paint(shown, Tone::kLabel) +
           pad_right("", kDetailLabel - std::min(kDetailLabel, shown.size())) + std::string(value) +
           "\n";
}

std::string indented_detail(std::string_view label, std::string_view value) {
    constexpr std::size_t kWidth = kDetailLabel - 2;
    const std::string shown = std::string(label) + ":";
    return "  " + paint(shown, Tone::kDim) +
           pad_right("", kWidth - std::min(kWidth, shown.size())) + std::string(value) + "\n";
}

Cell status_cell(std::string_view capitalised_status) {
    Cell cell;
    for (char c : capitalised_status)
        cell.text += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    if (cell.text == "running") cell.tone = Tone::kDone;
    if (cell.text == "starting" || cell.text == "paused" || cell.text == "draining")
        cell.tone = Tone::kWarn;
    if (cell.text == "crashed") cell.tone = Tone::kError;
    if (cell.text == "created" || cell.text == "stopped") cell.tone = Tone::kDim;
    return cell;
}

std::string format_bytes(std::uint64_t bytes) {
    static constexpr std::string_view kUnits[] = {"KiB", "MiB", "GiB", "TiB"};
    if (bytes < 1024) return std::to_string(bytes) + " B";
    double value = static_cast<double>(bytes);
    std::string_view unit;
    for (auto candidate : kUnits) {
        value /= 1024;
        unit = candidate;
        if (value < 1024) break;
    }
    return one_decimal(value) + " " + std::string(unit);
}

std::string format_mib(std::uint64_t mib) {
    if (mib != 0 && mib % 1024 == 0) return std::to_string(mib / 1024) + " GiB";
    return std::to_string(mib) + " MiB";
}

std::string format_elapsed(std::int64_t milliseconds) {
    if (milliseconds < 60'000) return one_decimal(static_cast<double>(milliseconds) / 1000) + "s";
    const std::int64_t seconds = milliseconds / 1000;
    return std::to_string(seconds / 60) + "m" + std::to_string(seconds % 60) + "s";
}

std::string format_latency(std::int64_t nanoseconds) {
    if (nanoseconds < 1'000'000) return std::to_string(nanoseconds / 1000) + "us";
    if (nanoseconds < 1'000'000'000) return std::to_string(nanoseconds / 1'000'000) + "ms";
    return one_decimal(static_cast<double>(nanoseconds) / 1e9) + "s";
}

}  // namespace msb::cli
