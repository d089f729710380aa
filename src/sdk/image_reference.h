// The canonical text of an image reference (spec/images.md section 2), as error messages show it.
#pragma once

#include <string>
#include <string_view>

namespace msb::sdk {

// "alpine" -> "docker.io/library/alpine:latest". Throws Error{kCustom} "invalid image reference: ...".
std::string normalize_image_reference(std::string_view text);

}  // namespace msb::sdk
