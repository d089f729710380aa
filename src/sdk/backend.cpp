#include <microsandbox/backend.h>
#include <microsandbox/version.h>

#include "sdk/local_backend.h"
#include "sdk/version_text.h"

namespace microsandbox {

std::string_view version() noexcept {
    return msb::sdk::kVersionText;
}

BackendInfo backend_info() {
    const msb::state::Backend chosen = msb::state::choose_backend();
    msb::state::require_local_backend(chosen, "config");
    return {"local", chosen.api_url, chosen.source, chosen.profile};
}

std::filesystem::path home_directory() {
    return msb::state::environment_home();
}

std::filesystem::path runtime_binary() {
    return msb::sdk::find_runtime_binary(*msb::sdk::LocalBackend::current("Sandbox::create"), {});
}

}  // namespace microsandbox
