// The pulling half of the distribution protocol (spec/images.md sections 3.1, 3.3, 3.5).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "image/http.h"
#include "image/manifest.h"
#include "image/reference.h"
#include "image/registry_auth.h"

namespace msb::image {

// Transient failures (no connection, 429, 5xx, a broken body) are tried again, `attempts` times in all, after
// base_delay * 2^n, halved or not at random. A body that made progress starts the count anew.
struct RetryPolicy {
    int attempts = 4;
    std::chrono::milliseconds base_delay{200};
    std::chrono::milliseconds max_delay{5'000};
    std::chrono::milliseconds max_retry_after{30'000};  // what a registry may ask for
};
inline constexpr std::uint64_t kRetryProgress = 64 * 1024;  // bytes that count as progress
inline constexpr int kMaxBlobAttempts = 100;                // of one blob, whatever the progress

struct RegistryOptions {
    HttpTimeouts timeouts;
    RetryPolicy retry;
    std::vector<std::string> ca_certificates;  // PEM texts
    std::set<std::string> insecure_hosts;      // API host[:port], compared exactly: plain HTTP
    std::optional<BasicCredentials> credentials;
};

// The digest of a stream, in the algorithm of the digest it shall have.
class Digester {
  public:
    // sha256, sha384, sha512 and the right number of lowercase hex digits; else throws Error{kCustom}
    // "manifest parse error: invalid digest ...".
    explicit Digester(std::string_view expected);
    ~Digester();
    Digester(Digester&&) noexcept;
    void update(std::span<const std::byte> bytes);
    std::string finish();  // "sha256:<hex>"

  private:
    struct Context;
    std::unique_ptr<Context> context_;
};

struct ResolvedImage {
    std::string manifest_digest;  // the child's, never an index's
    Manifest manifest;
    ConfigDocument config;
};

// Where the bytes of a blob go. Calls come from the thread of fetch_blob().
class BlobSink {
  public:
    virtual ~BlobSink() = default;
    // How many leading bytes are already there: where the next request starts.
    virtual std::uint64_t offset() = 0;
    // The registry sends what follows them.
    virtual void resume() = 0;
    // The registry sends everything from the first byte on, although there are some already. Drops them; or, when they
    // are in use, returns false and passes over as many bytes of what comes.
    virtual bool restart() = 0;
    virtual void data(std::span<const std::byte> bytes) = 0;
};

// Thread-safe.
class RegistryClient {
  public:
    RegistryClient(const Reference& reference, RegistryOptions options);

    // Manifest, index entry and config: fetched, digested, parsed. Throws Error{kCustom} with the texts of section 3.5.
    ResolvedImage resolve(std::stop_token stop);

    // The layer's bytes from sink.offset() to the end. Length and digest are the sink's to check. Throws Error{kCustom}: "registry error: HTTP status ...", "error decoding response body", ...
    void fetch_blob(const std::string& digest, BlobSink& sink, std::stop_token stop);

  private:
    struct Document {
        std::string text;
        std::string digest;
    };
    std::string url(const std::string& path) const;
    std::string repository_url(const std::string& path) const;
    std::string authorization(std::stop_token stop);
    std::optional<std::string> exchange_token(const BearerChallenge& challenge,
                                              std::stop_token stop);
    HttpResponse get(const std::string& url, std::optional<std::uint64_t> from, BodySink& sink,
                     std::stop_token stop);
    HttpResponse get_text(const std::string& url, StringSink& sink, std::stop_token stop);
    Document fetch_manifest(const std::string& selector, const std::string& expected,
                            std::stop_token stop);
    std::string fetch_config(const Descriptor& config, std::stop_token stop);
    bool fetch_config_elsewhere(const Descriptor& config, StringSink& sink, std::stop_token stop);
    void wait_before_retry(int attempt, const std::string& retry_after, std::stop_token stop);

    Reference reference_;
    std::string host_;
    RegistryOptions options_;
    HttpClient http_;
    TokenCache tokens_;
};

}  // namespace msb::image
