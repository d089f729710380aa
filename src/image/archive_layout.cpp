#include "image/archive_layout.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "image/archive.h"
#include "image/http.h"
#include "image/reference.h"

namespace msb::image {

namespace {

using json::Reader;
using json::Value;

constexpr std::string_view kDockerIndex = "manifest.json";
constexpr std::string_view kOciMarker = "oci-layout";
constexpr std::string_view kOciIndex = "index.json";
constexpr std::string_view kBlobs = "blobs/sha256/";
constexpr std::string_view kNoName = "<none>:<none>";
constexpr std::string_view kNameAnnotation = "org.opencontainers.image.ref.name";

[[noreturn]] void fail(const std::string& what) {
    throw Error(ErrorCode::kCustom, "manifest parse error: " + what);
}

std::string digest_of(std::string_view content) {
    return "sha256:" + sha256_hex(content);
}

// Runs a parser and puts the document's name in front of what it says.
template <class Parse>
auto parsing(const std::string& document, Parse parse) {
    constexpr std::string_view kOfRegistries = "registry error: Failed to parse manifest: ";
    try {
        return parse();
    } catch (const json::ParseError& e) {
        fail(document + ": " + e.what());
    } catch (const Error& e) {
        std::string_view text = e.detail();
        if (!text.starts_with(kOfRegistries)) throw;
        fail(document + ": " + std::string(text.substr(kOfRegistries.size())));
    }
}

void check_reference(const std::string& text) {
    constexpr std::string_view kPrefix = "invalid image reference: ";
    try {
        parse_reference(text);
    } catch (const Error& e) {
        std::string_view reason = e.detail();
        if (reason.starts_with(kPrefix)) reason.remove_prefix(kPrefix.size());
        fail("invalid image reference " + text + ": " + std::string(reason));
    }
}

std::vector<std::string> take_references(std::vector<std::string> names, const char* none) {
    std::ranges::sort(names);
    names.erase(std::ranges::unique(names).begin(), names.end());
    if (names.empty()) fail(none);
    if (names.size() > kMaxImageReferences)
        fail("image has " + std::to_string(names.size()) + " references; max is " +
             std::to_string(kMaxImageReferences));
    std::ranges::for_each(names, check_reference);
    return names;
}

// What both forms of archive need: documents within limits, and the names for the first image.
class LayoutReader {
  public:
    LayoutReader(const ArchiveReader& archive, std::span<const std::string> tags)
        : archive_(archive), tags_(tags.begin(), tags.end()) {}

  protected:
    std::string document(const ArchiveReader::Member& member, std::string_view path) {
        std::string text = archive_.read(member, path);
        document_bytes_ += text.size();
        if (document_bytes_ > kMaxArchiveDocuments)
            fail("archive metadata is larger than " + std::to_string(kMaxArchiveDocuments) +
                 " bytes");
        return text;
    }

    // The tags go to whoever asks first.
    void add_tags(std::vector<std::string>& names) {
        names.insert(names.end(), tags_.begin(), tags_.end());
        tags_.clear();
    }

    void keep(ArchiveImage image) {
        if (images_.size() == kMaxArchiveImages)
            fail("archive has too many images; max is " + std::to_string(kMaxArchiveImages));
        images_.push_back(std::move(image));
    }

    const ArchiveReader& archive_;
    std::vector<ArchiveImage> images_;

  private:
    std::vector<std::string> tags_;
    std::uint64_t document_bytes_ = 0;
};

// ---- docker-archive

class DockerLayout : private LayoutReader {
  public:
    using LayoutReader::LayoutReader;

    std::vector<ArchiveImage> run(const ArchiveReader::Member& index, const std::stop_token& stop) {
        std::string text = document(index, kDockerIndex);
        std::vector<Entry> entries =
            parsing("docker manifest.json", [&] { return parse_entries(text); });
        if (entries.empty()) fail("docker archive manifest is empty");
        for (Entry& entry : entries) {
            if (stop.stop_requested()) throw_cancelled();
            keep(read_image(std::move(entry)));
        }
        return std::move(images_);
    }

  private:
    struct Entry {
        std::string config;
        std::vector<std::string> tags;
        std::vector<std::string> layers;
    };

