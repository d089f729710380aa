#include "sdk/image_defaults.h"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>
#include <utility>
#include <variant>

#include "base/error.h"

namespace msb::sdk {

namespace {

constexpr std::string_view kAutoInit = "auto";
// Entrypoints that are an init system, so that `init = auto` runs them as PID 1.
constexpr std::array<std::string_view, 4> kImageInits{"/init", "/sbin/init", "/lib/systemd/systemd",
                                                      "/usr/lib/systemd/systemd"};
// Runs whatever its arguments name, after its own set-up (s6-overlay).
constexpr std::string_view kWrappingInit = "/init";
constexpr std::array<std::string_view, 3> kReservedLabelPrefixes{"sandbox.", "microsandbox.",
                                                                 "service."};
constexpr std::uint32_t kMaxTmpMib = 512;

void merge_env(std::vector<state::EnvVar>& env, const std::vector<std::string>& image_env) {
    std::set<std::string, std::less<>> set_by_user;
    for (const state::EnvVar& variable : env)
        set_by_user.insert(variable.key);
    std::vector<state::EnvVar> merged;
    for (const std::string& entry : image_env) {
        std::size_t equals = entry.find('=');
        // The guest refuses an empty key, and an image must not be able to keep its sandbox from booting that way.
        if (equals == std::string::npos || equals == 0) continue;
        state::EnvVar variable{entry.substr(0, equals), entry.substr(equals + 1)};
        if (!set_by_user.contains(variable.key)) merged.push_back(std::move(variable));
    }
    merged.insert(merged.end(), std::make_move_iterator(env.begin()),
                  std::make_move_iterator(env.end()));
    env = std::move(merged);
}

bool is_reserved_label(std::string_view key) {
    return key.empty() || std::ranges::any_of(kReservedLabelPrefixes, [&](std::string_view prefix) {
               return key.starts_with(prefix);
           });
}

void inherit(std::optional<std::string>& value, const std::optional<std::string>& image) {
    if (!value && image && !image->empty()) value = image;
}

bool mounts_tmp(const std::vector<state::Mount>& mounts) {
    return std::ranges::any_of(mounts, [](const state::Mount& mount) {
        std::string_view path = state::guest_path(mount);
        while (path.size() > 1 && path.ends_with('/'))
            path.remove_suffix(1);
        return path == "/tmp";
    });
}

// The init's environment is the sandbox's, and what was set for the init wins.
void complete_init_env(state::InitConfig& init, const std::vector<state::EnvVar>& env) {
    std::vector<std::pair<std::string, std::string>> merged;
    auto set = [&](const std::string& key, const std::string& value) {
        auto it = std::ranges::find(merged, key, &std::pair<std::string, std::string>::first);
        if (it == merged.end())
            merged.emplace_back(key, value);
        else
            it->second = value;
    };
    for (const state::EnvVar& variable : env)
        set(variable.key, variable.value);
    for (const auto& [key, value] : init.env)
        set(key, value);
    init.env = std::move(merged);
}

// Runs after entrypoint and env are merged. `inherited`: the entrypoint is the image's.
ImageInit resolve_init(state::SandboxConfig& config, const image::ImageConfig& image,
                       bool inherited) {
    if (!config.init || config.init->cmd != kAutoInit || !image.entrypoint ||
        image.entrypoint->empty())
        return {};
    const std::string& first = image.entrypoint->front();
    if (std::ranges::find(kImageInits, first) == kImageInits.end()) return {};
    config.init->cmd = first;
    complete_init_env(*config.init, config.env);
    std::optional<std::vector<std::string>>& entrypoint = config.runtime.entrypoint;
    if (inherited) {
        entrypoint->erase(entrypoint->begin());
        if (entrypoint->empty()) entrypoint.reset();
    }
    // What an entrypoint of the user's holds is a command of its own, not arguments of the image's init.
    bool arguments_remain = inherited && entrypoint;
    return {.from_image = true, .owns_command = first == kWrappingInit || arguments_remain};
}

struct ToImagePatch {
    image::Patch operator()(const state::TextPatch& patch) const {
        return image::WriteFilePatch{patch.path, patch.content, patch.mode, patch.replace};
    }
    image::Patch operator()(const state::FilePatch& patch) const {
        return image::WriteFilePatch{patch.path, patch.content, patch.mode, patch.replace};
    }
    image::Patch operator()(const state::CopyFilePatch& patch) const {
        return image::CopyFilePatch{patch.src, patch.dst, patch.mode, patch.replace};
    }
    image::Patch operator()(const state::CopyDirPatch& patch) const {
        return image::CopyDirPatch{patch.src, patch.dst, patch.replace};
    }
    image::Patch operator()(const state::SymlinkPatch& patch) const {
        return image::SymlinkPatch{patch.target, patch.link, patch.replace};
    }
    image::Patch operator()(const state::MkdirPatch& patch) const {
        return image::MkdirPatch{patch.path, patch.mode};
    }
    image::Patch operator()(const state::RemovePatch& patch) const {
        return image::RemovePatch{patch.path};
    }
    image::Patch operator()(const state::AppendPatch& patch) const {
        return image::AppendPatch{patch.path, patch.content};
    }
};

}  // namespace

ImageInit apply_image_defaults(state::SandboxConfig& config, const image::ImageConfig& image) {
    merge_env(config.env, image.env);
    for (const auto& [key, value] : image.labels) {
        if (!is_reserved_label(key)) config.labels.emplace(key, value);
    }
    bool inherits_entrypoint = !config.runtime.entrypoint && image.entrypoint;
    if (inherits_entrypoint) config.runtime.entrypoint = image.entrypoint;
    // Other than with Docker, an entrypoint of the user's keeps the image's cmd.
    if (!config.runtime.cmd) config.runtime.cmd = image.cmd;
    inherit(config.runtime.workdir, image.working_dir);
    inherit(config.runtime.user, image.user);
    if (!mounts_tmp(config.mounts))
        config.mounts.emplace_back(
            state::TmpfsMount{"/tmp", default_tmp_size_mib(config.resources.memory_mib), {}});
    return resolve_init(config, image, inherits_entrypoint);
}

std::uint32_t default_tmp_size_mib(std::uint32_t memory_mib) {
    return std::clamp(memory_mib / 4, 1U, kMaxTmpMib);
}

void hand_command_to_init(state::InitConfig& init, const std::vector<std::string>& argv) {
    for (std::size_t i = 0; i < argv.size(); ++i) {
        if (argv[i].find('\0') != std::string::npos)
            throw Error(ErrorCode::kInvalidConfig,
                        "cmd token at index " + std::to_string(i) + " contains a NUL byte");
    }
    init.args.insert(init.args.end(), argv.begin(), argv.end());
}

std::vector<image::Patch> image_patches(const std::vector<state::Patch>& patches) {
    std::vector<image::Patch> result;
    result.reserve(patches.size());
    for (const state::Patch& patch : patches)
        result.push_back(std::visit(ToImagePatch{}, patch));
    return result;
}

}  // namespace msb::sdk
