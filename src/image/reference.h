// Image references and content digests (spec/images.md section 2).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace msb::image {

struct Reference {
    std::string registry;    // "docker.io", "test:5000"
    std::string repository;  // "library/alpine"
    std::optional<std::string> tag;
    std::optional<std::string> digest;  // "sha256:<hex>"; selects when both are there

    // registry/repository[:tag][@digest]: what the cache keys use.
    std::string canonical() const;
    // The host that is contacted: "index.docker.io" for docker.io.
    std::string api_host() const;
    // sha256 of canonical(), lowercase hex: the name of the metadata file.
    std::string cache_key() const;
};

// Parses and normalises. Throws Error{kCustom} "invalid image reference: ...".
Reference parse_reference(std::string_view text);

// "algorithm:encoded" as it appears in descriptors; throws Error{kCustom} "manifest parse error: invalid digest...".
void check_digest(std::string_view digest);
// "sha256:abc" -> "sha256_abc": the form in file names.
std::string digest_file_name(std::string_view digest);
bool is_sha256(std::string_view digest);  // "sha256:" and 64 lowercase hex digits

}  // namespace msb::image