    static std::vector<Entry> parse_entries(std::string_view text) {
        Value value = json::parse(text);
        std::vector<Entry> entries;
        for (const Value& item : json::expect_array(value)) {
            Reader reader(item, "DockerManifestEntry");
            Entry entry;
            entry.config = reader.string("Config");
            entry.tags =
                reader.optional_string_list("RepoTags").value_or(std::vector<std::string>{});
            entry.layers = reader.string_list("Layers");
            entries.push_back(std::move(entry));
        }
        return entries;
    }

    ArchiveImage read_image(Entry entry) {
        const ArchiveReader::Member* config = archive_.find(entry.config);
        if (config == nullptr)
            throw Error(ErrorCode::kCustom,
                        "config parse error: docker archive missing config " + entry.config);
        ArchiveImage image;
        std::string text = document(*config, entry.config);
        image.config_digest = digest_of(text);
        image.config = parse_config(text);
        check_layer_count(image.config, entry.layers.size(), "archive manifest");
        for (std::size_t i = 0; i < entry.layers.size(); ++i)
            image.layers.push_back(find_layer(entry.layers[i], image.config.diff_ids[i]));

        std::erase(entry.tags, kNoName);
        add_tags(entry.tags);
        image.references = take_references(
            std::move(entry.tags), "docker archive image has no tags; pass --tag to name it");
        return image;
    }

    ArchiveLayer find_layer(const std::string& path, const std::string& diff_id) const {
        const ArchiveReader::Member* member = archive_.find(path);
        if (member == nullptr) fail("docker archive missing layer " + path);
        ArchiveLayer layer{path, *member, diff_id, "", std::nullopt};
        if (path.starts_with(kBlobs)) {
            std::string digest = "sha256:" + path.substr(kBlobs.size());
            if (is_sha256(digest)) layer.expected_digest = digest;
        }
        return layer;
    }
};

// ---- OCI layout

class OciLayout : private LayoutReader {
  public:
    using LayoutReader::LayoutReader;

    std::vector<ArchiveImage> run(const ArchiveReader::Member& marker,
                                  const std::stop_token& stop) {
        std::string text = document(marker, kOciMarker);
        parsing("oci-layout", [&] {
            Value value = json::parse(text);
            return Reader(value, "OciLayout").string("imageLayoutVersion");
        });
        const ArchiveReader::Member* index = archive_.find(kOciIndex);
        if (index == nullptr) fail("OCI layout missing index.json");
        text = document(*index, kOciIndex);
        walk(parsing("OCI index.json", [&] { return parse_index(text); }), stop);
        if (images_.empty()) fail("OCI layout contains no image manifests for the host platform");
        return std::move(images_);
    }

  private:
    struct Pending {
        Descriptor descriptor;
        std::size_t depth = 0;
        std::optional<std::string> inherited_name;
    };

    // Depth first, in the order of the indexes.
    void walk(Index top, const std::stop_token& stop) {
        std::vector<Pending> pending;
        auto push = [&](Index index, std::size_t depth, const std::optional<std::string>& name) {
            for (Descriptor& entry : std::views::reverse(index.manifests))
                pending.push_back({std::move(entry), depth, name});
        };
        push(std::move(top), 0, std::nullopt);
        std::size_t nested = 0;
        while (!pending.empty()) {
            if (stop.stop_requested()) throw_cancelled();
            Pending next = std::move(pending.back());
            pending.pop_back();
            const Descriptor& entry = next.descriptor;
            if (entry.platform && entry.platform != host_platform()) continue;
            std::optional<std::string> name = next.inherited_name;
            if (auto own = entry.annotations.find(std::string(kNameAnnotation));
                !name && own != entry.annotations.end())
                name = own->second;
            if (is_index_type(entry.media_type)) {
                if (++nested > kMaxNestedIndexes)
                    fail("OCI layout has too many nested indexes; max is " +
                         std::to_string(kMaxNestedIndexes));
                if (next.depth == kMaxIndexNesting)
                    fail("OCI layout nests indexes too deeply; max is " +
                         std::to_string(kMaxIndexNesting));
                std::string text = blob(entry, "OCI layout missing index blob ");
                push(parsing("OCI index", [&] { return parse_index(text); }), next.depth + 1, name);
            } else if (is_manifest_type(entry.media_type)) {
                keep(read_image(entry, name));
            }
        }
    }

