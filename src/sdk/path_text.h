// Small rules about texts that name host paths.
#pragma once

#include <string>
#include <string_view>

namespace msb::sdk {

// ".", "..", or a "/", "./", "../" prefix: a host path rather than an image reference (spec/cli.md section 3).
inline bool is_host_path(std::string_view text) {
    return text == "." || text == ".." || text.starts_with("/") || text.starts_with("./") ||
           text.starts_with("../");
}

// What follows the last dot of the file name; "" without one. A leading dot does not count.
inline std::string extension_of(std::string_view path) {
    if (std::size_t slash = path.rfind('/'); slash != std::string_view::npos)
        path.remove_prefix(slash + 1);
    const std::size_t dot = path.rfind('.');
    if (dot == std::string_view::npos || dot == 0) return {};
    return std::string(path.substr(dot + 1));
}

inline bool valid_fstype(std::string_view fstype) {
    return !fstype.empty() && fstype.find_first_of(",;:=") == std::string_view::npos;
}

}  // namespace msb::sdk
