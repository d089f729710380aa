// What a pull or a load looks like while it goes on (spec/cli.md section 1.6): a header, and a line per layer with a bar.
//
//    ⠼ Pulling      ghcr.io/team/app:1 (3 layers)
//      layer 1/3  ✓
//      layer 2/3  ━━━━━━━━━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌  2.2 MiB/4.5 MiB  materializing
//      layer 3/3  ━━━━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌  1.9 MiB/7.7 MiB  downloading
//
// Events come from the SDK, sizes and names in them from a registry. Not thread-safe.
#pragma once

#include <microsandbox/image.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace msb::cli {

class PullView {
  public:
    // `verb` is "Pulling" or "Loading", `target` what follows it: a reference, an archive.
    PullView(std::string_view verb, std::string_view target);

    void apply(const microsandbox::PullEvent& event);

    // At most max(1, rows - 1) lines, none wider than columns - 1. Where not all layers fit, those at work are shown and
    // the last line counts the others. On a narrow terminal bars get shorter, then amounts are dropped, then bars.
    std::vector<std::string> lines(std::string_view glyph, std::size_t columns, std::size_t rows,
                                   bool colors) const;

  private:
    enum class Phase : std::uint8_t {
        kWaiting,
        kDownloading,
        kVerifying,
        kMaterializing,
        kWriting,
        kDone
    };
    struct Layer {
        Phase phase = Phase::kWaiting;
        std::uint64_t bytes = 0;
        std::optional<std::uint64_t> total;
    };
    struct Columns;  // how wide the parts of a layer's line are in one frame

    static std::string_view phase_text(Phase phase);
    static std::string amount_text(const Layer& layer);
    Layer* layer_of(const microsandbox::PullEvent& event);
    void apply_layer(const microsandbox::PullEvent& event);
    std::string header(std::string_view glyph, std::size_t width, bool colors) const;
    std::vector<std::size_t> shown_layers(std::size_t room) const;
    Columns measure(const std::vector<std::size_t>& shown, std::size_t width) const;
    std::string layer_line(std::size_t index, const Columns& columns, bool colors) const;
    std::string rest_line(const std::vector<std::size_t>& shown) const;

    std::string verb_;
    std::string target_;
    std::string step_;           // "Resolving", "Merging", ...; "" while layers are at work
    bool stitched_ = false;      // the next layer belongs to another image
    std::vector<Layer> layers_;  // from the bottom
};

}  // namespace msb::cli
