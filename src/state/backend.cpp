// Which backend a program uses: environment, then the profiles of config.json (spec/sdk.md section 3.1).
#include <cstdlib>

#include "base/error.h"
#include "base/fd.h"
#include "base/text.h"
#include "state/config_fields.h"
#include "state/global_config.h"

namespace msb::state {

namespace fs = std::filesystem;

namespace {

using json::Reader;
using json::Value;

constexpr std::size_t kMaxConfigBytes = 16 << 20;
constexpr std::string_view kDefaultApiUrl = "https://api.microsandbox.dev";

struct Profile {
    Backend::Kind backend = Backend::Kind::kLocal;
    std::optional<std::string> url;
    std::optional<std::string> api_key_ref;
};

struct Profiles {
    std::optional<std::string> active;
    std::map<std::string, Profile> profiles;
};

[[noreturn]] void invalid(const std::string& text) {
    throw Error(ErrorCode::kInvalidConfig, text);
}

// Trimmed; blank counts as unset.
std::optional<std::string> environment(const char* name) {
    const char* value = std::getenv(name);
    if (value == nullptr) return std::nullopt;
    const std::string_view text = trim(value);
    if (text.empty()) return std::nullopt;
    return std::string(text);
}

Profiles read_profiles(const Value& document) {
    static constexpr std::array<std::string_view, 2> kBackends = {"local", "cloud"};
    const Reader reader(document, "SdkConfig");
    Profiles result;
    result.active = reader.optional_string("active_profile");
    const Value* profiles = reader.find("profiles");
    if (profiles == nullptr) return result;
    const Reader checked(*profiles, "map");
    for (const auto& [name, value] : profiles->items()) {
        const Reader entry(value, "Profile");
        result.profiles.emplace(
            name, Profile{read_variant<Backend::Kind>(entry.raw("backend"), kBackends),
                          entry.optional_string("url"), entry.optional_string("api_key_ref")});
    }
    return result;
}

Profiles load_profiles(const fs::path& file) {
    std::string text;
    std::error_code error;
    if (fs::status(file, error).type() == fs::file_type::not_found) return {};
    try {
        text = read_file(file, kMaxConfigBytes);
    } catch (const Error& failure) {
        invalid("failed to read SDK config at " + file.string() + ": " + failure.detail());
    }
    try {
        return read_profiles(json::parse(text));
    } catch (const json::ParseError& failure) {
        invalid("failed to parse SDK config at " + file.string() + ": " + failure.what());
    }
}

// Checks that a cloud profile names a usable key, without keeping it.
void check_api_key(const std::string& name, const Profile& profile) {
    const std::string prefix = "profile " + msb::quoted(name) + ": ";
    if (!profile.api_key_ref)
        invalid("profile " + msb::quoted(name) + " backend=cloud requires an 'api_key_ref' field");
    const std::string_view reference = trim(*profile.api_key_ref);
    if (reference.starts_with("env:")) {
        const std::string variable(trim(reference.substr(4)));
        if (variable.empty()) invalid(prefix + "api_key_ref 'env:' must name an env var");
        const char* value = std::getenv(variable.c_str());
        if (value == nullptr) invalid(prefix + "env var " + msb::quoted(variable) + " not set");
        if (trim(value).empty())
            invalid(prefix + "env var " + msb::quoted(variable) + " must not be empty");
    } else if (reference.starts_with("inline:")) {
        if (trim(reference.substr(7)).empty())
            invalid(prefix + "api_key_ref 'inline:' must include an API key");
    } else if (reference.starts_with("keyring:")) {
        const std::string_view rest = reference.substr(8);
        const std::size_t colon = rest.find(':');
        if (colon == std::string_view::npos || trim(rest.substr(0, colon)).empty())
            invalid(prefix + "api_key_ref 'keyring:' requires <service>:<name>");
        if (trim(rest.substr(colon + 1)).empty())
            invalid(prefix + "api_key_ref 'keyring:<service>:<name>' requires <name>");
        invalid(prefix +
                "api_key_ref 'keyring:' resolution is not yet wired \u2014 use 'env:' or 'inline:' "
                "for now");
    } else {
        invalid(prefix +
                "api_key_ref must start with 'env:', 'inline:', or 'keyring:' \u2014 got " +
                msb::quoted(reference));
    }
}

Backend from_profile(const Profiles& profiles, const std::string& name, std::string source) {
    const auto found = profiles.profiles.find(name);
    if (found == profiles.profiles.end())
        invalid("active profile " + msb::quoted(name) + " not found in SDK config");
    Backend backend{found->second.backend, std::move(source), name, std::nullopt};
    if (backend.kind == Backend::Kind::kCloud) {
        check_api_key(name, found->second);
        backend.api_url = found->second.url.value_or(std::string(kDefaultApiUrl));
    }
    return backend;
}

}  // namespace

Backend choose_backend() {
    bool cloud = false;
    if (const auto choice = environment("MSB_BACKEND")) {
        if (iequals(*choice, "local"))
            return {Backend::Kind::kLocal, "MSB_BACKEND", std::nullopt, std::nullopt};
        if (!iequals(*choice, "cloud"))
            invalid("MSB_BACKEND must be 'local' or 'cloud', got " + msb::quoted(*choice));
        cloud = true;
        if (environment("MSB_API_KEY"))
            return {Backend::Kind::kCloud, "MSB_API_KEY", std::nullopt,
                    environment("MSB_API_URL").value_or(std::string(kDefaultApiUrl))};
    }
    const Profiles profiles = load_profiles(config_file_path());
    std::string source = "MSB_PROFILE";
    std::optional<std::string> name = environment("MSB_PROFILE");
    if (!name && profiles.active && !trim(*profiles.active).empty()) {
        name = std::string(trim(*profiles.active));
        source = "active_profile";
    }
    if (cloud && !name)
        invalid("MSB_BACKEND=cloud requires a non-empty MSB_API_KEY or a cloud profile");
    if (!name) return {};
    const Backend backend = from_profile(profiles, *name, std::move(source));
    if (cloud && backend.kind == Backend::Kind::kLocal)
        invalid("MSB_BACKEND=cloud cannot select local profile " + msb::quoted(*name));
    return backend;
}

void require_local_backend(const Backend& backend, std::string_view operation) {
    if (backend.kind == Backend::Kind::kLocal) return;
    throw Error(ErrorCode::kUnsupported,
                std::string(operation) + " is not supported by this backend: use a local backend");
}

}  // namespace msb::state
