#include "image/pull.h"

#include <unistd.h>

#include <algorithm>
#include <exception>
#include <mutex>
#include <thread>

#include "base/fd.h"
#include "image/blob_download.h"
#include "image/erofs_reader.h"
#include "image/materialize.h"
#include "image/pipeline.h"
#include "image/streams.h"

namespace msb::image {

namespace {

// A layer's events in upstream's order: everything of the download first, although ingest runs right behind it.
class LayerEvents {
  public:
    LayerEvents(EventSender& events, std::size_t index, const Descriptor& blob, std::string diff_id)
        : events_(events), index_(index), blob_(blob), diff_id_(std::move(diff_id)) {}

    void downloading(std::uint64_t bytes) {
        std::optional<std::uint64_t> total = known_size();
        if (bytes < next_download_ && bytes != total) return;
        next_download_ = bytes + kProgressStep;
        PullEvent event = make(PullEvent::Kind::kLayerDownloadProgress);
        event.digest = blob_.digest;
        event.bytes = bytes;
        event.total = total;
        events_.send(event);
    }

    void downloaded(std::uint64_t bytes) {
        PullEvent event = make(PullEvent::Kind::kLayerDownloadComplete);
        event.digest = blob_.digest;
        event.bytes = bytes;
        std::lock_guard guard(mutex_);
        events_.send(event);
        event = make(PullEvent::Kind::kLayerMaterializeStarted);
        event.diff_id = diff_id_;
        events_.send(event);
        total_ = std::max<std::uint64_t>(bytes, 1);
        materializing_ = true;
    }

    void ingesting(std::uint64_t bytes) {
        std::lock_guard guard(mutex_);
        if (!materializing_) return;
        bytes = std::min(bytes, total_);
        if (bytes == reported_ || (bytes < next_ingest_ && bytes != total_)) return;
        next_ingest_ = bytes + kProgressStep;
        reported_ = bytes;
        PullEvent event = make(PullEvent::Kind::kLayerMaterializeProgress);
        event.bytes = bytes;
        event.total = total_;
        events_.send(event);
    }

    void writing() { events_.send(make(PullEvent::Kind::kLayerMaterializeWriting)); }

    void complete() {
        PullEvent event = make(PullEvent::Kind::kLayerMaterializeComplete);
        event.diff_id = diff_id_;
        events_.send(event);
    }

  private:
    PullEvent make(PullEvent::Kind kind) const {
        PullEvent event;
        event.kind = kind;
        event.layer_index = index_;
        return event;
    }
    std::optional<std::uint64_t> known_size() const {
        return blob_.size == 0 ? std::nullopt : std::optional(blob_.size);
    }

    EventSender& events_;
    std::size_t index_;
    const Descriptor& blob_;
    std::string diff_id_;
    std::uint64_t next_download_ = kProgressStep;

    std::mutex mutex_;
    bool materializing_ = false;
    std::uint64_t total_ = 1;
    std::uint64_t reported_ = 0;
    std::uint64_t next_ingest_ = kProgressStep;
};

bool wants_layered(PullTarget target) {
    return target != PullTarget::kFlat;
}
bool wants_flat(PullTarget target) {
    return target != PullTarget::kLayered;
}

bool is_file(const std::filesystem::path& path) {
    std::error_code ec;
    return std::filesystem::is_regular_file(path, ec);
}

class Puller {
  public:
    Puller(const Cache& cache, const Reference& reference, const PullOptions& options)
        : cache_(cache), reference_(reference), options_(options), events_(options.events) {}

    PulledImage run() {
        PullEvent resolving;
        resolving.kind = PullEvent::Kind::kResolving;
        resolving.reference = reference_.canonical();
        events_.send(resolving);
        if (auto hit = find_hit()) return *std::move(hit);
        if (options_.policy == PullPolicy::kNever)
            throw Error(ErrorCode::kCustom, "image not cached: " + reference_.canonical());
        if (wants_flat(options_.target) && options_.flat == nullptr)
            throw Error(ErrorCode::kUnsupported, "this build cannot make flat root file systems");

        FileLock lock = cache_.lock_metadata(reference_, options_.stop);
        if (auto hit = find_hit()) return *std::move(hit);  // somebody else has just pulled it
        return pull_locked();
    }

