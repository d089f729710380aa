// Archives in memory and a cache to load them into, for tests of archive.h.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "base/hash.h"
#include "base/json.h"
#include "image/archive.h"
#include "tar_builder.h"

namespace msb::image {

using Json = nlohmann::json;

inline std::string digest_of(std::string_view text) {
    return "sha256:" + sha256_hex(text);
}

// Layer G of spec/images.md section 19, check 3.
inline std::string golden_layer() {
    return TarBuilder().add("hello.txt", "hello\n", {.mtime = 014524770400}).finish();
}

inline std::string config_of(const std::vector<std::string>& layers, const char* comment = "") {
    Json config = {{"architecture", "amd64"},
                   {"os", "linux"},
                   {"config", {{"Cmd", {"sh"}}}},
                   {"comment", comment},
                   {"rootfs", {{"type", "layers"}, {"diff_ids", Json::array()}}}};
    for (const std::string& layer : layers)
        config["rootfs"]["diff_ids"].push_back(digest_of(layer));
    return config.dump();
}

using Members = std::vector<std::pair<std::string, std::string>>;

inline std::string tar_of(const Members& members) {
    TarBuilder tar;
    for (const auto& [name, content] : members) {
        if (name.size() > 100) tar.pax("path", name);
        tar.file(name.substr(0, 100), content);
    }
    return tar.finish();
}

// A docker-archive of one image.
inline std::string docker_archive(const std::vector<std::string>& layers,
                                  const std::vector<std::string>& tags, const char* comment = "") {
    Json entry = {{"Config", "config.json"}, {"RepoTags", tags}, {"Layers", Json::array()}};
    Members members;
    for (std::size_t i = 0; i < layers.size(); ++i) {
        std::string name = std::to_string(i) + "/layer.tar";
        entry["Layers"].push_back(name);
        members.emplace_back(name, layers[i]);
    }
    members.emplace_back("config.json", config_of(layers, comment));
    members.emplace_back("manifest.json", Json::array({entry}).dump());
    return tar_of(members);
}

// Parts of an OCI layout; blobs by what they are. Change them before archive() to make it lie.
struct OciBuilder {
    struct Image {
        std::string config;
        std::string manifest;
        Json descriptor;
    };

    Json add_blob(const char* type, const std::string& content) {
        blobs["blobs/sha256/" + sha256_hex(content)] = content;
        return {{"mediaType", type}, {"digest", digest_of(content)}, {"size", content.size()}};
    }
    // Layers as tars; `stored` as they are in the blobs, the same when empty.
    Image add_image(const std::vector<std::string>& tars, const std::string& name,
                    std::vector<std::string> stored = {}, const char* comment = "") {
        if (stored.empty()) stored = tars;
        Image image;
        image.config = config_of(tars, comment);
        Json manifest = {
            {"schemaVersion", 2},
            {"mediaType", kOciManifestType},
            {"config", add_blob("application/vnd.oci.image.config.v1+json", image.config)},
            {"layers", Json::array()}};
        for (const std::string& layer : stored)
            manifest["layers"].push_back(add_blob("application/vnd.oci.image.layer.v1.tar", layer));
        image.manifest = manifest.dump();
        image.descriptor = add_blob("application/vnd.oci.image.manifest.v1+json", image.manifest);
        if (!name.empty())
            image.descriptor["annotations"] = {{"org.opencontainers.image.ref.name", name}};
        return image;
    }
    static std::string index_of(const std::vector<Json>& descriptors) {
        return Json{{"schemaVersion", 2}, {"manifests", descriptors}}.dump();
    }
    std::string archive(const std::vector<Json>& descriptors) const {
        Members members{{"oci-layout", R"({"imageLayoutVersion":"1.0.0"})"},
                        {"index.json", index_of(descriptors)}};
        members.insert(members.end(), blobs.begin(), blobs.end());
        return tar_of(members);
    }

    std::map<std::string, std::string> blobs;  // by path
};

class ArchiveTest : public testing::Test {
  protected:
    ArchiveTest() {
        std::string name = "/tmp/msb-archive-XXXXXX";
        directory_ = ::mkdtemp(name.data());
        cache_.emplace(directory_ / "cache");
        options_.events = [this](const PullEvent& event) {
            events_.push_back(std::string(to_string(event.kind)));
        };
    }
    ~ArchiveTest() override { std::filesystem::remove_all(directory_); }

    static UniqueFd file_of(std::string_view bytes) {
        UniqueFd fd(::memfd_create("archive", MFD_CLOEXEC));
        EXPECT_EQ(pwrite_all(fd.get(), std::as_bytes(std::span(bytes)), 0), 0);
        return fd;
    }
    std::vector<LoadedReference> load(std::string_view archive) {
        UniqueFd fd = file_of(archive);
        return load_archive(*cache_, fd.get(), options_);
    }
    // "reference manifest-digest-or-* cached|loaded" of each.
    std::vector<std::string> names(const std::vector<LoadedReference>& loaded) {
        std::vector<std::string> lines;
        for (const LoadedReference& one : loaded)
            lines.push_back(one.reference + (one.cached ? " cached" : " loaded"));
        return lines;
    }
    std::string failure(std::string_view archive) {
        try {
            load(archive);
        } catch (const Error& e) {
            return e.what();
        }
        return "(no error)";
    }
    std::string save(const std::vector<std::string>& references,
                     ArchiveFormat format = ArchiveFormat::kDocker) {
        UniqueFd out = file_of("");
        save_archive(*cache_, find_images_to_save(*cache_, references), format, out.get());
        return contents(out.get());
    }
    static std::string contents(int fd) {
        EXPECT_EQ(::lseek(fd, 0, SEEK_SET), 0);
        return read_to_end(fd);
    }
    // The files below the cache's `directory`, locks left out.
    std::vector<std::string> files(const char* directory) const {
        std::vector<std::string> found;
        for (const auto& entry :
             std::filesystem::directory_iterator(cache_->directory() / directory)) {
            if (entry.path().extension() != ".lock") found.push_back(entry.path().filename());
        }
        std::ranges::sort(found);
        return found;
    }
    std::string file_digest(const std::filesystem::path& path) const {
        return sha256_hex(read_file(path));
    }

    std::filesystem::path directory_;
    std::optional<Cache> cache_;
    LoadOptions options_;
    std::vector<std::string> events_;
};

}  // namespace msb::image
