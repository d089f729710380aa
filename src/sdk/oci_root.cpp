#include "sdk/oci_root.h"

#include "base/error.h"
#include "image/flat_rootfs.h"
#include "image/upper_disk.h"
#include "sdk/image_store.h"
#include "sdk/launch_document.h"

namespace msb::sdk {

namespace {

namespace fs = std::filesystem;

// Where the agent finds them (spec/images.md section 10).
constexpr const char* kFirstDisk = "/dev/vda";
constexpr const char* kSecondDisk = "/dev/vdb";
// What upper.ext4 and rootfs.raw are, and a user's root disk that does not say.
constexpr const char* kUpperFstype = "ext4";

const state::OciImage* oci_image(const state::SandboxConfig& config) {
    return std::get_if<state::OciImage>(&config.image);
}

// Configurations of older versions may name no disk.
state::RootDisk root_disk(const state::OciImage& image) {
    return image.root_disk.value_or(state::ManagedRootDisk{state::kDefaultManagedRootDiskMib});
}

bool is_flat(const state::OciImage& image) {
    return image.root_disk && std::holds_alternative<state::FlatRootDisk>(*image.root_disk);
}

std::vector<std::string> diff_ids(const image::CachedImage& image) {
    std::vector<std::string> ids;
    for (const image::CachedLayer& layer : image.layers)
        ids.push_back(layer.diff_id);
    return ids;
}

image::FlatReference flat_artifact(const image::Cache& cache, const image::CachedImage& image) {
    auto found = image::find_flat(cache, image.manifest_digest, diff_ids(image));
    if (!found)
        throw Error(ErrorCode::kImage,
                    "materialization failed for layer " + image.manifest_digest +
                        ": flat ext4 materialization failed: no usable artifact");
    return std::move(*found);
}

image::CloneMode clone_mode(state::CloneStrategy strategy) {
    switch (strategy) {
        case state::CloneStrategy::kAuto:
            return image::CloneMode::kAuto;
        case state::CloneStrategy::kCopy:
            return image::CloneMode::kCopy;
        case state::CloneStrategy::kReflink:
            return image::CloneMode::kReflink;
    }
    return image::CloneMode::kAuto;
}

image::Reference parse_image_reference(const std::string& text) {
    try {
        return image::parse_reference(text);
    } catch (const Error& error) {
        throw Error(ErrorCode::kInvalidConfig, error.detail());
    }
}

fs::path vmdk_path(const LocalBackend& backend, const state::SandboxConfig& config) {
    return open_image_cache(backend).vmdk(config.manifest_digest.value_or(""));
}

void create_managed(const LocalBackend& backend, const state::SandboxConfig& config,
                    const state::ManagedRootDisk& disk, const PulledRoot& root) {
    const std::vector<image::Patch> patches = image_patches(config.patches);
    std::vector<fs::path> layers;
    if (!patches.empty()) {
        for (const image::CachedLayer& layer : root.image.layers)
            layers.push_back(root.cache.layer_image(layer.diff_id));
    }
    const fs::path directory = backend.paths.sandbox_dir(config.name);
    const image::UpperContent content = image::patch_upper(patches, layers, directory);
    image::create_upper(backend.paths.sandbox_upper(config.name),
                        disk.size_mib.value_or(state::kDefaultManagedRootDiskMib), content);
}

void create_flat(const LocalBackend& backend, const state::SandboxConfig& config,
                 const state::FlatRootDisk& disk, const PulledRoot& root) {
    const image::FlatReference artifact = flat_artifact(root.cache, root.image);
    image::create_flat_root(root.cache, artifact, backend.paths.sandbox_flat_root(config.name),
                            image::flat_size_mib(artifact, disk.size_mib), clone_mode(disk.clone));
}

}  // namespace

std::optional<PulledRoot> pull_root(LocalBackend& backend, state::SandboxConfig& config,
                                    const LaunchOptions& options, const Cancel& cancel) {
    auto* oci = std::get_if<state::OciImage>(&config.image);
    if (oci == nullptr) return std::nullopt;
    const image::Reference reference = parse_image_reference(oci->reference);
    image::PullOptions pull = pull_options(backend, reference, options.registry);
    pull.policy = config.pull_policy == state::PullPolicy::kAlways  ? image::PullPolicy::kAlways
                  : config.pull_policy == state::PullPolicy::kNever ? image::PullPolicy::kNever
                                                                    : image::PullPolicy::kIfMissing;
    pull.target = is_flat(*oci) ? image::PullTarget::kFlat : image::PullTarget::kLayered;
    pull.events = options.pull_progress;
    pull.stop = cancel.token();

    image::Cache cache = open_image_cache(backend);
    FileLock use = use_images(cache);
    image::PulledImage pulled;
    try {
        pulled = pull_image(backend, cache, oci->reference, std::move(pull));
    } catch (const Error& error) {
        // Upstream words every fault of a pull like this when a sandbox is created.
        if (error.code() == ErrorCode::kCustom) throw Error(ErrorCode::kImage, error.detail());
        throw;
    }
    config.manifest_digest = pulled.image.manifest_digest;
    if (is_flat(*oci)) {
        auto& flat = std::get<state::FlatRootDisk>(*oci->root_disk);
        flat.size_mib = image::flat_size_mib(flat_artifact(cache, pulled.image), flat.size_mib);
    }
    const ImageInit init = apply_image_defaults(config, pulled.image.config);
    return PulledRoot{std::move(cache), std::move(pulled.image), init, std::move(use)};
}

void create_root_disk(const LocalBackend& backend, const state::SandboxConfig& config,
                      const PulledRoot& root) {
    std::filesystem::create_directories(backend.paths.sandbox_dir(config.name));
    const state::RootDisk disk = root_disk(*oci_image(config));
    if (const auto* managed = std::get_if<state::ManagedRootDisk>(&disk))
        create_managed(backend, config, *managed, root);
    else if (const auto* flat = std::get_if<state::FlatRootDisk>(&disk))
        create_flat(backend, config, *flat, root);
}

void check_root_files(const LocalBackend& backend, const state::SandboxConfig& config) {
    const state::OciImage* oci = oci_image(config);
    if (oci == nullptr) return;
    const auto require = [&](const fs::path& path, const char* what) {
        std::error_code error;
        if (!fs::exists(path, error))
            throw Error(ErrorCode::kCustom, "sandbox '" + config.name + "' cannot start: " + what +
                                                " missing: " + path.string());
    };
    if (is_flat(*oci)) return require(backend.paths.sandbox_flat_root(config.name), "root disk");
    require(vmdk_path(backend, config), "VMDK");
    if (std::holds_alternative<state::ManagedRootDisk>(root_disk(*oci)))
        require(backend.paths.sandbox_upper(config.name), "root disk");
}

void grow_root_disk(const LocalBackend& backend, const state::SandboxConfig& config) {
    const state::OciImage* oci = oci_image(config);
    if (oci == nullptr) return;
    const state::RootDisk disk = root_disk(*oci);
    if (const auto* managed = std::get_if<state::ManagedRootDisk>(&disk)) {
        if (managed->size_mib)
            image::grow_upper(backend.paths.sandbox_upper(config.name), *managed->size_mib);
    } else if (const auto* flat = std::get_if<state::FlatRootDisk>(&disk)) {
        if (flat->size_mib)
            image::grow_flat_root(backend.paths.sandbox_flat_root(config.name), *flat->size_mib);
    }
}

void add_oci_root(contract::LaunchConfig& launch, const LocalBackend& backend,
                  const state::SandboxConfig& config) {
    const state::OciImage& oci = *oci_image(config);
    const state::RootDisk disk = root_disk(oci);
    if (is_flat(oci)) {
        launch.rootfs.disk = fs::absolute(backend.paths.sandbox_flat_root(config.name));
        launch.rootfs.disk_format = "raw";
        launch.bootstrap.block_root = protocol::DiskImageRoot{kFirstDisk, kUpperFstype};
        return;
    }
    launch.rootfs.disk = vmdk_path(backend, config);
    launch.rootfs.disk_format = "vmdk";
    launch.rootfs.disk_readonly = true;
    protocol::OciErofsRoot root{kFirstDisk, protocol::DeviceUpper{kSecondDisk, kUpperFstype}};
    if (const auto* tmpfs = std::get_if<state::TmpfsRootDisk>(&disk)) {
        root.upper = protocol::TmpfsUpper{tmpfs->size_mib};
    } else if (const auto* image = std::get_if<state::DiskImageRootDisk>(&disk)) {
        launch.rootfs.upper = canonical_disk_path(image->path);
        launch.rootfs.upper_format = std::string(state::disk_format_token(image->format));
        root.upper = protocol::DeviceUpper{kSecondDisk, image->fstype.value_or(kUpperFstype)};
    } else {
        launch.rootfs.upper = fs::absolute(backend.paths.sandbox_upper(config.name));
    }
    launch.bootstrap.block_root = std::move(root);
}

}  // namespace msb::sdk