  private:
    std::optional<PulledImage> find_hit() {
        if (options_.policy == PullPolicy::kAlways || options_.force) return std::nullopt;
        auto image = find_cached_image(cache_, reference_, options_.target, options_.flat);
        if (!image) return std::nullopt;
        std::uint64_t total = 0;
        bool known = false;
        for (const CachedLayer& layer : image->layers) {
            total += layer.size_bytes.value_or(0);
            known = known || layer.size_bytes;
        }
        send_resolved(image->manifest_digest, image->layers.size(),
                      known ? std::optional(total) : std::nullopt);
        send_complete(image->layers.size());
        return PulledImage{*std::move(image), true};
    }

    PulledImage pull_locked() {
        RegistryOptions registry_options;
        registry_options.timeouts = options_.timeouts;
        registry_options.retry = options_.retry;
        registry_options.ca_certificates = options_.ca_certificates;
        registry_options.insecure_hosts = options_.insecure_hosts;
        registry_options.credentials =
            resolve_credentials(options_.credentials, reference_.registry, options_.stop);
        RegistryClient registry(reference_, std::move(registry_options));
        ResolvedImage resolved = registry.resolve(options_.stop);

        std::uint64_t total = 0;
        for (const Descriptor& layer : resolved.manifest.layers)
            total +=
                std::min(layer.size, kMaxBlobBytes);  // at most kMaxLayers of them: no overflow
        send_resolved(resolved.manifest_digest, resolved.manifest.layers.size(), total);

        materialize(registry, resolved);
        CachedImage image = describe(resolved);
        // Left by killed pulls of layers that have been made since. A pull that is reading one has it open.
        for (const Descriptor& layer : resolved.manifest.layers)
            ::unlink(cache_.blob(layer.digest).c_str());
        write_image_record(cache_, reference_, image);
        send_complete(image.layers.size());
        return {std::move(image), false};
    }

    // ---- layer stage

    void materialize(RegistryClient& registry, const ResolvedImage& resolved) {
        const std::vector<std::string>& diff_ids = resolved.config.diff_ids;
        const std::string& manifest = resolved.manifest_digest;
        bool layers = !options_.force && std::ranges::all_of(diff_ids, [&](const std::string& id) {
            return is_valid_erofs(cache_.layer_image(id));
        });
        bool fsmeta = !options_.force && is_valid_erofs(cache_.fsmeta(manifest));
        bool vmdk = !options_.force && is_file(cache_.vmdk(manifest));
        bool layered = wants_layered(options_.target);
        if (!layers || (layered && !fsmeta)) make_layers(registry, resolved);
        if (layered && !(layers && fsmeta && vmdk))
            stitch_layers(cache_, manifest, diff_ids, options_.force || !layers, events_,
                          options_.stop);
        if (wants_flat(options_.target))
            options_.flat->compose(cache_, manifest, diff_ids, options_.force, options_.stop);
    }

    void make_layers(RegistryClient& registry, const ResolvedImage& resolved) {
        for_each_layer(resolved.manifest.layers.size(), [&](std::size_t i) {
            make_layer(registry, resolved.manifest.layers[i], i, resolved.config.diff_ids[i]);
        });
    }

    bool layer_ready(const std::string& diff_id) const {
        return !options_.force && is_valid_erofs(cache_.layer_image(diff_id));
    }

