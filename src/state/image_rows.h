// Rows of images: image_ref, manifest, config, layer, manifest_layer (spec/state.md section 5, spec/images.md
// section 17). The files they speak of are in the image cache; see sdk/images.h for the two together.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "state/database.h"

namespace msb::state {

struct ImageLayerRow {
    std::string diff_id;
    std::string blob_digest;
    std::optional<std::string> media_type;
    std::optional<std::int64_t> compressed_size_bytes;
    std::optional<std::int64_t> erofs_size_bytes;  // never written by upstream or us
};

struct ImageConfigRow {
    std::string digest;
    std::vector<std::string> env;
    std::optional<std::vector<std::string>> cmd;
    std::optional<std::vector<std::string>> entrypoint;
    std::optional<std::string> working_dir;
    std::optional<std::string> user;
    std::vector<std::pair<std::string, std::string>> labels;  // sorted by key
    std::optional<std::string> stop_signal;                   // read; always written NULL
};

// What a pull or load records.
struct ImageRecord {
    std::string manifest_digest;
    std::string architecture, os;  // the host's
    ImageConfigRow config;
    std::vector<ImageLayerRow> layers;  // bottom first
};

// One image_ref with its manifest.
struct ImageRow {
    std::string reference;
    std::optional<std::string> manifest_digest;
    std::optional<std::string> architecture, os;
    std::int64_t layer_count = 0;
    std::optional<std::int64_t> total_size_bytes;
    std::optional<std::int64_t> created_at, updated_at;  // Unix nanoseconds
};

struct ImageDetailRows {
    ImageRow image;
    std::optional<ImageConfigRow> config;
    std::vector<ImageLayerRow> layers;  // bottom first
};

// Upserts the reference and what it points to. A reference that already points there only has its times refreshed.
void record_image(Database& database, std::string_view reference, const ImageRecord& image);

std::vector<ImageRow> list_images(Database& database);  // newest created_at first
// By the exact reference text. Throws Error{kImageNotFound} "R".
ImageRow get_image(Database& database, std::string_view reference);
ImageDetailRows get_image_detail(Database& database, std::string_view reference);

// What left the database, for the caller to delete the files of.
struct RemovedImages {
    std::vector<std::string> references;
    std::vector<std::string> manifest_digests;
    std::vector<std::string> layer_diff_ids;
};

// Deletes the reference; with the manifest's last reference also the manifest, and layers no manifest uses any more.
// Throws Error{kImageNotFound} "R"; Error{kImageInUse} "1, 2" (ids of the sandboxes that booted from the manifest, also
// when other references remain) unless `force`; Error{kDatabase} when the last reference goes by force in spite of them.
RemovedImages remove_image(Database& database, std::string_view reference, bool force);

// Everything no sandbox_rootfs row and no snapshot names.
RemovedImages prune_images(Database& database);

}  // namespace msb::state
