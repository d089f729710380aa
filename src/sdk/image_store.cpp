#include "sdk/image_store.h"

#include <unistd.h>

#include <set>

#include "base/error.h"
#include "base/log.h"
#include "image/flat_rootfs.h"
#include "state/image_rows.h"

namespace msb::sdk {

namespace {

namespace fs = std::filesystem;

const image::FlatMaterializer& flat_materializer() {
    static const image::FlatMaterializer materializer;
    return materializer;
}

state::ImageRecord record_of(const image::CachedImage& image) {
    state::ImageRecord record;
    const image::Platform host = image::host_platform();
    record.manifest_digest = image.manifest_digest;
    record.architecture = host.architecture;
    record.os = host.os;
    const image::ImageConfig& config = image.config;
    record.config = {image.config_digest, config.env,  config.cmd,    config.entrypoint,
                     config.working_dir,  config.user, config.labels, config.stop_signal};
    for (const image::CachedLayer& layer : image.layers) {
        std::optional<std::int64_t> size;
        if (layer.size_bytes) size = static_cast<std::int64_t>(*layer.size_bytes);
        record.layers.push_back({layer.diff_id, layer.digest, layer.media_type, size, {}});
    }
    return record;
}

// --- Deleting files -------------------------------------------------------------------------------------------------

// Deletes cache files and counts. Lock files stay: unlinking one would let two processes lock "the same" entry.
class Sweeper {
  public:
    explicit Sweeper(const image::Cache& cache) : cache_(cache) {}

    // 1 when there was such a file.
    std::uint64_t drop(const fs::path& path) {
        std::error_code missing;
        const std::uintmax_t size = fs::file_size(path, missing);
        if (::unlink(path.c_str()) != 0) {
            if (errno != ENOENT) image::throw_cache_error(path, errno);
            return 0;
        }
        if (!missing) bytes_ += size;
        any_ = true;
        return 1;
    }

    void drop_artifacts(const state::RemovedImages& removed) {
        for (const std::string& digest : removed.manifest_digests) {
            vmdk_ += drop(cache_.vmdk(digest));
            fsmeta_ += drop(cache_.fsmeta(digest));
            drop_flat(digest);
        }
        for (const std::string& diff_id : removed.layer_diff_ids)
            drop(cache_.layer_image(diff_id));
    }

    // The metadata file of each removed reference, unless a reference that stays is another spelling of the same name.
    void drop_metadata(const std::vector<std::string>& references,
                       const std::vector<state::ImageRow>& remaining) {
        std::set<std::string> kept;
        for (const state::ImageRow& row : remaining)
            if (auto key = cache_key(row.reference)) kept.insert(*key);
        for (const std::string& reference : references) {
            const auto key = cache_key(reference);
            if (key && !kept.contains(*key))
                drop(cache_.metadata(image::parse_reference(reference)));
        }
    }

    std::uint64_t fsmeta() const { return fsmeta_; }
    std::uint64_t vmdk() const { return vmdk_; }
    std::optional<std::uint64_t> bytes() const {
        return any_ ? std::optional(bytes_) : std::nullopt;
    }

  private:
    // Rows may hold any text an archive or another program put there.
    static std::optional<std::string> cache_key(const std::string& reference) {
        try {
            return image::parse_reference(reference).cache_key();
        } catch (const Error&) {
            return std::nullopt;
        }
    }

    // Upstream never deletes these; nothing refers to them any more, since sandboxes boot private copies.
    void drop_flat(const std::string& manifest_digest) {
        const fs::path path = cache_.flat_reference(manifest_digest);
        const auto reference = read_flat(path);
        drop(path);
        if (!reference) return;
        std::error_code ignored;
        for (const auto& other : fs::directory_iterator(path.parent_path(), ignored)) {
            const auto rival = read_flat(other.path());
            if (rival && rival->artifact_digest == reference->artifact_digest) return;
        }
        drop(cache_.flat_blob(reference->artifact_digest));
    }
    static std::optional<image::FlatReference> read_flat(const fs::path& path) {
        constexpr std::size_t kMaxFlatReference = 64 << 10;
        try {
            return image::read_flat_reference(read_file(path.string(), kMaxFlatReference));
        } catch (const Error&) {
            return std::nullopt;
        }
    }

