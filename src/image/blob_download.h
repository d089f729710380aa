// One layer blob on its way from a registry into the cache (spec/images.md section 3.4).
//
// One thread downloads into tmp/<blob>.part and digests; another reads the same file right behind it. The reader sees
// the end of the blob only once its digest has been found right.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>

#include "base/fd.h"
#include "image/byte_source.h"
#include "image/cache.h"
#include "image/manifest.h"
#include "image/registry_client.h"

namespace msb::image {

// A blob whose descriptor gives no size, or one beyond this, may not be larger: no layer this big can be ingested
// (layer_ingest.h, kMaxLayerBytes).
inline constexpr std::uint64_t kMaxBlobBytes = std::uint64_t{16} << 30;

class BlobDownload : private BlobSink {
  public:
    // Total bytes there, on the downloading thread.
    using Progress = std::function<void(std::uint64_t bytes)>;

    // The caller holds tmp/<blob>.download.lock for as long as this lives. `force` ignores what is there.
    BlobDownload(const Cache& cache, const Descriptor& layer, bool force, Progress progress);
    ~BlobDownload() override;

    // Downloads what is missing, verifies it and renames it to layers/<blob>.tar.gz, or finds it there. Throws
    // Error{kCustom} "Invalid digest. Expected D1, got D2", "digest mismatch for layer D: ...", "registry error: ...",
    // "error decoding response body". What has come stays for a later resume, unless it is known to be wrong.
    // `complete` is called before readers see the end; the argument is 0 when the blob was there and its size unknown.
    void run(RegistryClient& registry, const std::function<void(std::uint64_t)>& complete,
             std::stop_token stop);

    // Reads from the start, waiting for bytes to come. Throws Error{kCustom} when the download fails. One reader.
    std::unique_ptr<ByteSource> reader(std::stop_token stop);
    // Waits for run() to end; throws Error{kCustom} when it failed.
    void wait();

    // Removes the blob: its layer is in the cache, or is not what the blob holds.
    void discard();

  private:
    class Reader;
    enum class Outcome { kRunning, kComplete, kFailed };

    std::uint64_t offset() override { return stored_; }
    void resume() override { repeats_ = false; }
    bool restart() override;
    void data(std::span<const std::byte> bytes) override;

    std::uint64_t limit() const;
    bool reuse_final();
    void open_part();
    bool adopt_part();
    void digest_stored();
    void verify();
    void publish(std::uint64_t bytes);
    void finish(Outcome outcome);
    std::size_t read_behind(std::uint64_t at, std::span<std::byte> out);

    const Descriptor& layer_;
    std::filesystem::path final_;
    std::filesystem::path part_;
    bool force_;
    Progress progress_;

    // Of the downloading thread.
    std::optional<Digester> digester_;
    std::uint64_t stored_ = 0;    // bytes of the file
    std::uint64_t digested_ = 0;  // of them, in digester_
    std::uint64_t passed_ = 0;    // bytes of this answer so far, when it repeats what is stored
    bool repeats_ = false;
    bool resumed_ = false;  // stored bytes are of an earlier process
    bool wrong_ = false;    // the stored bytes are no prefix of the blob

    // Shared with the reader.
    std::mutex mutex_;
    std::condition_variable changed_;
    UniqueFd fd_;  // set before the first byte is available
    std::uint64_t available_ = 0;
    std::uint64_t wanted_ = 0;  // the reader sleeps until this much is available
    Outcome outcome_ = Outcome::kRunning;
};

}  // namespace msb::image
