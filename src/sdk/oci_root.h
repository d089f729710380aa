// The root file system of a sandbox made from an OCI image: what is pulled, what is stored, which files it boots from
// (spec/images.md sections 4, 12 to 15; spec/state.md section 6).
#pragma once

#include <optional>
#include <string>

#include "base/file_lock.h"
#include "contract/launch_config.h"
#include "image/cache.h"
#include "image/manifest.h"
#include "sdk/image_defaults.h"
#include "sdk/launcher.h"
#include "sdk/local_backend.h"
#include "sdk/wait.h"
#include "state/sandbox_config.h"

namespace msb::sdk {

// An image that is complete in the cache. While `use` is held nothing of it can be removed; afterwards the row that
// state::replace_rootfs() writes protects it.
struct PulledRoot {
    image::Cache cache;
    image::CachedImage image;
    ImageInit init;
    FileLock use;
};

// For OCI images: pulls as the policy says, merges the image's defaults into `config` and pins its manifest digest there.
// nullopt for other roots. Throws Error{kImage} with the texts of pull(), Error{kInvalidConfig}, Error{kCancelled}.
std::optional<PulledRoot> pull_root(LocalBackend& backend, state::SandboxConfig& config,
                                    const LaunchOptions& options, const Cancel& cancel);

// Makes the sandbox's directory and in it upper.ext4 (patches included) or rootfs.raw; nothing for tmpfs and disk-image
// root disks but the directory. The caller removes the directory when the creation fails later on.
// Throws Error{kPatchFailed}, Error{kCustom}, Error{kInvalidConfig}.
void create_root_disk(const LocalBackend& backend, const state::SandboxConfig& config,
                      const PulledRoot& root);

// Before a start of a sandbox that exists: throws Error{kCustom} "sandbox 'N' cannot start: VMDK missing: PATH" (flat
// roots need none), Error{kCustom} "... root disk missing: PATH".
void check_root_files(const LocalBackend& backend, const state::SandboxConfig& config);

// Grows upper.ext4 or rootfs.raw to the configured size when it is smaller.
void grow_root_disk(const LocalBackend& backend, const state::SandboxConfig& config);

// `rootfs` and `bootstrap.block_root` of the launch document. `config` has an OCI image.
void add_oci_root(contract::LaunchConfig& launch, const LocalBackend& backend,
                  const state::SandboxConfig& config);

}  // namespace msb::sdk