    const image::Cache& cache_;
    std::uint64_t fsmeta_ = 0;
    std::uint64_t vmdk_ = 0;
    std::uint64_t bytes_ = 0;
    bool any_ = false;
};

fs::path use_lock_path(const image::Cache& cache) {
    return cache.work("images.lock");
}

}  // namespace

image::Cache open_image_cache(const LocalBackend& backend) {
    return image::Cache(fs::absolute(backend.paths.cache()));
}

FileLock use_images(const image::Cache& cache) {
    return FileLock::acquire(use_lock_path(cache), LockMode::kShared, 0600);
}

microsandbox::PullTarget default_pull_target(const LocalBackend& backend) {
    const state::RootDisk disk = state::default_root_disk(backend.config.sandbox_defaults);
    return std::holds_alternative<state::FlatRootDisk>(disk) ? microsandbox::PullTarget::kFlat
                                                             : microsandbox::PullTarget::kLayered;
}

image::PullOptions pull_options(const LocalBackend& backend, const image::Reference& reference,
                                const microsandbox::RegistryOptions& registry) {
    image::PullOptions options;
    options.flat = &flat_materializer();
    image::CredentialSources& credentials = options.credentials;
    credentials.secrets_directory = backend.paths.registry_secret("x").parent_path();
    credentials.anonymous = registry.anonymous;
    if (registry.basic_auth)
        credentials.explicit_credentials = {registry.basic_auth->username,
                                            registry.basic_auth->password};
    for (const auto& [host, settings] : backend.config.registry_hosts) {
        if (settings.insecure) options.insecure_hosts.insert(host);
        if (settings.auth)
            credentials.configured[host] = {settings.auth->username, settings.auth->store,
                                            settings.auth->password_env,
                                            settings.auth->secret_name};
    }
    if (registry.insecure) options.insecure_hosts.insert(reference.registry);
    if (backend.config.registry_ca_certs)
        options.ca_certificates.push_back(image::read_ca_certificates(
            *backend.config.registry_ca_certs, ErrorCode::kInvalidConfig));
    options.ca_certificates.insert(options.ca_certificates.end(), registry.ca_certs.begin(),
                                   registry.ca_certs.end());
    for (const fs::path& file : registry.ca_cert_files)
        options.ca_certificates.push_back(image::read_ca_certificates(file, ErrorCode::kCustom));
    return options;
}

image::PulledImage pull_image(LocalBackend& backend, const image::Cache& cache,
                              const std::string& reference, image::PullOptions options) {
    image::PulledImage pulled = image::pull(cache, image::parse_reference(reference), options);
    try {
        record_cached_image(backend, reference, pulled.image);
    } catch (const Error& error) {
        log(LogLevel::kWarn, "images", "recording {}: {}", reference, error.what());
    }
    return pulled;
}

void record_cached_image(LocalBackend& backend, const std::string& reference,
                         const image::CachedImage& image) {
    state::record_image(backend.database(), reference, record_of(image));
}

void remove_image(LocalBackend& backend, const std::string& reference, bool force) {
    const image::Cache cache = open_image_cache(backend);
    const FileLock alone = FileLock::acquire(use_lock_path(cache), LockMode::kExclusive, 0600);
    const state::RemovedImages removed = state::remove_image(backend.database(), reference, force);
    Sweeper sweeper(cache);
    sweeper.drop_metadata(removed.references, state::list_images(backend.database()));
    sweeper.drop_artifacts(removed);
}

microsandbox::ImagePruneReport prune_images(LocalBackend& backend) {
    const image::Cache cache = open_image_cache(backend);
    const FileLock alone = FileLock::acquire(use_lock_path(cache), LockMode::kExclusive, 0600);
    const state::RemovedImages removed = state::prune_images(backend.database());
    Sweeper sweeper(cache);
    sweeper.drop_metadata(removed.references, state::list_images(backend.database()));
    sweeper.drop_artifacts(removed);
    microsandbox::ImagePruneReport report;
    report.image_refs_removed = removed.references.size();
    report.manifests_removed = removed.manifest_digests.size();
    report.layers_removed = removed.layer_diff_ids.size();
    report.fsmeta_removed = sweeper.fsmeta();
    report.vmdk_removed = sweeper.vmdk();
    report.bytes_reclaimed = sweeper.bytes();
    return report;
}

}  // namespace msb::sdk