    static bool is_index_type(std::string_view type) {
        return type == kOciIndexType || type == kDockerListType;
    }
    static bool is_manifest_type(std::string_view type) {
        return type == kOciManifestType || type == kDockerManifestType;
    }

    ArchiveImage read_image(const Descriptor& descriptor, const std::optional<std::string>& name) {
        ArchiveImage image;
        image.manifest_digest = descriptor.digest;
        image.raw_manifest = blob(descriptor, "OCI layout missing manifest blob ");
        Manifest manifest =
            parsing("OCI image manifest", [&] { return parse_manifest(image.raw_manifest); });
        image.config_digest = manifest.config.digest;
        image.config = parse_config(
            blob(manifest.config, "OCI layout missing config blob ", "config parse error: "));
        check_layer_count(image.config, manifest.layers.size(), "OCI manifest");
        for (std::size_t i = 0; i < manifest.layers.size(); ++i)
            image.layers.push_back(find_layer(manifest.layers[i], image.config.diff_ids[i]));

        std::vector<std::string> names;
        if (name) names.push_back(*name);
        add_tags(names);
        image.references = take_references(
            std::move(names), "OCI layout image has no ref.name annotation; pass --tag to name it");
        return image;
    }

    // The member that holds a blob, of the right size. Its digest is not looked at.
    std::pair<std::string, const ArchiveReader::Member*> find_blob(const Descriptor& descriptor,
                                                                   const std::string& missing,
                                                                   std::string_view prefix) const {
        std::size_t colon =
            descriptor.digest.find(':');  // parse_index() and parse_manifest() saw to it
        std::string algorithm = descriptor.digest.substr(0, colon);
        std::string path = "blobs/" + algorithm + "/" + descriptor.digest.substr(colon + 1);
        const ArchiveReader::Member* member = archive_.find(path);
        if (member == nullptr)
            throw Error(ErrorCode::kCustom, std::string(prefix) + missing + path);
        if (!is_sha256(descriptor.digest)) fail("unsupported OCI digest algorithm: " + algorithm);
        return {std::move(path), member};
    }

    static void check_size(const std::string& what, const Descriptor& descriptor,
                           const ArchiveReader::Member& member) {
        if (member.size == descriptor.size) return;
        fail(what + " " + descriptor.digest + " size mismatch: descriptor has " +
             std::to_string(descriptor.size) + ", archive has " + std::to_string(member.size));
    }

    std::string blob(const Descriptor& descriptor, const std::string& missing,
                     std::string_view prefix = "manifest parse error: ") {
        auto [path, member] = find_blob(descriptor, missing, prefix);
        check_size("OCI blob", descriptor, *member);
        std::string content = document(*member, path);
        if (std::string actual = digest_of(content); actual != descriptor.digest)
            fail("OCI blob digest mismatch: expected " + descriptor.digest + ", got " + actual);
        return content;
    }

    ArchiveLayer find_layer(const Descriptor& descriptor, const std::string& diff_id) const {
        auto [path, member] =
            find_blob(descriptor, "OCI layout missing layer blob ", "manifest parse error: ");
        check_size("OCI layer", descriptor, *member);
        return {std::move(path), *member, diff_id, descriptor.digest, descriptor.media_type};
    }
};

}  // namespace

std::vector<ArchiveImage> read_archive_layout(const ArchiveReader& archive,
                                              std::span<const std::string> tags,
                                              const std::stop_token& stop) {
    if (const ArchiveReader::Member* index = archive.find(kDockerIndex))
        return DockerLayout(archive, tags).run(*index, stop);
    if (const ArchiveReader::Member* marker = archive.find(kOciMarker))
        return OciLayout(archive, tags).run(*marker, stop);
    fail("archive missing manifest.json or oci-layout");
}

void throw_layer_digest_mismatch(const ArchiveLayer& layer, const std::string& actual) {
    if (layer.media_type)
        fail("OCI layer digest mismatch: descriptor has " + layer.expected_digest +
             ", archive has " + actual);
    fail("docker archive layer path " + layer.path + " digest mismatch: expected " +
         layer.expected_digest + ", got " + actual);
}

}  // namespace msb::image
