// The text a value parser fails with.
#pragma once

#include <string>
#include <utility>

#include "base/error.h"

namespace msb::cli {

// "" when nothing was thrown.
template <class Call>
std::string error_of(Call&& call) {
    try {
        (void)std::forward<Call>(call)();
    } catch (const Error& error) {
        return error.what();
    }
    return {};
}

}  // namespace msb::cli
