// What a sandbox takes over from its image (spec/images.md section 15, spec/state.md section 9).
//
// The image is the default and the user wins. Applied once, after the pull and before the configuration is stored: the
// stored document holds the result, so a later start needs neither the image's config nor the registry.
#pragma once

#include <string>
#include <vector>

#include "image/manifest.h"
#include "image/patch.h"
#include "state/sandbox_config.h"

namespace msb::sdk {

struct ImageInit {
    // `init = auto` was resolved to the first token of the image's entrypoint.
    bool from_image = false;
    // The image's init runs the workload: an attached or background launch gives it the rest of the command with
    // `hand_command_to_init` and starts none of its own.
    bool owns_command = false;
};

// Merges env, labels, cmd, entrypoint, workdir, user and a resolved `init`, and mounts a tmpfs at /tmp unless something is
// mounted there. Nothing else of the image's config has an effect.
ImageInit apply_image_defaults(state::SandboxConfig& config, const image::ImageConfig& image);

// MiB of the tmpfs at /tmp: clamp(memory / 4, 1, 512).
std::uint32_t default_tmp_size_mib(std::uint32_t memory_mib);

// Appends `argv` (entrypoint + cmd, possibly empty) to the arguments of the init. For the launch only: what is moved into
// an init is never stored. Throws Error{kInvalidConfig} "cmd token at index I contains a NUL byte".
void hand_command_to_init(state::InitConfig& init, const std::vector<std::string>& argv);

// The stored form of the patches as the operations of image/patch.h.
std::vector<image::Patch> image_patches(const std::vector<state::Patch>& patches);

}  // namespace msb::sdk
