// What an archive says of its images: manifest.json of docker-archives, index.json of OCI layouts
// (spec/images.md section 16.1). Everything is checked here that can be without reading a layer.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "image/archive_reader.h"
#include "image/manifest.h"

namespace msb::image {

struct ArchiveLayer {
    std::string path;  // in the archive
    ArchiveReader::Member member;
    std::string diff_id;
    std::string expected_digest;            // "" when the archive does not say
    std::optional<std::string> media_type;  // as the manifest says; nullopt in docker-archives
};

struct ArchiveImage {
    std::vector<std::string> references;  // sorted, each once, at least one
    std::string config_digest;
    ConfigDocument config;
    std::vector<ArchiveLayer> layers;  // bottom first, as many as config.diff_ids
    // OCI layouts. Docker-archives have no manifest: its digest follows from the layers'.
    std::string manifest_digest;
    std::string raw_manifest;
};

// In the archive's order. `tags` are further names of the first image. Throws Error{kCustom}: archive.h.
std::vector<ArchiveImage> read_archive_layout(const ArchiveReader& archive,
                                              std::span<const std::string> tags,
                                              const std::stop_token& stop);

// "docker archive layer path P digest mismatch: ..." or "OCI layer digest mismatch: ..."
[[noreturn]] void throw_layer_digest_mismatch(const ArchiveLayer& layer, const std::string& actual);

}  // namespace msb::image
