// GET over HTTP(S) with libcurl: streaming bodies, explicit redirects, limits, cancellation.
//
// Both ends of every transfer may be hostile: header bytes, redirects and idle time are bounded here; the body's length is
// the sink's business.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <vector>

namespace msb::image {

inline constexpr int kMaxRedirects = 10;               // spec/images.md section 3.1
inline constexpr std::size_t kMaxHeaderBytes = 65536;  // of one response

struct HttpTimeouts {
    std::chrono::milliseconds connect{30'000};
    // A transfer that stays below `stall_bytes_per_second` for `stall` is given up. Whole seconds count.
    std::chrono::seconds stall{60};
    long stall_bytes_per_second = 512;
};

struct HttpOptions {
    std::string user_agent;
    HttpTimeouts timeouts;
    // PEM texts trusted beside the system's roots; check_ca_certificates() has accepted them.
    std::vector<std::string> ca_certificates;
};

// Throws Error{kCustom} "invalid PEM certificate: entry I: no certificates found in PEM data" or "...: failed to parse: ...".
void check_ca_certificates(const std::vector<std::string>& pems);

struct HttpRequest {
    std::string url;
    std::vector<std::string> headers;  // "Name: value"; follow every redirect
    std::string
        authorization;  // value of the header, or empty; only ever sent to the host of `url`
    std::optional<std::uint64_t> range_from;
};

struct HttpResponse {
    long status = 0;
    std::string url;  // after redirects
    std::vector<std::string> www_authenticate;
    std::string docker_content_digest;
    std::string retry_after;
    std::string content_range;
};

// Called on the thread of get(). Exceptions end the transfer and come out of get().
class BodySink {
  public:
    virtual ~BodySink() = default;
    virtual void begin(const HttpResponse&) {}
    virtual void data(std::span<const std::byte> bytes) = 0;
};

// Keeps the first `limit` bytes. `reject` makes more than that an HttpFailure{kTooLarge}; else the rest is dropped.
class StringSink : public BodySink {
  public:
    StringSink(std::size_t limit, bool reject) : limit_(limit), reject_(reject) {}
    void begin(const HttpResponse& response) override;
    void data(std::span<const std::byte> bytes) override;
    const std::string& text() const { return text_; }

  private:
    std::size_t limit_;
    bool reject_;
    std::string url_;
    std::string text_;
};

// A transfer that gave no complete response.
class HttpFailure : public std::runtime_error {
  public:
    enum class Kind {
        kInvalidUrl,   // not http(s), or not a URL
        kConnect,      // no connection, or it broke before the headers were complete
        kTls,          // the peer's certificate or handshake was refused
        kRedirect,     // too many, malformed, or from https to http
        kBody,         // the connection broke or stalled inside the body
        kTooLarge,     // headers or body beyond their limit
        kUnsupported,  // anything else libcurl refuses
    };
    HttpFailure(Kind kind, std::string url, const std::string& reason)
        : std::runtime_error(reason), kind_(kind), url_(std::move(url)) {}
    Kind kind() const { return kind_; }
    const std::string& url() const { return url_; }
    bool transient() const { return kind_ == Kind::kConnect || kind_ == Kind::kBody; }

  private:
    Kind kind_;
    std::string url_;
};

// Thread-safe; connections are kept and reused between calls.
class HttpClient {
  public:
    explicit HttpClient(HttpOptions options);
    ~HttpClient();

    // Any status is a response; bodies of redirects never reach the sink. Throws HttpFailure, Error{kCancelled}, and
    // what the sink throws.
    HttpResponse get(const HttpRequest& request, BodySink& sink, std::stop_token stop);

  private:
    struct Session;
    struct Trust;
    std::unique_ptr<Session> borrow();
    void give_back(std::unique_ptr<Session> session);

    struct State;
    std::unique_ptr<State> state_;
};

// "http", "example.org", "8080" (defaults filled in); nullopt when it is no http(s) URL or names a user.
struct UrlParts {
    std::string scheme;
    std::string host;
    std::string port;
    bool operator==(const UrlParts&) const = default;
};
std::optional<UrlParts> split_url(const std::string& url);
// The form of query strings: everything but letters, digits and "*-._" as %XX.
std::string query_escape(std::string_view text);

[[noreturn]] void throw_cancelled();

}  // namespace msb::image
