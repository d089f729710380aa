// The public image operations.
#include <microsandbox/image.h>

#include "base/error.h"
#include "image/archive.h"
#include "sdk/image_store.h"
#include "state/image_rows.h"

namespace microsandbox {

namespace {

namespace image = msb::image;
namespace state = msb::state;
using msb::sdk::LocalBackend;

std::optional<Timestamp> time_of(const std::optional<std::int64_t>& unix_ns) {
    if (!unix_ns) return std::nullopt;
    return Timestamp(std::chrono::nanoseconds(*unix_ns));
}

std::optional<std::uint64_t> size_of(const std::optional<std::int64_t>& bytes) {
    if (!bytes) return std::nullopt;
    return static_cast<std::uint64_t>(*bytes);
}

ImageInfo info_of(const state::ImageRow& row) {
    ImageInfo info;
    info.reference = row.reference;
    info.manifest_digest = row.manifest_digest;
    info.architecture = row.architecture;
    info.os = row.os;
    info.layer_count = static_cast<std::size_t>(row.layer_count);
    info.size_bytes = size_of(row.total_size_bytes);
    info.created_at = time_of(row.created_at);
    info.last_used_at = time_of(row.updated_at);
    return info;
}

std::vector<ImageInfo> record_loaded(LocalBackend& backend,
                                     const std::vector<image::LoadedReference>& loaded) {
    std::vector<ImageInfo> infos;
    for (const image::LoadedReference& one : loaded) {
        msb::sdk::record_cached_image(backend, one.reference, *one.image);
        infos.push_back(info_of(state::get_image(backend.database(), one.reference)));
    }
    return infos;
}

// Path or descriptor.
template <class Source>
std::vector<ImageInfo> load_source(const Source& source, const std::vector<std::string>& tags,
                                   const PullProgress& progress, std::stop_token stop) {
    auto backend = LocalBackend::current("Image::load");
    const image::Cache cache = msb::sdk::open_image_cache(*backend);
    const msb::FileLock use = msb::sdk::use_images(cache);
    return record_loaded(*backend,
                         image::load_archive(cache, source, {tags, progress, std::move(stop)}));
}

template <class Target>
void save_target(const std::vector<std::string>& references, const Target& target,
                 ArchiveFormat format, std::stop_token stop) {
    auto backend = LocalBackend::current("Image::save");
    const image::Cache cache = msb::sdk::open_image_cache(*backend);
    const msb::FileLock use = msb::sdk::use_images(cache);
    image::save_archive(cache, image::find_images_to_save(cache, references), format, target,
                        std::move(stop));
}

}  // namespace

PulledImage Image::pull(const std::string& reference, const ImagePullOptions& options,
                        std::stop_token stop) {
    auto backend = LocalBackend::current("Image::pull");
    image::PullOptions pull =
        msb::sdk::pull_options(*backend, image::parse_reference(reference), options.registry);
    pull.policy = options.policy;
    pull.force = options.force;
    pull.target = options.target.value_or(msb::sdk::default_pull_target(*backend));
    pull.events = options.progress;
    pull.stop = std::move(stop);
    const image::Cache cache = msb::sdk::open_image_cache(*backend);
    const msb::FileLock use = msb::sdk::use_images(cache);
    const image::PulledImage pulled =
        msb::sdk::pull_image(*backend, cache, reference, std::move(pull));
    return {reference, pulled.image.manifest_digest, pulled.image.layers.size(), pulled.cached};
}

ImageInfo Image::get(const std::string& reference) {
    auto backend = LocalBackend::current("Image::get");
    return info_of(state::get_image(backend->database(), reference));
}

std::vector<ImageInfo> Image::list() {
    auto backend = LocalBackend::current("Image::list");
    std::vector<ImageInfo> infos;
    for (const state::ImageRow& row : state::list_images(backend->database()))
        infos.push_back(info_of(row));
    return infos;
}

ImageDetail Image::inspect(const std::string& reference) {
    auto backend = LocalBackend::current("Image::inspect");
    const state::ImageDetailRows rows = state::get_image_detail(backend->database(), reference);
    ImageDetail detail;
    detail.image = info_of(rows.image);
    if (rows.config) {
        const state::ImageConfigRow& row = *rows.config;
        detail.config = ImageConfigInfo{
            row.digest,      row.env,  row.entrypoint,  row.cmd,
            row.working_dir, row.user, row.stop_signal, {row.labels.begin(), row.labels.end()},
        };
    }
    for (const state::ImageLayerRow& layer : rows.layers)
        detail.layers.push_back({detail.layers.size(), layer.blob_digest, layer.diff_id,
                                 layer.media_type, size_of(layer.compressed_size_bytes),
                                 size_of(layer.erofs_size_bytes)});
    return detail;
}

void Image::remove(const std::string& reference, bool force) {
    msb::sdk::remove_image(*LocalBackend::current("Image::remove"), reference, force);
}

ImagePruneReport Image::prune() {
    return msb::sdk::prune_images(*LocalBackend::current("Image::prune"));
}

std::vector<ImageInfo> Image::load(const std::filesystem::path& archive,
                                   const std::vector<std::string>& tags,
                                   const PullProgress& progress, std::stop_token stop) {
    return load_source(archive, tags, progress, std::move(stop));
}
std::vector<ImageInfo> Image::load_from(int fd, const std::vector<std::string>& tags,
                                        const PullProgress& progress, std::stop_token stop) {
    return load_source(fd, tags, progress, std::move(stop));
}

void Image::save(const std::vector<std::string>& references, const std::filesystem::path& archive,
                 ArchiveFormat format, std::stop_token stop) {
    save_target(references, archive, format, std::move(stop));
}
void Image::save_to(int fd, const std::vector<std::string>& references, ArchiveFormat format,
                    std::stop_token stop) {
    save_target(references, fd, format, std::move(stop));
}

}  // namespace microsandbox
