// The one exception type of the product and the errno helpers around it.
//
// `msb::Error` is thrown at API level and caught at process and thread boundaries. Data-path code
// (devices, packets, parsers of guest input) does not throw: it returns a value, a status or an
// errno.
#pragma once

#include <microsandbox/error.h>

#include <string>
#include <string_view>

namespace msb {

// The type is public: include/microsandbox/error.h.
using microsandbox::Error;
using microsandbox::error_prefix;
using microsandbox::ErrorCode;

// "No such file or directory (os error 2)": the form every OS error takes in messages clients match
// on.
std::string os_error_text(int err);

// "ENOENT" for the errno values upstream names; "" for others.
std::string_view errno_name(int err);

// Throws Error{kIo} "<context>: <os_error_text(err)>" ("<os_error_text>" alone when the context is
// empty).
[[noreturn]] void throw_os_error(int err, std::string_view context = {});

}  // namespace msb
