#include "image/manifest.h"

#include <algorithm>

#include "base/error.h"
#include "base/json.h"
#include "image/reference.h"

namespace msb::image {

namespace {

using json::Reader;
using json::Value;

[[noreturn]] void fail(const std::string& what) {
    throw Error(ErrorCode::kCustom, what);
}

// Runs a parser of a registry's document and gives its failures the registry's prefix.
template <class Parse>
auto as_manifest(Parse parse) {
    try {
        return parse();
    } catch (const json::ParseError& e) {
        fail(std::string("registry error: Failed to parse manifest: ") + e.what());
    }
}

Descriptor read_descriptor(const Value& value) {
    Reader reader(value, "OciDescriptor");
    Descriptor descriptor;
    descriptor.media_type = reader.string("mediaType");
    descriptor.digest = reader.string("digest");
    descriptor.size = reader.integer<std::uint64_t>("size");
    check_digest(descriptor.digest);
    if (reader.has("platform")) {
        Reader platform(reader.raw("platform"), "Platform");
        descriptor.platform = Platform{platform.string("architecture"), platform.string("os")};
    }
    if (reader.has("annotations")) {
        const Value& annotations = reader.raw("annotations");
        Reader(annotations, "a map");
        for (const auto& [key, text] : annotations.items())
            descriptor.annotations[key] = json::to_string(text);
    }
    if (reader.has("urls")) descriptor.urls = reader.string_list("urls");
    return descriptor;
}

Value write_descriptor(const Value& original) {
    // Upstream's key order; members that are absent or null are left out.
    Value out = Value::object();
    for (const char* key : {"mediaType", "digest", "size", "urls", "annotations", "artifactType"}) {
        auto it = original.find(key);
        if (it != original.end() && !it->is_null()) out[key] = *it;
    }
    return out;
}

void check_header(const Reader& reader) {
    auto version = reader.integer<std::uint64_t>("schemaVersion");
    if (version != 2)
        fail("registry error: Unsupported schema version: " + std::to_string(version));
    std::optional<std::string> type = reader.optional_string("mediaType");
    bool known = !type || *type == kOciManifestType || *type == kOciIndexType ||
                 *type == kDockerManifestType || *type == kDockerListType;
    if (!known) fail("registry error: Unsupported media type: " + *type);
}

std::vector<std::string> sorted_keys(const Value* object) {
    std::vector<std::string> keys;
    if (object == nullptr || object->is_null()) return keys;
    for (const auto& [key, value] : object->items())
        keys.push_back(key);
    std::ranges::sort(keys);
    return keys;
}

std::vector<std::pair<std::string, std::string>> string_map(const Value* object) {
    std::vector<std::pair<std::string, std::string>> map;
    if (object == nullptr || object->is_null()) return map;
    for (const auto& [key, value] : object->items())
        map.emplace_back(key, json::to_string(value));
    std::ranges::sort(map);
    return map;
}

ImageConfig read_image_config(const Value& value) {
    Reader reader(value, "Config");
    ImageConfig config;
    if (reader.has("Env")) config.env = reader.string_list("Env");
    config.cmd = reader.optional_string_list("Cmd");
    config.entrypoint = reader.optional_string_list("Entrypoint");
    config.working_dir = reader.optional_string("WorkingDir");
    config.user = reader.optional_string("User");
    config.exposed_ports = sorted_keys(reader.find("ExposedPorts"));
    config.volumes = sorted_keys(reader.find("Volumes"));
    config.labels = string_map(reader.find("Labels"));
    config.stop_signal = reader.optional_string("StopSignal");
    return config;
}

template <class T>
Value nullable(const std::optional<T>& value) {
    return value ? Value(*value) : Value(nullptr);
}

}  // namespace

Platform host_platform() {
#if defined(__aarch64__)
    return {"arm64", "linux"};
#else
    return {"amd64", "linux"};
#endif
}

bool is_index(std::string_view text) {
    return as_manifest([&] {
        Value value = json::parse(text);
        Reader reader(value, "OciManifest");
        if (auto type = reader.optional_string("mediaType"))
            return *type == kOciIndexType || *type == kDockerListType;
        return reader.has("manifests");
    });
}

Manifest parse_manifest(std::string_view text) {
    return as_manifest([&] {
        Value value = json::parse(text);
        Reader reader(value, "OciImageManifest");
        check_header(reader);
        Manifest manifest;
        manifest.raw = text;
        manifest.config = read_descriptor(reader.raw("config"));
        const Value& layers = json::expect_array(reader.raw("layers"));
        if (layers.size() > kMaxLayers)
            fail("manifest parse error: image has " + std::to_string(layers.size()) +
                 " layers; max is " + std::to_string(kMaxLayers));
        for (const Value& layer : layers)
            manifest.layers.push_back(read_descriptor(layer));

        Value canonical = Value::object();
        canonical["schemaVersion"] = 2;
        for (const char* key :
             {"mediaType", "config", "layers", "subject", "artifactType", "annotations"}) {
            const Value* member = reader.find(key);
            if (member == nullptr || member->is_null()) continue;
            if (member->is_array()) {
                canonical[key] = Value::array();
                for (const Value& layer : *member)
                    canonical[key].push_back(write_descriptor(layer));
            } else if (std::string_view(key) == "config" || std::string_view(key) == "subject") {
                canonical[key] = write_descriptor(*member);
            } else {
                canonical[key] = *member;
            }
        }
        manifest.canonical = json::dump(canonical);
        return manifest;
    });
}

Index parse_index(std::string_view text) {
    return as_manifest([&] {
        Value value = json::parse(text);
        Reader reader(value, "OciImageIndex");
        check_header(reader);
        const Value& manifests = json::expect_array(reader.raw("manifests"));
        if (manifests.size() > kMaxIndexEntries)
            fail("manifest parse error: image index has " + std::to_string(manifests.size()) +
                 " entries; max is " + std::to_string(kMaxIndexEntries));
        Index index;
        for (const Value& entry : manifests)
            index.manifests.push_back(read_descriptor(entry));
        return index;
    });
}

const Descriptor* select_platform(const Index& index) {
    Platform host = host_platform();
    for (const Descriptor& descriptor : index.manifests) {
        if (descriptor.platform == host && !descriptor.media_type.contains("attestation"))
            return &descriptor;
    }
    return nullptr;
}

ConfigDocument parse_config(std::string_view text) {
    ConfigDocument document;
    document.raw = text;
    try {
        Value value = json::parse(text);
        Reader reader(value, "ImageConfiguration");
        document.architecture = reader.string("architecture");
        document.os = reader.string("os");
        if (reader.has("config")) document.config = read_image_config(reader.raw("config"));
        Reader rootfs(reader.raw("rootfs"), "RootFs");
        rootfs.string("type");
        document.diff_ids = rootfs.string_list("diff_ids");
    } catch (const json::ParseError& e) {
        fail(std::string("config parse error: failed to parse image config: ") + e.what());
    }
    for (std::size_t i = 0; i < document.diff_ids.size(); ++i) {
        if (!is_sha256(document.diff_ids[i]))
            fail("manifest parse error: invalid diff_id at layer " + std::to_string(i) + ": " +
                 document.diff_ids[i].substr(0, 256));
    }
    return document;
}

void check_layer_count(const ConfigDocument& config, std::size_t layers, std::string_view where) {
    if (config.diff_ids.size() == layers) return;
    fail("manifest parse error: layer count mismatch: config has " +
         std::to_string(config.diff_ids.size()) + " diff_ids but " + std::string(where) + " has " +
         std::to_string(layers) + " layers");
}

std::string write_cached_image(const CachedImage& image) {
    Value labels = Value::object();
    for (const auto& [key, value] : image.config.labels)
        labels[key] = value;
    Value layers = Value::array();
    for (const CachedLayer& layer : image.layers) {
        layers.push_back({{"digest", layer.digest},
                          {"media_type", nullable(layer.media_type)},
                          {"size_bytes", nullable(layer.size_bytes)},
                          {"diff_id", layer.diff_id}});
    }
    Value config = {{"env", image.config.env},
                    {"cmd", nullable(image.config.cmd)},
                    {"entrypoint", nullable(image.config.entrypoint)},
                    {"working_dir", nullable(image.config.working_dir)},
                    {"user", nullable(image.config.user)},
                    {"exposed_ports", image.config.exposed_ports},
                    {"volumes", image.config.volumes},
                    {"labels", labels},
                    {"stop_signal", nullable(image.config.stop_signal)}};
    return json::dump({{"manifest_digest", image.manifest_digest},
                       {"config_digest", image.config_digest},
                       {"raw_manifest_json", image.raw_manifest_json},
                       {"raw_config_json", image.raw_config_json},
                       {"config", config},
                       {"layers", layers}});
}

std::optional<CachedImage> read_cached_image(std::string_view text) {
    try {
        Value value = json::parse(text);
        Reader reader(value, "CachedImageMetadata");
        CachedImage image;
        image.manifest_digest = reader.string("manifest_digest");
        image.config_digest = reader.string("config_digest");
        image.raw_manifest_json = reader.string("raw_manifest_json");
        image.raw_config_json = reader.string("raw_config_json");
        Reader config(reader.raw("config"), "ImageConfig");
        image.config.env = config.string_list("env");
        image.config.cmd = config.optional_string_list("cmd");
        image.config.entrypoint = config.optional_string_list("entrypoint");
        image.config.working_dir = config.optional_string("working_dir");
        image.config.user = config.optional_string("user");
        image.config.exposed_ports = config.string_list("exposed_ports");
        image.config.volumes = config.string_list("volumes");
        image.config.labels = string_map(&config.raw("labels"));
        image.config.stop_signal = config.optional_string("stop_signal");
        for (const Value& entry : json::expect_array(reader.raw("layers"))) {
            Reader layer(entry, "CachedLayerMetadata");
            image.layers.push_back({layer.string("digest"), layer.optional_string("media_type"),
                                    layer.optional_integer<std::uint64_t>("size_bytes"),
                                    layer.string("diff_id")});
            if (!is_sha256(image.layers.back().diff_id)) return std::nullopt;
        }
        check_digest(image.manifest_digest);
        return image;
    } catch (const json::ParseError&) {
        return std::nullopt;
    } catch (const Error&) {
        return std::nullopt;
    }
}

}  // namespace msb::image
