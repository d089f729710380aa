#include <fcntl.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <map>
#include <tuple>

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "image/archive.h"
#include "image/archive_layout.h"
#include "image/archive_reader.h"
#include "image/erofs_reader.h"
#include "image/http.h"
#include "image/materialize.h"
#include "image/pipeline.h"

namespace msb::image {

namespace {

std::string layer_media_type(Compression compression) {
    switch (compression) {
        case Compression::kGzip:
            return std::string(kOciLayerType) + "+gzip";
        case Compression::kZstd:
            return std::string(kOciLayerType) + "+zstd";
        case Compression::kNone:
            break;
    }
    return std::string(kOciLayerType);
}

// Reports a layer's stored bytes as they are read, and ends the reading when it shall stop.
class LayerProgress {
  public:
    LayerProgress(EventSender& events, const PullEvent& layer, std::uint64_t total,
                  const std::stop_token& stop)
        : events_(events), event_(layer), total_(std::max<std::uint64_t>(total, 1)), stop_(stop) {}

    void send(PullEvent::Kind kind) {
        PullEvent event = event_;
        event.kind = kind;
        events_.send(event);
    }
    void read(std::uint64_t bytes) {
        if (stop_.stop_requested()) throw_cancelled();
        bytes = std::min(bytes, total_);
        if (bytes == reported_ || (bytes < next_ && bytes != total_)) return;
        next_ = bytes + kProgressStep;
        reported_ = bytes;
        PullEvent event = event_;
        event.kind = PullEvent::Kind::kLayerMaterializeProgress;
        event.bytes = bytes;
        event.total = total_;
        events_.send(event);
    }

  private:
    EventSender& events_;
    PullEvent event_;
    std::uint64_t total_;
    const std::stop_token& stop_;
    std::uint64_t next_ = kProgressStep;
    std::uint64_t reported_ = 0;
};

// One image on its way into the cache, under all its names.
class ImageLoader {
  public:
    ImageLoader(const Cache& cache, const ArchiveReader& archive, ArchiveImage image,
                EventSender& events, const std::stop_token& stop)
        : cache_(cache),
          archive_(archive),
          image_(std::move(image)),
          events_(events),
          stop_(stop) {}

    std::vector<LoadedReference> run() {
        std::vector<Reference> names;
        for (const std::string& text : image_.references)
            names.push_back(parse_reference(text));
        std::vector<FileLock> locks = lock(names);

        std::vector<std::shared_ptr<const CachedImage>> found;
        for (const Reference& name : names)
            found.push_back(find_complete(name));
        auto hit = std::ranges::find_if(found, [](const auto& image) { return image != nullptr; });
        std::shared_ptr<const CachedImage> image = hit != found.end() ? *hit : make();

        std::vector<LoadedReference> result;
        for (std::size_t i = 0; i < names.size(); ++i) {
            bool cached = found[i] != nullptr;
            if (!cached) write_image_record(cache_, names[i], *image);
            result.push_back({image_.references[i], cached ? found[i] : image, cached});
        }
        return result;
    }

  private:
    struct Blob {
        std::string digest;
        Compression compression = Compression::kNone;
    };

    // All names' locks, each once (two names may be one), in an order that is the same for everybody.
    std::vector<FileLock> lock(const std::vector<Reference>& names) const {
        std::map<std::string, const Reference*> by_key;
        for (const Reference& name : names)
            by_key.emplace(name.cache_key(), &name);
        std::vector<FileLock> locks;
        for (const auto& [key, name] : by_key)
            locks.push_back(cache_.lock_metadata(*name, stop_));
        return locks;
    }

    // What the cache has under this name, if it is this image and complete.
    std::shared_ptr<const CachedImage> find_complete(const Reference& name) const {
        std::optional<CachedImage> cached = read_image_record(cache_, name);
        if (!cached) return nullptr;
        bool same = image_.manifest_digest.empty()
                        ? cached->config_digest == image_.config_digest &&
                              diff_ids_of(*cached) == image_.config.diff_ids
                        : cached->manifest_digest == image_.manifest_digest;
        if (!same ||
            !layered_artifacts_complete(cache_, cached->manifest_digest, diff_ids_of(*cached)))
            return nullptr;
        return std::make_shared<const CachedImage>(*std::move(cached));
    }

    std::shared_ptr<const CachedImage> make() {
        std::vector<Blob> blobs = make_layers();
        CachedImage image;
        image.config_digest = image_.config_digest;
        image.raw_config_json = image_.config.raw;
        image.config = image_.config.config;
        for (std::size_t i = 0; i < blobs.size(); ++i) {
            const ArchiveLayer& layer = image_.layers[i];
            image.layers.push_back({blobs[i].digest, layer_media_type(blobs[i].compression),
                                    layer.member.size, layer.diff_id});
        }
        image.raw_manifest_json =
            image_.manifest_digest.empty() ? synthetic_manifest(image) : image_.raw_manifest;
        image.manifest_digest = image_.manifest_digest.empty()
                                    ? "sha256:" + sha256_hex(image.raw_manifest_json)
                                    : image_.manifest_digest;
        stitch_layers(cache_, image.manifest_digest, image_.config.diff_ids, made_layer_, events_,
                      stop_);
        return std::make_shared<const CachedImage>(std::move(image));
    }

