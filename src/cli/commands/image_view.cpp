#include "cli/commands/image_view.h"

#include <nlohmann/json.hpp>

#include "base/time.h"
#include "cli/style.h"

namespace msb::cli {

namespace {

using namespace microsandbox;
using Json = nlohmann::json;  // sorted keys: what the contract asks for

constexpr std::string_view kNone = "-";
constexpr std::size_t kShortDigest = 12;  // hex digits

std::string human_time(const std::optional<Timestamp>& time) {
    return time ? local_time(time->time_since_epoch().count()) : std::string(kNone);
}

// "sha256:" and 12 hex digits.
std::string short_digest(std::string_view digest) {
    const auto colon = digest.find(':');
    if (colon == std::string_view::npos) return printable(digest.substr(0, kShortDigest));
    return printable(digest.substr(0, colon + 1 + kShortDigest));
}

std::string size_text(const std::optional<std::uint64_t>& bytes) {
    return bytes ? format_bytes(*bytes) : std::string(kNone);
}

std::string text_or_none(const std::optional<std::string>& text) {
    return text && !text->empty() ? printable(*text) : std::string(kNone);
}

std::string words_or_none(const std::optional<std::vector<std::string>>& words) {
    std::string text;
    for (const auto& word : words.value_or(std::vector<std::string>{}))
        text += (text.empty() ? "" : " ") + printable(word);
    return text.empty() ? std::string(kNone) : text;
}

template <class T>
Json or_null(const std::optional<T>& value) {
    return value ? Json(*value) : Json();
}

std::string section(std::string_view title) {
    return "\n" + paint(title, Tone::kTitle) + "\n";
}

std::string config_text(const ImageConfigInfo& config) {
    std::string text = section("Config");
    text += indented_detail("Entrypoint", words_or_none(config.entrypoint));
    text += indented_detail("Cmd", words_or_none(config.cmd));
    text += indented_detail("WorkingDir", text_or_none(config.working_dir));
    text += indented_detail("User", text_or_none(config.user));
    if (config.env.empty()) return text;
    text += "  " + paint("Env:", Tone::kDim) + "\n";
    for (const auto& entry : config.env)
        text += "    " + printable(entry) + "\n";
    return text;
}

std::string layers_text(const std::vector<ImageLayerInfo>& layers) {
    std::string text = section("Layers (" + std::to_string(layers.size()) + ")");
    for (const ImageLayerInfo& layer : layers)
        text += "  " + pad_right(std::to_string(layer.position + 1), 4) +
                pad_right(short_digest(layer.blob_digest), 16) +
                pad_right(size_text(layer.compressed_size_bytes), 10) +
                printable(layer.media_type.value_or("")) + "\n";
    return text;
}

Json config_json(const ImageConfigInfo& config) {
    return {{"cmd", or_null(config.cmd)},
            {"digest", config.digest},
            {"entrypoint", or_null(config.entrypoint)},
            {"env", config.env},
            {"labels", config.labels},
            {"stop_signal", or_null(config.stop_signal)},
            {"user", or_null(config.user)},
            {"working_dir", or_null(config.working_dir)}};
}

}  // namespace

std::string json_text(const Json& value) {
    return value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string image_table(const std::vector<ImageInfo>& images) {
    std::vector<std::vector<Cell>> rows;
    for (const ImageInfo& image : images)
        rows.push_back(
            {{printable(image.reference)},
             {image.manifest_digest ? short_digest(*image.manifest_digest) : std::string(kNone)},
             {size_text(image.size_bytes)},
             {human_time(image.created_at)}});
    return render_table({"REFERENCE", "DIGEST", "SIZE", "CREATED"}, rows);
}

Json image_json(const ImageInfo& image) {
    return {{"architecture", or_null(image.architecture)},
            {"created_at", image.created_at
                               ? Json(rfc3339_offset(image.created_at->time_since_epoch().count()))
                               : Json()},
            {"digest", or_null(image.manifest_digest)},
            {"layer_count", image.layer_count},
            {"os", or_null(image.os)},
            {"reference", image.reference},
            {"size_bytes", or_null(image.size_bytes)}};
}

std::string image_text(const ImageDetail& image) {
    std::string text = detail("Reference", printable(image.image.reference));
    text += detail("Digest", text_or_none(image.image.manifest_digest));
    text += detail("Architecture", text_or_none(image.image.architecture));
    text += detail("OS", text_or_none(image.image.os));
    text += detail("Size", size_text(image.image.size_bytes));
    text += detail("Created", human_time(image.image.created_at));
    if (image.config) text += config_text(*image.config);
    return text + layers_text(image.layers);
}

Json image_json(const ImageDetail& image) {
    Json document = image_json(image.image);
    document["config"] = image.config ? config_json(*image.config) : Json();
    Json layers = Json::array();
    for (const ImageLayerInfo& layer : image.layers)
        layers.push_back({{"blob_digest", layer.blob_digest},
                          {"compressed_size_bytes", or_null(layer.compressed_size_bytes)},
                          {"diff_id", layer.diff_id},
                          {"erofs_size_bytes", or_null(layer.erofs_size_bytes)},
                          {"media_type", or_null(layer.media_type)},
                          {"position", layer.position}});
    document["layers"] = std::move(layers);
    return document;
}

bool is_empty(const ImagePruneReport& report) {
    return report.image_refs_removed == 0 && report.manifests_removed == 0 &&
           report.layers_removed == 0 && report.fsmeta_removed == 0 && report.vmdk_removed == 0;
}

std::string prune_text(const ImagePruneReport& report) {
    std::string text = indented_detail("Image refs", std::to_string(report.image_refs_removed));
    text += indented_detail("Manifests", std::to_string(report.manifests_removed));
    text += indented_detail("Layers", std::to_string(report.layers_removed));
    if (report.fsmeta_removed != 0)
        text += indented_detail("Fsmeta", std::to_string(report.fsmeta_removed));
    if (report.vmdk_removed != 0)
        text += indented_detail("VMDK", std::to_string(report.vmdk_removed));
    if (report.bytes_reclaimed)
        text += indented_detail("Reclaimed", format_bytes(*report.bytes_reclaimed));
    return text;
}

Json prune_json(const ImagePruneReport& report) {
    return {{"bytes_reclaimed", or_null(report.bytes_reclaimed)},
            {"fsmeta_removed", report.fsmeta_removed},
            {"image_refs_removed", report.image_refs_removed},
            {"layers_removed", report.layers_removed},
            {"manifests_removed", report.manifests_removed},
            {"vmdk_removed", report.vmdk_removed}};
}

}  // namespace msb::cli
