// How alike two words are: "a similar argument exists", "Did you mean".
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace msb::cli {

// Jaro similarity of the bytes, 0 to 1.
double jaro(std::string_view a, std::string_view b);

// The candidates more similar than 0.7, the most similar last (what clap suggests).
std::vector<std::string_view> similar_words(std::string_view word,
                                            const std::vector<std::string_view>& candidates);

// Levenshtein distance in bytes. Words longer than 64 bytes count as unlike anything (SIZE_MAX): nobody means them.
std::size_t edit_distance(std::string_view a, std::string_view b);

}  // namespace msb::cli