    // Upstream's text: its digest is the image's (spec/images.md section 16.1).
    static std::string synthetic_manifest(const CachedImage& image) {
        json::Value layers = json::Value::array();
        for (const CachedLayer& layer : image.layers)
            layers.push_back({{"digest", layer.digest},
                              {"mediaType", *layer.media_type},
                              {"size", *layer.size_bytes}});
        return json::dump({{"config",
                            {{"digest", image.config_digest},
                             {"mediaType", kOciConfigType},
                             {"size", image.raw_config_json.size()}}},
                           {"layers", layers},
                           {"mediaType", kOciManifestType},
                           {"schemaVersion", 2}});
    }

    // A layer that occurs twice is read once.
    std::vector<Blob> make_layers() {
        using Key = std::tuple<std::uint64_t, std::uint64_t, std::string>;
        std::map<Key, std::size_t> first;  // the layer that stands for its like
        std::vector<std::size_t> work;
        std::vector<std::size_t> stands_for;
        for (std::size_t i = 0; i < image_.layers.size(); ++i) {
            const ArchiveLayer& layer = image_.layers[i];
            auto [it, fresh] =
                first.emplace(Key(layer.member.offset, layer.member.size, layer.diff_id), i);
            if (fresh) work.push_back(i);
            stands_for.push_back(it->second);
        }
        std::vector<Blob> blobs(image_.layers.size());
        for_each_layer(work.size(), [&](std::size_t i) { blobs[work[i]] = make_layer(work[i]); });
        for (std::size_t i = 0; i < blobs.size(); ++i)
            blobs[i] = blobs[stands_for[i]];
        return blobs;
    }

    Blob make_layer(std::size_t index) {
        if (stop_.stop_requested()) throw_cancelled();
        const ArchiveLayer& layer = image_.layers[index];
        PullEvent event;
        event.layer_index = index;
        event.layer_count = image_.layers.size();
        event.diff_id = layer.diff_id;
        LayerProgress progress(events_, event, layer.member.size, stop_);

        Blob blob;
        blob.compression = sniff(layer);
        {
            FileLock lock = cache_.lock_layer(layer.diff_id, stop_);
            if (!is_valid_erofs(cache_.layer_image(layer.diff_id))) {
                blob.digest = ingest(layer, blob.compression, progress);
                made_layer_ = true;
            }
        }
        if (blob.digest.empty()) blob.digest = hash(layer);
        progress.send(PullEvent::Kind::kLayerMaterializeComplete);
        return blob;
    }

    Compression sniff(const ArchiveLayer& layer) const {
        std::array<std::byte, 4> magic;
        FileSource source = archive_.open(layer.member);
        return sniff_compression(std::span(magic).first(read_fully(source, magic)));
    }

    // Makes the layer's image; the digest of its blob.
    std::string ingest(const ArchiveLayer& layer, Compression compression,
                       LayerProgress& progress) {
        progress.send(PullEvent::Kind::kLayerMaterializeStarted);
        FileSource stored = archive_.open(layer.member);
        HashingSource hashing(stored);
        // A blob that is not compressed is the stream that is compared with the diff_id: one digest serves both.
        bool plain = compression == Compression::kNone;
        CountingSource counted(plain ? static_cast<ByteSource&>(stored) : hashing,
                               [&](std::uint64_t bytes) { progress.read(bytes); });
        std::string digest;
        try {
            materialize_layer(cache_, layer.diff_id, counted, compression, [&] {
                digest = plain ? layer.diff_id : hashing.finish();
                check_digest_of(layer, digest);
                progress.read(UINT64_MAX);
                progress.send(PullEvent::Kind::kLayerMaterializeWriting);
            });
        } catch (const Error&) {
            if (stop_.stop_requested()) throw_cancelled();
            // A blob that is not what it should be explains whatever was made of it.
            if (digest.empty() && !layer.expected_digest.empty()) hash(layer);
            throw;
        }
        return digest;
    }

    static void check_digest_of(const ArchiveLayer& layer, const std::string& digest) {
        if (!layer.expected_digest.empty() && digest != layer.expected_digest)
            throw_layer_digest_mismatch(layer, digest);
    }

    std::string hash(const ArchiveLayer& layer) const {
        FileSource stored = archive_.open(layer.member);
        CountingSource stoppable(stored, [&](std::uint64_t) {
            if (stop_.stop_requested()) throw_cancelled();
        });
        std::string digest = HashingSource(stoppable).finish();
        check_digest_of(layer, digest);
        return digest;
    }

    const Cache& cache_;
    const ArchiveReader& archive_;
    ArchiveImage image_;
    EventSender& events_;
    const std::stop_token& stop_;
    std::atomic<bool> made_layer_ = false;
};

}  // namespace

std::vector<LoadedReference> load_archive(const Cache& cache, int input,
                                          const LoadOptions& options) {
    EventSender events(options.events);
    ArchiveReader archive(cache, input, options.stop);
    std::vector<LoadedReference> loaded;
    for (ArchiveImage& image : read_archive_layout(archive, options.tags, options.stop)) {
        if (options.stop.stop_requested()) throw_cancelled();
        std::ranges::move(ImageLoader(cache, archive, std::move(image), events, options.stop).run(),
                          std::back_inserter(loaded));
    }
    return loaded;
}

std::vector<LoadedReference> load_archive(const Cache& cache, const std::filesystem::path& path,
                                          const LoadOptions& options) {
    UniqueFd input(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!input) throw_cache_error(path, errno);
    return load_archive(cache, input.get(), options);
}

}  // namespace msb::image
