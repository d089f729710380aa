#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <set>
#include <unordered_map>

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "image/archive.h"
#include "image/layer_export.h"
#include "image/pipeline.h"
#include "image/streams.h"

namespace msb::image {

namespace {

using json::Value;

constexpr std::size_t kOutputBuffer = 1 << 20;

class DigestSink : public ByteSink {
  public:
    void write(std::span<const std::byte> bytes) override {
        hash_.update(bytes);
        size_ += bytes.size();
    }
    std::string hex() { return hash_.hex(); }
    std::uint64_t size() const { return size_; }

  private:
    Sha256 hash_;
    std::uint64_t size_ = 0;
};

class DescriptorSink : public ByteSink {
  public:
    explicit DescriptorSink(int fd) : fd_(fd) { buffer_.reserve(kOutputBuffer); }

    void write(std::span<const std::byte> bytes) override {
        if (buffer_.size() + bytes.size() > kOutputBuffer) flush();
        if (bytes.size() >= kOutputBuffer) return put(bytes);
        buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
    }
    void flush() {
        put(buffer_);
        buffer_.clear();
    }

  private:
    void put(std::span<const std::byte> bytes) const {
        if (int err = write_all(fd_, bytes))
            throw Error(ErrorCode::kImage, "write archive: " + os_error_text(err));
    }
    int fd_;
    std::vector<std::byte> buffer_;
};

// One layer of the archive. Its digest is not the original's: the tar is made anew.
struct SavedLayer {
    std::unique_ptr<LayerExport> content;
    std::string hex;
    std::uint64_t size = 0;
};

struct SavedImage {
    const ImageToSave* source = nullptr;
    std::vector<const SavedLayer*> layers;  // bottom first
    std::string config;
    std::string config_hex;
    std::string architecture;
    std::string os;
};

// A string member of an object; nullptr when there is none.
const std::string* text_member(const nlohmann::json& object, const char* key) {
    auto it = object.find(key);
    return it == object.end() ? nullptr : it->get_ptr<const std::string*>();
}

std::string sorted_text(const nlohmann::json& value) {
    return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

class ArchiveWriter {
  public:
    ArchiveWriter(const Cache& cache, std::span<const ImageToSave> images,
                  const std::stop_token& stop)
        : stop_(stop) {
        collect_layers(cache, images);
        digest_layers();
        for (const ImageToSave& image : images)
            images_.push_back(describe(image));
    }

    void write(ArchiveFormat format, int output) const {
        DescriptorSink sink(output);
        TarWriter tar(sink);
        if (format == ArchiveFormat::kDocker) {
            write_docker(sink, tar);
        } else {
            write_oci(sink, tar);
        }
        tar.finish();
        sink.flush();
    }

  private:
    // Every layer image once, open from here on: the archive stays right whatever happens to the cache.
    void collect_layers(const Cache& cache, std::span<const ImageToSave> images) {
        for (const ImageToSave& image : images) {
            for (const CachedLayer& layer : image.image.layers) {
                auto [it, fresh] = by_diff_id_.try_emplace(layer.diff_id, layers_.size());
                if (!fresh) continue;
                layers_.push_back(std::make_unique<SavedLayer>());
                layers_.back()->content = std::make_unique<LayerExport>(cache, layer.diff_id);
            }
        }
    }

    // The digests are needed before the first byte can be written.
    void digest_layers() {
        for_each_layer(layers_.size(), [&](std::size_t i) {
            DigestSink sink;
            layers_[i]->content->write(sink, stop_);
            layers_[i]->hex = sink.hex();
            layers_[i]->size = sink.size();
        });
    }

    SavedImage describe(const ImageToSave& image) const {
        SavedImage saved;
        saved.source = &image;
        for (const CachedLayer& layer : image.image.layers)
            saved.layers.push_back(layers_[by_diff_id_.at(layer.diff_id)].get());
        write_config(saved);
        saved.config_hex = sha256_hex(saved.config);
        return saved;
    }

    // The image's own config with the new diff_ids, keys sorted at every level.
    static void write_config(SavedImage& image) {
        nlohmann::json config;
        try {
            config = json::parse(image.source->image.raw_config_json);
        } catch (const json::ParseError& e) {
            throw Error(
                ErrorCode::kCustom,
                std::string("config parse error: failed to parse image config: ") + e.what());
        }
        if (!config.is_object())
            throw Error(ErrorCode::kCustom,
                        "config parse error: failed to parse image config: not an object");
        nlohmann::json diff_ids = nlohmann::json::array();
        for (const SavedLayer* layer : image.layers)
            diff_ids.push_back("sha256:" + layer->hex);
        config["rootfs"] = {{"type", "layers"}, {"diff_ids", std::move(diff_ids)}};
        Platform host = host_platform();
        if (text_member(config, "architecture") == nullptr)
            config["architecture"] = host.architecture;
        if (text_member(config, "os") == nullptr) config["os"] = host.os;
        image.architecture = *text_member(config, "architecture");
        image.os = *text_member(config, "os");
        image.config = sorted_text(config);
    }

    static void add_file(TarWriter& tar, std::string_view path, std::string_view content) {
        TarMember member;
        member.path = path;
        member.size = content.size();
        tar.add(member, content);
    }
    static void add_directory(TarWriter& tar, std::string_view path) {
        TarMember member;
        member.path = path;
        member.type = '5';
        member.mode = 0755;
        tar.add(member, "");
    }
    void add_layer(ByteSink& sink, TarWriter& tar, std::string_view path,
                   const SavedLayer& layer) const {
        TarMember member;
        member.path = path;
        member.size = layer.size;
        tar.begin(member);
        layer.content->write(sink, stop_);
        tar.end();
    }

    void write_docker(ByteSink& sink, TarWriter& tar) const {
        Value manifest = Value::array();
        for (const SavedImage& image : images_) {
            Value layers = Value::array();
            for (const SavedLayer* layer : image.layers)
                layers.push_back(layer->hex + "/layer.tar");
            manifest.push_back({{"Config", image.config_hex + ".json"},
                                {"RepoTags", Value::array({image.source->reference})},
                                {"Layers", layers}});
        }
        add_file(tar, "manifest.json", json::dump_pretty(manifest));
        for (const SavedImage& image : images_)
            add_file(tar, image.config_hex + ".json", image.config);
        std::set<std::string> written;  // two layer images may give one tar
        for (const auto& layer : layers_) {
            if (!written.insert(layer->hex).second) continue;
            add_file(tar, layer->hex + "/VERSION", "1.0\n");
            add_file(tar, layer->hex + "/json", "{}");
            add_layer(sink, tar, layer->hex + "/layer.tar", *layer);
        }
    }

    static std::string oci_manifest(const SavedImage& image) {
        nlohmann::json layers = nlohmann::json::array();
        for (const SavedLayer* layer : image.layers)
            layers.push_back({{"mediaType", kOciLayerType},
                              {"digest", "sha256:" + layer->hex},
                              {"size", layer->size}});
        return sorted_text({{"schemaVersion", 2},
                            {"mediaType", kOciManifestType},
                            {"config",
                             {{"mediaType", kOciConfigType},
                              {"digest", "sha256:" + image.config_hex},
                              {"size", image.config.size()}}},
                            {"layers", std::move(layers)}});
    }

    void write_oci(ByteSink& sink, TarWriter& tar) const {
        nlohmann::json entries = nlohmann::json::array();
        std::vector<std::string> manifests;
        for (const SavedImage& image : images_) {
            manifests.push_back(oci_manifest(image));
            entries.push_back(
                {{"mediaType", kOciManifestType},
                 {"digest", "sha256:" + sha256_hex(manifests.back())},
                 {"size", manifests.back().size()},
                 {"annotations", {{"org.opencontainers.image.ref.name", image.source->reference}}},
                 {"platform", {{"architecture", image.architecture}, {"os", image.os}}}});
        }
        nlohmann::json index = {
            {"schemaVersion", 2}, {"mediaType", kOciIndexType}, {"manifests", std::move(entries)}};
        add_file(tar, "oci-layout", R"({"imageLayoutVersion":"1.0.0"})");
        add_file(tar, "index.json",
                 index.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
        add_directory(tar, "blobs");
        add_directory(tar, "blobs/sha256");
        std::set<std::string> written;
        auto add_blob = [&](const std::string& hex, const std::string& content) {
            if (written.insert(hex).second) add_file(tar, "blobs/sha256/" + hex, content);
        };
        for (std::size_t i = 0; i < images_.size(); ++i) {
            add_blob(images_[i].config_hex, images_[i].config);
            add_blob(sha256_hex(manifests[i]), manifests[i]);
        }
        for (const auto& layer : layers_) {
            if (written.insert(layer->hex).second)
                add_layer(sink, tar, "blobs/sha256/" + layer->hex, *layer);
        }
    }

    const std::stop_token& stop_;
    std::vector<std::unique_ptr<SavedLayer>> layers_;  // in order of first use
    std::unordered_map<std::string, std::size_t> by_diff_id_;
    std::vector<SavedImage> images_;
};

[[noreturn]] void throw_output_error(const std::filesystem::path& path, int err) {
    throw Error(ErrorCode::kImage, "cache error at " + path.string() + ": " + os_error_text(err));
}

unsigned default_mode() {
    const mode_t mask = ::umask(0);
    ::umask(mask);
    return 0666 & ~mask;
}

}  // namespace

std::vector<ImageToSave> find_images_to_save(const Cache& cache,
                                             std::span<const std::string> references) {
    constexpr std::string_view kPrefix = "invalid image reference: ";
    std::vector<ImageToSave> images;
    for (const std::string& text : references) {
        Reference reference;
        try {
            reference = parse_reference(text);
        } catch (const Error& e) {
            std::string_view reason = e.detail();
            if (reason.starts_with(kPrefix)) reason.remove_prefix(kPrefix.size());
            throw Error(ErrorCode::kCustom,
                        "invalid image reference '" + text + "': " + std::string(reason));
        }
        std::optional<CachedImage> image = read_image_record(cache, reference);
        if (!image) throw Error(ErrorCode::kImageNotFound, text);
        images.push_back({text, *std::move(image)});
    }
    return images;
}

void save_archive(const Cache& cache, std::span<const ImageToSave> images, ArchiveFormat format,
                  int output, std::stop_token stop) {
    ArchiveWriter(cache, images, stop).write(format, output);
}

void save_archive(const Cache& cache, std::span<const ImageToSave> images, ArchiveFormat format,
                  const std::filesystem::path& output, std::stop_token stop) {
    ArchiveWriter writer(cache, images, stop);
    struct stat st{};
    if (::stat(output.c_str(), &st) == 0 && !S_ISREG(st.st_mode)) {
        UniqueFd fd(::open(output.c_str(), O_WRONLY | O_CLOEXEC));
        if (!fd) throw_output_error(output, errno);
        return writer.write(format, fd.get());
    }
    ReplacementFile file(output);
    if (file.fd() < 0) throw_output_error(output, errno);
    writer.write(format, file.fd());
    if (int err = file.publish(default_mode(), false)) throw_output_error(output, err);
}

}  // namespace msb::image
