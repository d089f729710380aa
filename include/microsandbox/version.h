// The version of the SDK these headers belong to; the shared library's soname carries major.minor.
#pragma once

#include <microsandbox/export.h>

#include <string_view>

#define MICROSANDBOX_VERSION_MAJOR 0
#define MICROSANDBOX_VERSION_MINOR 6
#define MICROSANDBOX_VERSION_PATCH 18

namespace microsandbox {

// "0.6.18": the version of the library linked at run time.
MICROSANDBOX_API std::string_view version() noexcept;

}  // namespace microsandbox
