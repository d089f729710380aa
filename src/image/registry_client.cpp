#include "image/registry_client.h"

#include <microsandbox/version.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <random>

#include "base/encoding.h"
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"

namespace msb::image {

namespace {

constexpr std::size_t kMaxErrorBody = 64 * 1024;  // of an answer that is no success
constexpr std::size_t kMaxErrorText = 4096;       // of it in a message
constexpr std::size_t kMaxTokenAnswer = 256 * 1024;
constexpr std::size_t kMaxConfigUrls = 8;

[[noreturn]] void fail(const std::string& what) {
    throw Error(ErrorCode::kCustom, what);
}

std::string accept_header() {
    std::string text = "Accept: ";
    for (std::string_view type :
         {kDockerManifestType, kDockerListType, kOciManifestType, kOciIndexType})
        text += (text.ends_with(' ') ? "" : ", ") + std::string(type);
    return text;
}

std::string user_agent() {
    return "microsandbox/" + std::to_string(MICROSANDBOX_VERSION_MAJOR) + "." +
           std::to_string(MICROSANDBOX_VERSION_MINOR) + "." +
           std::to_string(MICROSANDBOX_VERSION_PATCH);
}

bool is_transient(long status) {
    return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 ||
           status == 504;
}

std::string_view reason_phrase(long status) {
    switch (status) {
        case 400:
            return "Bad Request";
        case 401:
            return "Unauthorized";
        case 403:
            return "Forbidden";
        case 404:
            return "Not Found";
        case 405:
            return "Method Not Allowed";
        case 408:
            return "Request Timeout";
        case 409:
            return "Conflict";
        case 410:
            return "Gone";
        case 416:
            return "Range Not Satisfiable";
        case 418:
            return "I'm a teapot";
        case 429:
            return "Too Many Requests";
        case 451:
            return "Unavailable For Legal Reasons";
        case 500:
            return "Internal Server Error";
        case 501:
            return "Not Implemented";
        case 502:
            return "Bad Gateway";
        case 503:
            return "Service Unavailable";
        case 504:
            return "Gateway Timeout";
        case 505:
            return "HTTP Version Not Supported";
        default:
            return "<unknown status code>";
    }
}

// The words for a transfer that gave no answer. The reason goes to the log: clients match the text.
std::string describe(const HttpFailure& failure) {
    log(LogLevel::kWarn, "image::registry", "{}: {}", failure.url(), failure.what());
    switch (failure.kind()) {
        case HttpFailure::Kind::kBody:
            return "error decoding response body";
        case HttpFailure::Kind::kRedirect:
            return "error following redirect for url (" + failure.url() + ")";
        case HttpFailure::Kind::kInvalidUrl:
            return "builder error for url (" + failure.url() + ")";
        case HttpFailure::Kind::kTooLarge:
            return std::string(failure.what()) + ": url " + failure.url();
        default:
            return "error sending request for url (" + failure.url() + ")";
    }
}

// "OCI API error: <message>" for each, or nullopt when the body is no envelope of errors.
std::optional<std::string> envelope_text(const std::string& body) {
    try {
        json::Value value = json::parse(body);
        json::Reader reader(value, "OciEnvelope");
        std::string text;
        for (const json::Value& entry : json::expect_array(reader.raw("errors"))) {
            json::Reader error(entry, "OciError");
            error.string("code");
            if (!text.empty()) text += '\n';
            text += "OCI API error: " + error.optional_string("message").value_or("");
        }
        return text;
    } catch (const json::ParseError&) {
        return std::nullopt;
    }
}

void check_document_answer(const HttpResponse& response, const std::string& url,
                           const std::string& body) {
    if (response.status == 200) return;
    if (response.status == 401) fail("registry error: Not authorized: url " + url);
    if (response.status >= 400 && response.status < 500) {
        if (auto errors = envelope_text(body))
            fail("registry error: Registry error: url " + url + ", envelope: OCI API errors: [" +
                 errors->substr(0, kMaxErrorText) + "]");
    }
    fail("registry error: Server error: url " + url + ", code: " + std::to_string(response.status) +
         ", message: " + utf8_lossy(std::string_view(body).substr(0, kMaxErrorText)));
}

std::string blob_status_text(const HttpResponse& response) {
    std::string kind = response.status >= 500 ? "server" : "client";
    return "registry error: HTTP status " + kind + " error (" + std::to_string(response.status) +
           " " + std::string(reason_phrase(response.status)) + ") for url (" + response.url + ")";
}

// Digest in the algorithm of `expected`, of a whole text.
std::string digest_like(std::string_view expected, std::string_view text) {
    Digester digester(expected);
    digester.update(std::as_bytes(std::span(text)));
    return digester.finish();
}

void check_document_digest(const std::string& expected, const std::string& text) {
    std::string actual;
    try {
        actual = digest_like(expected, text);
    } catch (const Error& e) {
        fail("registry error: Digest error: " + e.detail());
    }
    if (actual != expected)
        fail("registry error: Digest error: Invalid digest. Expected " + expected + ", got " +
             actual);
}

// Seconds, the only form registries use; an HTTP date counts as absent.
std::chrono::milliseconds parse_retry_after(const std::string& text) {
    auto seconds = parse_integer<std::uint32_t>(text);
    return std::chrono::seconds(seconds ? std::min<std::uint32_t>(*seconds, 86'400) : 0);
}

// "bytes 5-9/10" -> 5.
std::optional<std::uint64_t> content_range_start(std::string_view text) {
    if (!text.starts_with("bytes ")) return std::nullopt;
    text.remove_prefix(6);
    return parse_integer<std::uint64_t>(text.substr(0, text.find('-')));
}

// Hands a blob's body on, once the answer to a possible range request is understood.
class BlobBody : public BodySink {
  public:
    explicit BlobBody(BlobSink& sink) : sink_(sink) {}

    void begin(const HttpResponse& response) override {
        head_ = response;
        if (response.status == 206) {
            auto start = content_range_start(response.content_range);
            if (start && *start != sink_.offset())
                fail("registry error: unexpected Content-Range: " + response.content_range);
            sink_.resume();
        } else if (response.status == 200 && sink_.offset() > 0) {
            sink_.restart();
        }
    }

    void data(std::span<const std::byte> bytes) override {
        if (head_.status == 200 || head_.status == 206) return sink_.data(bytes);
        discarded_ += bytes.size();
        if (discarded_ > kMaxErrorBody) fail(blob_status_text(head_));
    }

  private:
    BlobSink& sink_;
    HttpResponse head_;
    std::uint64_t discarded_ = 0;
};

// The probe's answer counts by its headers; of its body as much is read as keeps the connection usable.
class ProbeSink : public BodySink {
  public:
    void begin(const HttpResponse& response) override { head = response; }
    void data(std::span<const std::byte> bytes) override {
        read_ += bytes.size();
        if (read_ > kMaxErrorBody)
            throw HttpFailure(HttpFailure::Kind::kTooLarge, head.url, "endless answer");
    }
    HttpResponse head;

  private:
    std::size_t read_ = 0;
};

}  // namespace

// ---- Digester

struct Digester::Context {
    std::string algorithm;
    EVP_MD_CTX* evp = EVP_MD_CTX_new();
    ~Context() { EVP_MD_CTX_free(evp); }
};

Digester::Digester(std::string_view expected) : context_(std::make_unique<Context>()) {
    check_digest(expected);
    std::size_t colon = expected.find(':');
    std::string_view encoded = expected.substr(colon + 1);
    context_->algorithm = expected.substr(0, colon);
    const EVP_MD* method = context_->algorithm == "sha256"   ? EVP_sha256()
                           : context_->algorithm == "sha384" ? EVP_sha384()
                           : context_->algorithm == "sha512" ? EVP_sha512()
                                                             : nullptr;
    if (method == nullptr)
        fail("manifest parse error: invalid digest algorithm: " + context_->algorithm);
    bool hex = std::ranges::all_of(
        encoded, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
    if (!hex || encoded.size() != 2 * static_cast<std::size_t>(EVP_MD_get_size(method)))
        fail("manifest parse error: invalid digest encoded value: " + std::string(encoded));
    if (EVP_DigestInit_ex(context_->evp, method, nullptr) != 1)
        throw Error(ErrorCode::kRuntime, "OpenSSL cannot compute " + context_->algorithm);
}
Digester::~Digester() = default;
Digester::Digester(Digester&&) noexcept = default;

void Digester::update(std::span<const std::byte> bytes) {
    EVP_DigestUpdate(context_->evp, bytes.data(), bytes.size());
}

std::string Digester::finish() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
    unsigned length = 0;
    EVP_DigestFinal_ex(context_->evp, digest.data(), &length);
    return context_->algorithm + ":" + hex({reinterpret_cast<const char*>(digest.data()), length});
}

// ---- RegistryClient

RegistryClient::RegistryClient(const Reference& reference, RegistryOptions options)
    : reference_(reference),
      host_(reference.api_host()),
      options_(std::move(options)),
      http_({user_agent(), options_.timeouts, options_.ca_certificates}) {}

std::string RegistryClient::url(const std::string& path) const {
    const char* scheme = options_.insecure_hosts.contains(host_) ? "http://" : "https://";
    return scheme + host_ + path;
}

std::string RegistryClient::repository_url(const std::string& path) const {
    return url("/v2/" + reference_.repository + path);
}

void RegistryClient::wait_before_retry(int attempt, const std::string& retry_after,
                                       std::stop_token stop) {
    using std::chrono::milliseconds;
    const RetryPolicy& retry = options_.retry;
    milliseconds delay = std::min(retry.base_delay * (1 << std::min(attempt, 16)), retry.max_delay);
    // Pullers that failed together shall not come back together.
    thread_local std::minstd_rand random(std::random_device{}());
    delay = milliseconds(
        std::uniform_int_distribution<milliseconds::rep>(delay.count() / 2, delay.count())(random));
    delay = std::max(delay, std::min(parse_retry_after(retry_after), retry.max_retry_after));
    std::mutex mutex;
    std::condition_variable_any never;
    std::unique_lock lock(mutex);
    never.wait_for(lock, stop, delay, [] { return false; });
    if (stop.stop_requested()) throw_cancelled();
}

// One text, with retries. A status that is still bad at the end is the caller's to judge.
HttpResponse RegistryClient::get_text(const std::string& url, StringSink& sink,
                                      std::stop_token stop) {
    for (int attempt = 0;; ++attempt) {
        bool last = attempt + 1 >= options_.retry.attempts;
        std::string retry_after;
        try {
            HttpResponse response = get(url, std::nullopt, sink, stop);
            if (last || !is_transient(response.status)) return response;
            retry_after = response.retry_after;
        } catch (const HttpFailure& failure) {
            if (last || !failure.transient()) throw;
        }
        wait_before_retry(attempt, retry_after, stop);
    }
}

// The token for this repository, asking the registry how it wants to be asked while there is none.
std::string RegistryClient::authorization(std::stop_token stop) {
    auto now = [] {
        return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    };
    if (auto cached = tokens_.find(host_, reference_.repository, now())) return *cached;

    HttpRequest probe{url("/v2/"), {"Accept: */*"}, {}, std::nullopt};
    HttpResponse response;
    for (int attempt = 0;; ++attempt) {
        bool last = attempt + 1 >= options_.retry.attempts;
        ProbeSink body;
        try {
            response = http_.get(probe, body, stop);
        } catch (const HttpFailure& failure) {
            bool headers_came = failure.kind() == HttpFailure::Kind::kTooLarge && body.head.status;
            if (!headers_came && (last || !failure.transient())) throw;
            response = std::move(body.head);
        }
        if (response.status != 0 && (last || !is_transient(response.status))) break;
        wait_before_retry(attempt, response.retry_after, stop);
    }
    if (response.www_authenticate.empty()) return {};
    if (auto bearer = find_bearer(response.www_authenticate)) {
        std::optional<std::string> token = exchange_token(*bearer, stop);
        if (!token) return {};
        std::string header = "Bearer " + *token;
        tokens_.store(host_, reference_.repository, header, token_expiry(*token, now()));
        return header;
    }
    if (!options_.credentials) return {};
    std::string header = options_.credentials->header();
    tokens_.store(host_, reference_.repository, header, WallSeconds::max());
    return header;
}

// A failing exchange is not an error: the request goes out without a token and its 401 says it all.
std::optional<std::string> RegistryClient::exchange_token(const BearerChallenge& challenge,
                                                          std::stop_token stop) {
    auto refuse = [&](std::string_view why) {
        log(LogLevel::kWarn, "image::registry", "token from {}: {}", challenge.realm, why);
        return std::nullopt;
    };
    HttpRequest request{
        token_url(challenge, reference_.repository), {"Accept: */*"}, {}, std::nullopt};
    std::optional<UrlParts> realm = split_url(request.url);
    if (!realm) return refuse("not a URL");
    // A registry reached over TLS may not have our password sent in the clear.
    if (realm->scheme == "http" && !options_.insecure_hosts.contains(host_))
        return refuse("plain HTTP for a registry that is not insecure");
    if (options_.credentials) request.authorization = options_.credentials->header();
    for (int attempt = 0;; ++attempt) {
        bool last = attempt + 1 >= options_.retry.attempts;
        StringSink body(kMaxTokenAnswer, true);
        std::string retry_after;
        try {
            HttpResponse response = http_.get(request, body, stop);
            if (response.status == 200) return parse_token_answer(body.text());
            if (last || !is_transient(response.status))
                return refuse("HTTP status " + std::to_string(response.status));
            retry_after = response.retry_after;
        } catch (const HttpFailure& failure) {
            if (last || !failure.transient()) return refuse(failure.what());
        }
        wait_before_retry(attempt, retry_after, stop);
    }
}

// One authorised request. A 401 to a token that was cached means that it ran out early: once more with a new one.
HttpResponse RegistryClient::get(const std::string& url, std::optional<std::uint64_t> from,
                                 BodySink& sink, std::stop_token stop) {
    auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    std::optional<std::string> old = tokens_.find(host_, reference_.repository, now);
    HttpRequest request{url, {accept_header()}, old ? *old : authorization(stop), from};
    HttpResponse response = http_.get(request, sink, stop);
    if (response.status != 401 || !old || !old->starts_with("Bearer ")) return response;
    tokens_.drop(host_, reference_.repository, *old);
    request.authorization = authorization(stop);
    return http_.get(request, sink, stop);
}

RegistryClient::Document RegistryClient::fetch_manifest(const std::string& selector,
                                                        const std::string& expected,
                                                        std::stop_token stop) {
    std::string address = repository_url("/manifests/" + selector);
    StringSink body(kMaxManifestBytes, true);
    HttpResponse response;
    try {
        response = get_text(address, body, stop);
    } catch (const HttpFailure& failure) {
        fail("registry error: " + describe(failure));
    }
    check_document_answer(response, address, body.text());
    if (!expected.empty()) check_document_digest(expected, body.text());
    if (!response.docker_content_digest.empty())
        check_document_digest(response.docker_content_digest, body.text());
    std::string digest = !response.docker_content_digest.empty() ? response.docker_content_digest
                         : !expected.empty()
                             ? expected
                             : digest_like("sha256:" + std::string(64, '0'), body.text());
    return {body.text(), std::move(digest)};
}

std::string RegistryClient::fetch_config(const Descriptor& config, std::stop_token stop) {
    StringSink body(kMaxConfigBytes, true);
    HttpResponse response;
    try {
        response = get_text(repository_url("/blobs/" + config.digest), body, stop);
    } catch (const HttpFailure& failure) {
        fail("registry error: " + describe(failure));
    }
    if (response.status != 200 && !fetch_config_elsewhere(config, body, stop))
        fail(blob_status_text(response));
    check_document_digest(config.digest, body.text());
    return body.text();
}

// The descriptor's own addresses, never with credentials.
bool RegistryClient::fetch_config_elsewhere(const Descriptor& config, StringSink& sink,
                                            std::stop_token stop) {
    for (const std::string& address :
         std::span(config.urls).first(std::min(config.urls.size(), kMaxConfigUrls))) {
        try {
            HttpRequest request{address, {accept_header()}, {}, std::nullopt};
            if (http_.get(request, sink, stop).status == 200) return true;
        } catch (const HttpFailure& failure) {
            log(LogLevel::kWarn, "image::registry", "{}: {}", address, failure.what());
        }
    }
    return false;
}

ResolvedImage RegistryClient::resolve(std::stop_token stop) {
    std::string expected = reference_.digest.value_or("");
    std::string selector = reference_.digest ? expected : query_escape(*reference_.tag);
    Document document = fetch_manifest(selector, expected, stop);
    if (is_index(document.text)) {
        Index index = parse_index(document.text);
        const Descriptor* entry = select_platform(index);
        if (entry == nullptr)
            fail(
                "registry error: Image manifest not found: no entry found in image index manifest "
                "matching client's default platform");
        document = fetch_manifest(entry->digest, entry->digest, stop);
        if (is_index(document.text))
            fail("registry error: Image manifest not found: received Image Index manifest instead");
    }
    ResolvedImage image;
    image.manifest_digest = std::move(document.digest);
    image.manifest = parse_manifest(document.text);
    for (const Descriptor& layer : image.manifest.layers)
        Digester check(
            layer.digest);  // a digest that cannot be verified is refused before any download
    image.config = parse_config(fetch_config(image.manifest.config, stop));
    check_layer_count(image.config, image.manifest.layers.size(), "manifest");
    return image;
}

void RegistryClient::fetch_blob(const std::string& digest, BlobSink& sink, std::stop_token stop) {
    std::string address = repository_url("/blobs/" + digest);
    int failures = 0;
    for (int attempt = 0; attempt < kMaxBlobAttempts; ++attempt) {
        bool last = failures + 1 >= options_.retry.attempts;
        std::uint64_t start = sink.offset();
        std::string retry_after;
        try {
            BlobBody body(sink);
            auto from = start > 0 ? std::optional(start) : std::nullopt;
            HttpResponse response = get(address, from, body, stop);
            if (response.status == 200 || response.status == 206) return;
            if (response.status == 416 && start > 0) {
                // Nothing comes after what is there: it is the whole blob, or none of it.
                if (response.content_range == "bytes */" + std::to_string(start)) return;
                if (!last && sink.restart()) {
                    ++failures;
                    continue;
                }
            }
            if (last || !is_transient(response.status)) fail(blob_status_text(response));
            retry_after = response.retry_after;
        } catch (const HttpFailure& failure) {
            bool progress = sink.offset() >= start + kRetryProgress;
            if (!failure.transient() || (last && !progress)) {
                bool cut = failure.kind() == HttpFailure::Kind::kBody;
                fail((cut ? "" : "registry error: ") + describe(failure));
            }
            if (progress) failures = 0;
        }
        wait_before_retry(failures++, retry_after, stop);
    }
    fail("error decoding response body");
}

}  // namespace msb::image
