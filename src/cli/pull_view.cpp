#include "cli/pull_view.h"

#include <algorithm>
#include <array>
#include <utility>

#include "cli/live_region.h"
#include "cli/style.h"

namespace msb::cli {

namespace {

using microsandbox::PullEvent;
using Kind = PullEvent::Kind;

constexpr std::size_t kBarCells = 36;
constexpr std::size_t kFewestCells = 8;  // shorter bars say nothing
constexpr std::size_t kPhaseWidth = 13;  // of "materializing" and "writing image"
constexpr std::string_view kIndent = "     ";
constexpr std::string_view kGap = "  ";
// A registry says how many layers there are; images have at most some hundred.
constexpr std::size_t kMostLayers = 10'000;

std::string repeated(std::string_view cell, std::size_t count) {
    std::string text;
    for (std::size_t i = 0; i < count; ++i)
        text += cell;
    return text;
}

std::string layers_text(std::size_t count) {
    return std::to_string(count) + (count == 1 ? " layer" : " layers");
}

}  // namespace

struct PullView::Columns {
    std::size_t number = 0;  // "12/12", left-padded
    std::size_t cells = 0;   // of the bar; 0: none
    std::size_t amount = 0;  // "1.2 MiB/3.4 MiB", right-padded; 0: none
};

PullView::PullView(std::string_view verb, std::string_view target)
    : verb_(verb), target_(printable(target)) {}

std::string_view PullView::phase_text(Phase phase) {
    static constexpr std::array<std::string_view, 6> kTexts = {
        "waiting", "downloading", "verifying", "materializing", "writing image", "✓"};
    return kTexts[static_cast<std::size_t>(phase)];
}

std::string PullView::amount_text(const Layer& layer) {
    if (layer.phase == Phase::kWaiting || layer.phase == Phase::kDone) return {};
    std::string text = format_bytes(layer.bytes);
    if (layer.total) text += "/" + format_bytes(*layer.total);
    return text;
}

void PullView::apply(const PullEvent& event) {
    switch (event.kind) {
        case Kind::kResolving:
            if (verb_ == "Pulling") step_ = "Resolving";
            break;
        case Kind::kResolved:
            step_.clear();
            stitched_ = false;
            layers_.assign(std::min(event.layer_count, kMostLayers), {});
            break;
        case Kind::kStitchMergingTrees:
            step_ = "Merging";
            break;
        case Kind::kStitchWritingFsmeta:
            step_ = "Writing fsmeta";
            break;
        case Kind::kStitchWritingVmdk:
            step_ = "Writing vmdk";
            break;
        case Kind::kStitchComplete:
            step_ = "Stitched";
            stitched_ = true;
            break;
        case Kind::kComplete:
            stitched_ = true;
            break;
        default:
            apply_layer(event);
    }
}

PullView::Layer* PullView::layer_of(const PullEvent& event) {
    // Archives hold several images; only their layers announce them.
    if (std::exchange(stitched_, false)) layers_.clear();
    if (event.layer_count > layers_.size())
        layers_.resize(std::min(event.layer_count, kMostLayers));
    return event.layer_index < layers_.size() ? &layers_[event.layer_index] : nullptr;
}

void PullView::apply_layer(const PullEvent& event) {
    Layer* layer = layer_of(event);
    if (!layer) return;
    step_.clear();
    switch (event.kind) {
        case Kind::kLayerDownloadProgress:
            *layer = {Phase::kDownloading, event.bytes, event.total};
            break;
        case Kind::kLayerDownloadComplete:
            *layer = {Phase::kVerifying, event.bytes, event.bytes};
            break;
        case Kind::kLayerMaterializeStarted:
            layer->phase = Phase::kMaterializing;
            layer->bytes = 0;
            break;
        case Kind::kLayerMaterializeProgress:
            *layer = {Phase::kMaterializing, event.bytes, event.total};
            break;
        case Kind::kLayerMaterializeWriting:
            layer->phase = Phase::kWriting;
            layer->bytes = layer->total.value_or(layer->bytes);
            break;
        default:
            layer->phase = Phase::kDone;
    }
}

std::string PullView::header(std::string_view glyph, std::size_t width, bool colors) const {
    std::string target = target_;
    if (step_ == "Resolving") target += "...";
    if (step_.empty() && !layers_.empty()) target += " (" + layers_text(layers_.size()) + ")";
    const std::string text = pad_right(step_.empty() ? verb_ : step_, 12) + " " + target;
    const std::string line = "   " + paint(glyph, Tone::kLabel, colors) + " " + text;
    return cut_visible(line, width);
}

std::vector<std::size_t> PullView::shown_layers(std::size_t room) const {
    std::vector<std::size_t> shown;
    const auto take = [&](auto&& wanted) {
        for (std::size_t i = 0; i < layers_.size() && shown.size() < room; ++i)
            if (wanted(layers_[i].phase)) shown.push_back(i);
    };
    take([](Phase phase) { return phase != Phase::kWaiting && phase != Phase::kDone; });
    take([](Phase phase) { return phase == Phase::kWaiting; });
    take([](Phase phase) { return phase == Phase::kDone; });
    std::sort(shown.begin(), shown.end());
    return shown;
}

PullView::Columns PullView::measure(const std::vector<std::size_t>& shown,
                                    std::size_t width) const {
    Columns columns;
    columns.number = 2 * std::to_string(layers_.size()).size() + 1;
    for (std::size_t index : shown)
        columns.amount = std::max(columns.amount, text_width(amount_text(layers_[index])));
    // Room for the amounts to come, so that nothing moves while they grow.
    for (const Layer& layer : layers_)
        if (layer.total)
            columns.amount = std::max(columns.amount, 2 * format_bytes(*layer.total).size() + 1);
    const std::size_t fixed = kIndent.size() + std::string_view("layer ").size() + columns.number +
                              2 * kGap.size() + kPhaseWidth;
    const auto cells = [&](std::size_t used) {
        const std::size_t left = width > used ? width - used : 0;
        return left < kFewestCells ? 0 : std::min(left, kBarCells);
    };
    columns.cells = cells(fixed + kGap.size() + columns.amount);
    if (columns.cells == 0) {
        columns.amount = 0;
        columns.cells = cells(fixed);
    }
    return columns;
}

std::string PullView::layer_line(std::size_t index, const Columns& columns, bool colors) const {
    const Layer& layer = layers_[index];
    const std::string number = std::to_string(index + 1) + "/" + std::to_string(layers_.size());
    std::string line(kIndent);
    line += "layer " + std::string(columns.number - number.size(), ' ') + number;
    line += kGap;
    if (layer.phase == Phase::kDone)
        return line + paint(phase_text(layer.phase), Tone::kGood, colors);
    if (columns.cells != 0) {
        const std::uint64_t total = layer.total.value_or(0);
        const std::size_t full =
            total == 0 ? 0
                       : static_cast<std::size_t>(
                             static_cast<double>(std::min(layer.bytes, total)) /
                             static_cast<double>(total) * static_cast<double>(columns.cells));
        line += paint(repeated("━", full), Tone::kBar, colors);
        line += paint(repeated("╌", columns.cells - full), Tone::kDim, colors);
        line += kGap;
    }
    if (columns.amount != 0)
        line += pad_right(amount_text(layer), columns.amount) + std::string(kGap);
    const Tone tone = layer.phase == Phase::kWaiting ? Tone::kDim : Tone::kBar;
    return line + paint(phase_text(layer.phase), tone, colors);
}

std::string PullView::rest_line(const std::vector<std::size_t>& shown) const {
    const auto count = [](auto&& list, auto&& phase_of) {
        return static_cast<std::size_t>(
            std::count_if(list.begin(), list.end(),
                          [&](const auto& item) { return phase_of(item) == Phase::kDone; }));
    };
    const std::size_t done = count(layers_, [](const Layer& layer) { return layer.phase; }) -
                             count(shown, [&](std::size_t i) { return layers_[i].phase; });
    const std::size_t rest = layers_.size() - shown.size();
    return std::string(kIndent) + "and " + std::to_string(rest) + " more: " + std::to_string(done) +
           " done, " + std::to_string(rest - done) + " to do";
}

std::vector<std::string> PullView::lines(std::string_view glyph, std::size_t columns,
                                         std::size_t rows, bool colors) const {
    const std::size_t width = columns > 1 ? columns - 1 : 1;
    std::vector<std::string> lines{header(glyph, width, colors)};
    if (rows < 3) return lines;
    std::size_t room = rows - 2;  // the header, and the row of the cursor's next line
    const bool all = layers_.size() <= room;
    if (!all) --room;
    const auto shown = shown_layers(room);
    const Columns parts = measure(shown, width);
    for (std::size_t index : shown)
        lines.push_back(cut_visible(layer_line(index, parts, colors), width));
    if (!all) lines.push_back(cut_visible(rest_line(shown), width));
    return lines;
}

}  // namespace msb::cli
