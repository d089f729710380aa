// Documents of registries and archives: manifest, index, config, and the cache's own record of an image.
#include <cstdlib>

#include "base/error.h"
#include "base/json.h"
#include "image/manifest.h"

namespace {

using namespace msb::image;

template <class Parse>
void attempt(Parse parse) {
    try {
        parse();
    } catch (const msb::Error&) {
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string_view text(reinterpret_cast<const char*>(data), size);
    attempt([&] { is_index(text); });
    attempt([&] {
        // What is stored of a manifest must be one, with the same layers.
        Manifest manifest = parse_manifest(text);
        Manifest again = parse_manifest(manifest.canonical);
        if (again.layers.size() != manifest.layers.size() ||
            again.config.digest != manifest.config.digest || again.canonical != manifest.canonical)
            std::abort();
    });
    attempt([&] {
        Index index = parse_index(text);
        const Descriptor* entry = select_platform(index);
        if (entry != nullptr && entry->platform != host_platform()) std::abort();
    });
    attempt([&] {
        ConfigDocument config = parse_config(text);
        if (config.raw != text) std::abort();
        // What a pull records of it can be read back.
        CachedImage image;
        image.manifest_digest = image.config_digest = "sha256:" + std::string(64, 'a');
        image.config = config.config;
        if (read_cached_image(write_cached_image(image)) != image) std::abort();
    });
    if (auto image = read_cached_image(text)) {
        if (read_cached_image(write_cached_image(*image)) != image) std::abort();
    }
    return 0;
}
