// The image cache on disk (spec/images.md section 6): paths, locks, publication. Shared with upstream both ways.
#pragma once

#include <filesystem>
#include <functional>
#include <stop_token>
#include <string>
#include <string_view>

#include "base/file_lock.h"
#include "image/reference.h"

namespace msb::image {

class Cache {
  public:
    // Creates the cache's directories as needed. Throws Error{kCustom} "cache error at PATH: <os error>", also when the
    // path holds a quote or a line break, which VMDK descriptors cannot express.
    explicit Cache(std::filesystem::path directory);

    const std::filesystem::path& directory() const { return directory_; }

    std::filesystem::path metadata(const Reference& reference) const;      // manifests/<key>.json
    std::filesystem::path layer_image(std::string_view diff_id) const;     // layers/<diff>.erofs
    std::filesystem::path blob(std::string_view digest) const;             // layers/<blob>.tar.gz
    std::filesystem::path fsmeta(std::string_view manifest_digest) const;  // fsmeta/<man>.erofs
    std::filesystem::path vmdk(std::string_view manifest_digest) const;    // vmdk/<man>.vmdk
    std::filesystem::path flat_reference(std::string_view manifest_digest) const;
    std::filesystem::path flat_blob(std::string_view artifact_digest) const;
    std::filesystem::path flat_lock(std::string_view derivation_digest) const;
    std::filesystem::path work(const std::string& name) const;  // tmp/<name>

    // The lock beside an entry: "<entry>.lock", mode 0600, opened without following links. Waits, until `stop` makes
    // it throw Error{kCancelled}.
    FileLock lock(const std::filesystem::path& entry_lock, std::stop_token stop = {}) const;
    FileLock lock_metadata(const Reference& reference, std::stop_token stop = {}) const;
    FileLock lock_layer(std::string_view diff_id, std::stop_token stop = {}) const;
    FileLock lock_composition(std::string_view manifest_digest, std::stop_token stop = {}) const;

  private:
    std::filesystem::path directory_;
};

// A file being made in tmp/ that becomes visible under its final name, or is gone. Destroying it unpublished removes it.
class PendingFile {
  public:
    // Replaces a left-over of a killed process. Open for reading and writing.
    explicit PendingFile(std::filesystem::path path);
    PendingFile(PendingFile&&) noexcept;
    PendingFile& operator=(PendingFile&&) = delete;
    ~PendingFile();

    int fd() const { return fd_.get(); }
    const std::filesystem::path& path() const { return path_; }
    // rename(2) onto `target`, with mode 0644. `durable` fsyncs the file and the directory.
    void publish(const std::filesystem::path& target, bool durable = false);

  private:
    std::filesystem::path path_;
    UniqueFd fd_;
};

[[noreturn]] void throw_cache_error(const std::filesystem::path& path, int err);

}  // namespace msb::image