    void make_layer(RegistryClient& registry, const Descriptor& blob, std::size_t index,
                    const std::string& diff_id) {
        LayerEvents events(events_, index, blob, diff_id);
        if (layer_ready(diff_id)) return events.complete();
        if (options_.stop.stop_requested()) throw_cancelled();
        FileLock download_lock = cache_.lock(
            cache_.work(digest_file_name(blob.digest) + ".download.lock"), options_.stop);
        FileLock layer_lock = cache_.lock_layer(diff_id, options_.stop);
        if (layer_ready(diff_id)) return events.complete();

        BlobDownload download(cache_, blob, options_.force,
                              [&](std::uint64_t bytes) { events.downloading(bytes); });
        std::exception_ptr ingest_failure;
        std::exception_ptr download_failure;
        {
            std::jthread downloader([&] {
                try {
                    auto complete = [&](std::uint64_t bytes) { events.downloaded(bytes); };
                    download.run(registry, complete, options_.stop);
                } catch (...) {
                    download_failure = std::current_exception();
                }
            });
            try {
                ingest(download, blob, diff_id, events);
            } catch (...) {
                ingest_failure = std::current_exception();
            }
        }
        // A blob that cannot be had explains whatever ingest made of its beginning.
        if (download_failure) std::rethrow_exception(download_failure);
        download.discard();
        if (options_.stop.stop_requested() && ingest_failure) throw_cancelled();
        if (ingest_failure) std::rethrow_exception(ingest_failure);
        events.complete();
    }

    void ingest(BlobDownload& download, const Descriptor& blob, const std::string& diff_id,
                LayerEvents& events) {
        std::unique_ptr<ByteSource> reader = download.reader(options_.stop);
        CountingSource counted(*reader, [&](std::uint64_t bytes) { events.ingesting(bytes); });
        // Nothing is published before the blob's own digest is known to be right, even if its tail is of no use.
        materialize_layer(cache_, diff_id, counted, compression_of_media_type(blob.media_type),
                          [&] {
                              download.wait();
                              events.ingesting(UINT64_MAX);
                              events.writing();
                          });
    }

    // ---- record

    static CachedImage describe(const ResolvedImage& resolved) {
        CachedImage image;
        image.manifest_digest = resolved.manifest_digest;
        image.config_digest = resolved.manifest.config.digest;
        image.raw_manifest_json = resolved.manifest.canonical;
        image.raw_config_json = resolved.config.raw;
        image.config = resolved.config.config;
        for (std::size_t i = 0; i < resolved.manifest.layers.size(); ++i) {
            const Descriptor& layer = resolved.manifest.layers[i];
            image.layers.push_back(
                {layer.digest, layer.media_type, layer.size, resolved.config.diff_ids[i]});
        }
        return image;
    }

    void send_resolved(const std::string& manifest_digest, std::size_t layers,
                       std::optional<std::uint64_t> total) {
        PullEvent event;
        event.kind = PullEvent::Kind::kResolved;
        event.reference = reference_.canonical();
        event.manifest_digest = manifest_digest;
        event.layer_count = layers;
        event.total = total;
        events_.send(event);
    }

    void send_complete(std::size_t layers) {
        PullEvent event;
        event.kind = PullEvent::Kind::kComplete;
        event.reference = reference_.canonical();
        event.layer_count = layers;
        events_.send(event);
    }

    const Cache& cache_;
    const Reference& reference_;
    const PullOptions& options_;
    EventSender events_;
};

}  // namespace

std::optional<CachedImage> find_cached_image(const Cache& cache, const Reference& reference,
                                             PullTarget target, const FlatComposer* flat) {
    std::optional<CachedImage> image = read_image_record(cache, reference);
    if (!image) return std::nullopt;
    std::vector<std::string> diff_ids = diff_ids_of(*image);
    bool layers = std::ranges::all_of(
        diff_ids, [&](const std::string& id) { return is_valid_erofs(cache.layer_image(id)); });
    if (!layers) return std::nullopt;
    if (wants_layered(target) &&
        !layered_artifacts_complete(cache, image->manifest_digest, diff_ids))
        return std::nullopt;
    if (wants_flat(target) &&
        (flat == nullptr || !flat->complete(cache, image->manifest_digest, diff_ids)))
        return std::nullopt;
    return image;
}

PulledImage pull(const Cache& cache, const Reference& reference, const PullOptions& options) {
    return Puller(cache, reference, options).run();
}

std::string read_ca_certificates(const std::filesystem::path& path, ErrorCode code) {
    try {
        return read_file(path, kMaxCaBytes);
    } catch (const Error& e) {
        throw Error(code, "failed to read CA certs from `" + path.string() + "`: " + e.detail());
    }
}

}  // namespace msb::image
