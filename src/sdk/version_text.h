// "major.minor.patch" of the public headers.
#pragma once

#include <microsandbox/version.h>

#define MSB_SDK_TEXT_(x) #x
#define MSB_SDK_TEXT(x) MSB_SDK_TEXT_(x)

namespace msb::sdk {
inline constexpr std::string_view kVersionText =
    MSB_SDK_TEXT(MICROSANDBOX_VERSION_MAJOR) "." MSB_SDK_TEXT(
        MICROSANDBOX_VERSION_MINOR) "." MSB_SDK_TEXT(MICROSANDBOX_VERSION_PATCH);
}  // namespace msb::sdk
