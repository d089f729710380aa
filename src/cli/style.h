// Colours and the fixed shapes of messages, tables and details (spec/cli.md sections 1.5 and 1.6).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace msb::cli {

// SGR codes, in the order they are written.
enum class Tone : std::uint8_t {
    kPlain,
    kError,
    kWarn,
    kInfo,
    kDone,
    kGood,
    kBad,
    kNotice,
    kDim,
    kHeader,
    kLabel,
    kTitle,
    kBar
};

// Whether messages are coloured: decided by standard output alone, also for text on standard error.
bool colors_enabled();
// The rule itself, for tests: NO_COLOR set, CLICOLOR, CLICOLOR_FORCE, TERM and whether standard output is a terminal.
struct ColorEnvironment {
    bool terminal = false;
    bool no_color = false;
    std::string_view clicolor;        // "" = unset
    std::string_view clicolor_force;  // "" = unset
    std::string_view term;            // "" = unset
};
bool colors_wanted(const ColorEnvironment& environment);

std::string paint(std::string_view text, Tone tone, bool colors);
inline std::string paint(std::string_view text, Tone tone) {
    return paint(text, tone, colors_enabled());
}

// For text somebody else chose (guests, images, damaged rows): control characters but the newline become U+FFFD, so it
// cannot drive the terminal.
std::string printable(std::string_view text);

// Code points, which is what columns are measured in.
std::size_t text_width(std::string_view text);
std::string pad_right(std::string_view text, std::size_t width);

// Everything written here goes to standard error, one write each.
void print_error(std::string_view text);    // "error: TEXT"
void print_warning(std::string_view text);  // "warn: TEXT"
void print_notice(std::string_view text);   // "TEXT"
// "error: TITLE" and "  → LINE" for each.
void print_block(std::string_view title, const std::vector<std::string>& lines);
// "   ✓ Started      box (1.2s)"
std::string action_line(std::string_view glyph, Tone tone, std::string_view label,
                        std::string_view target);

// Standard output, complete or fatal: a closed pipe ends the process with status 1 as it would any filter.
void write_out(std::string_view text);
void write_err(std::string_view text);

struct Cell {
    std::string text;
    Tone tone = Tone::kPlain;
};
// Cells padded to the widest of their column and 4 blanks, the last column not padded; "" without rows.
std::string render_table(const std::vector<std::string_view>& header,
                         const std::vector<std::vector<Cell>>& rows, bool colors);
inline std::string render_table(const std::vector<std::string_view>& header,
                                const std::vector<std::vector<Cell>>& rows) {
    return render_table(header, rows, colors_enabled());
}

// "Label:          value", "  Label:        value".
std::string detail(std::string_view label, std::string_view value);
std::string indented_detail(std::string_view label, std::string_view value);

// A lower-case status word and its colour.
Cell status_cell(std::string_view capitalised_status);

// "N B", "1.5 KiB" ... TiB.
std::string format_bytes(std::uint64_t bytes);
// "2 GiB" when divisible, else "N MiB".
std::string format_mib(std::uint64_t mib);
// "12.3s", "2m5s".
std::string format_elapsed(std::int64_t milliseconds);
// "700us", "8ms", "1.2s".
std::string format_latency(std::int64_t nanoseconds);

}  // namespace msb::cli
