// Images as tables, details and JSON (spec/cli.md section 8). Everything in them was written by somebody else: text for
// people is made printable, JSON is made valid UTF-8.
#pragma once

#include <microsandbox/image.h>

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace msb::cli {

// Two spaces a level, a newline at the end.
std::string json_text(const nlohmann::json& value);

// REFERENCE DIGEST SIZE CREATED
std::string image_table(const std::vector<microsandbox::ImageInfo>& images);
nlohmann::json image_json(const microsandbox::ImageInfo& image);

// What `image inspect` shows. In the text the digest of a layer may touch its size, as upstream's does.
std::string image_text(const microsandbox::ImageDetail& image);
nlohmann::json image_json(const microsandbox::ImageDetail& image);

bool is_empty(const microsandbox::ImagePruneReport& report);
std::string prune_text(const microsandbox::ImagePruneReport& report);
nlohmann::json prune_json(const microsandbox::ImagePruneReport& report);

}  // namespace msb::cli
