#include "cli/suggest.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

namespace msb::cli {

namespace {

constexpr double kSimilarEnough = 0.7;      // clap's threshold
constexpr std::size_t kLongestWord = 64;    // compared words are flags, commands and keywords
constexpr std::size_t kLongestGuess = 256;  // longer words get no suggestion

}  // namespace

double jaro(std::string_view a, std::string_view b) {
    if (a.empty() && b.empty()) return 1.0;
    if (a.empty() || b.empty()) return 0.0;
    if (a.size() > kLongestGuess || b.size() > kLongestGuess) return 0.0;
    const std::size_t longest = std::max(a.size(), b.size());
    const std::size_t window = longest / 2 == 0 ? 0 : longest / 2 - 1;

    std::array<bool, kLongestGuess> taken{};
    std::array<char, kLongestGuess> matched{};
    std::size_t matches = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        const std::size_t from = i > window ? i - window : 0;
        const std::size_t to = std::min(b.size(), i + window + 1);
        for (std::size_t j = from; j < to; ++j) {
            if (taken[j] || a[i] != b[j]) continue;
            taken[j] = true;
            matched[matches++] = a[i];
            break;
        }
    }
    if (matches == 0) return 0.0;

    std::size_t transpositions = 0;
    for (std::size_t j = 0, k = 0; j < b.size(); ++j) {
        if (!taken[j]) continue;
        if (b[j] != matched[k++]) ++transpositions;
    }
    const double m = static_cast<double>(matches);
    const double t = static_cast<double>(transpositions / 2);
    return (m / static_cast<double>(a.size()) + m / static_cast<double>(b.size()) + (m - t) / m) /
           3.0;
}

std::vector<std::string_view> similar_words(std::string_view word,
                                            const std::vector<std::string_view>& candidates) {
    std::vector<std::pair<double, std::string_view>> scored;
    for (auto candidate : candidates) {
        const double score = jaro(word, candidate);
        if (score > kSimilarEnough) scored.emplace_back(score, candidate);
    }
    std::stable_sort(scored.begin(), scored.end(),
                     [](const auto& x, const auto& y) { return x.first < y.first; });
    std::vector<std::string_view> words;
    for (const auto& [score, candidate] : scored)
        words.push_back(candidate);
    return words;
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
    if (a.size() > kLongestWord || b.size() > kLongestWord) return SIZE_MAX;
    std::array<std::size_t, kLongestWord + 1> row{};
    for (std::size_t j = 0; j <= b.size(); ++j)
        row[j] = j;
    for (std::size_t i = 1; i <= a.size(); ++i) {
        std::size_t diagonal = row[0];
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const std::size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
            diagonal = row[j];
            row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
        }
    }
    return row[b.size()];
}

}  // namespace msb::cli
