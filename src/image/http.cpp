#include "image/http.h"

#include <curl/curl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <mutex>

#include "base/error.h"
#include "base/text.h"

namespace msb::image {

namespace {

struct FreeX509 {
    void operator()(X509* certificate) const { X509_free(certificate); }
};
struct FreeBio {
    void operator()(BIO* bio) const { BIO_free(bio); }
};
struct FreeSlist {
    void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
struct FreeUrl {
    void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using Certificates = std::vector<std::unique_ptr<X509, FreeX509>>;
using Headers = std::unique_ptr<curl_slist, FreeSlist>;

constexpr std::string_view kPemHead = "-----BEGIN CERTIFICATE-----";

std::string openssl_error() {
    std::array<char, 256> text{};
    ERR_error_string_n(ERR_get_error(), text.data(), text.size());
    ERR_clear_error();
    return text.data();
}

Certificates parse_pem(const std::string& pem, std::size_t entry) {
    auto fail = [&](const std::string& what) {
        throw Error(ErrorCode::kCustom,
                    "invalid PEM certificate: entry " + std::to_string(entry) + ": " + what);
    };
    if (!pem.contains(kPemHead)) fail("no certificates found in PEM data");
    std::unique_ptr<BIO, FreeBio> bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
    Certificates certificates;
    ERR_clear_error();
    while (X509* certificate = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr))
        certificates.emplace_back(certificate);
    // Running out of BEGIN lines is how reading ends.
    if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        fail("failed to parse: " + openssl_error());
    ERR_clear_error();
    if (certificates.empty()) fail("no certificates found in PEM data");
    return certificates;
}

void init_curl() {
    static const CURLcode result = curl_global_init(CURL_GLOBAL_DEFAULT);
    if (result != CURLE_OK) throw Error(ErrorCode::kRuntime, "libcurl cannot be initialised");
}

std::string first_set(std::initializer_list<const char*> names) {
    for (const char* name : names) {
        const char* value = std::getenv(name);
        if (value != nullptr && *value != '\0') return value;
    }
    return {};
}

bool is_redirect(long status) {
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

std::string url_part(CURLU* url, CURLUPart part, unsigned flags = 0) {
    char* text = nullptr;
    if (curl_url_get(url, part, &text, flags) != CURLUE_OK) return {};
    std::string copy = text;
    curl_free(text);
    return copy;
}

// A longer one is cut off: its connection is not worth keeping.
constexpr std::size_t kMaxRedirectBody = 64 * 1024;

constexpr unsigned kUrlFlags = CURLU_DISALLOW_USER;

// `location` as the client standing at `base` understands it; empty when it is nothing it may follow.
std::string resolve_url(const std::string& base, const std::string& location) {
    std::unique_ptr<CURLU, FreeUrl> url(curl_url());
    if (curl_url_set(url.get(), CURLUPART_URL, base.c_str(), kUrlFlags) != CURLUE_OK) return {};
    if (curl_url_set(url.get(), CURLUPART_URL, location.c_str(), kUrlFlags) != CURLUE_OK) return {};
    curl_url_set(url.get(), CURLUPART_FRAGMENT, nullptr, 0);
    return url_part(url.get(), CURLUPART_URL);
}

Headers make_headers(const HttpRequest& request, bool with_credentials) {
    Headers list;
    auto add = [&](const std::string& line) {
        curl_slist* grown = curl_slist_append(list.get(), line.c_str());
        if (grown == nullptr) throw std::bad_alloc();
        static_cast<void>(list.release());
        list.reset(grown);
    };
    for (const std::string& line : request.headers)
        add(line);
    if (with_credentials && !request.authorization.empty())
        add("Authorization: " + request.authorization);
    if (request.range_from) add("Range: bytes=" + std::to_string(*request.range_from) + "-");
    return list;
}

}  // namespace

void throw_cancelled() {
    throw Error(ErrorCode::kCancelled, "operation cancelled");
}

void check_ca_certificates(const std::vector<std::string>& pems) {
    for (std::size_t i = 0; i < pems.size(); ++i)
        parse_pem(pems[i], i);
}

std::optional<UrlParts> split_url(const std::string& text) {
    std::unique_ptr<CURLU, FreeUrl> url(curl_url());
    if (curl_url_set(url.get(), CURLUPART_URL, text.c_str(), kUrlFlags) != CURLUE_OK)
        return std::nullopt;
    UrlParts parts{url_part(url.get(), CURLUPART_SCHEME), url_part(url.get(), CURLUPART_HOST),
                   url_part(url.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT)};
    std::ranges::transform(parts.host, parts.host.begin(),
                           [](char c) { return c >= 'A' && c <= 'Z' ? c | 0x20 : c; });
    if (parts.host.empty() || (parts.scheme != "http" && parts.scheme != "https"))
        return std::nullopt;
    return parts;
}

std::string query_escape(std::string_view text) {
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    std::string out;
    for (char c : text) {
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     std::string_view("*-._").contains(c);
        auto byte = static_cast<unsigned char>(c);
        if (plain) {
            out += c;
        } else if (c == ' ') {
            out += '+';
        } else {
            out += {'%', kDigits[byte >> 4], kDigits[byte & 15]};
        }
    }
    return out;
}

void StringSink::begin(const HttpResponse& response) {
    url_ = response.url;
    text_.clear();
}

void StringSink::data(std::span<const std::byte> bytes) {
    if (reject_ && bytes.size() > limit_ - text_.size())
        throw HttpFailure(HttpFailure::Kind::kTooLarge, url_,
                          "the answer is larger than " + std::to_string(limit_) + " bytes");
    std::size_t n = std::min(bytes.size(), limit_ - text_.size());
    text_.append(reinterpret_cast<const char*>(bytes.data()), n);
}

// One connection cache and the state of the transfer on it.
struct HttpClient::Session {
    CURLM* multi = curl_multi_init();
    CURL* easy = curl_easy_init();

    HttpResponse response;
    std::size_t header_bytes = 0;
    std::size_t redirect_bytes = 0;
    bool head_done = false;
    bool headers_too_large = false;
    BodySink* sink = nullptr;
    std::exception_ptr failure;
    std::array<char, CURL_ERROR_SIZE> reason{};

    Session() {
        if (multi == nullptr || easy == nullptr) throw std::bad_alloc();
    }
    Session(const Session&) = delete;
    ~Session() {
        curl_easy_cleanup(easy);
        curl_multi_cleanup(multi);
    }

    void start(std::string url, BodySink& body) {
        response = {};
        response.url = std::move(url);
        header_bytes = redirect_bytes = 0;
        head_done = headers_too_large = false;
        sink = &body;
        failure = nullptr;
        reason[0] = '\0';
    }

    static std::size_t on_header(char* data, std::size_t size, std::size_t count, void* self) {
        return static_cast<Session*>(self)->header({data, size * count}) ? size * count : 0;
    }
    static std::size_t on_body(char* data, std::size_t size, std::size_t count, void* self) {
        return static_cast<Session*>(self)->body({data, size * count}) ? size * count : 0;
    }

    bool header(std::string_view line) {
        header_bytes += line.size();
        if (header_bytes > kMaxHeaderBytes) {
            headers_too_large = true;
            return false;
        }
        if (head_done) return true;  // trailers
        line = trim(line);
        if (line.starts_with("HTTP/")) {  // a new head: 1xx answers come before the real one
            std::string url = std::move(response.url);
            response = {};
            response.url = std::move(url);
            return true;
        }
        if (line.empty()) return head_complete();
        std::size_t colon = line.find(':');
        if (colon == std::string_view::npos) return true;
        std::string_view name = line.substr(0, colon);
        std::string value(trim(line.substr(colon + 1)));
        if (iequals(name, "www-authenticate")) response.www_authenticate.push_back(value);
        if (iequals(name, "docker-content-digest")) response.docker_content_digest = value;
        if (iequals(name, "retry-after")) response.retry_after = value;
        if (iequals(name, "content-range")) response.content_range = value;
        return true;
    }

    bool head_complete() {
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &response.status);
        if (response.status < 200) return true;  // an interim answer
        head_done = true;
        if (is_redirect(response.status)) return true;
        return guarded([&] { sink->begin(response); });
    }

    bool body(std::string_view bytes) {
        if (is_redirect(response.status)) {
            redirect_bytes += bytes.size();
            return redirect_bytes <= kMaxRedirectBody;
        }
        return guarded([&] { sink->data(std::as_bytes(std::span(bytes))); });
    }

    // libcurl is C: exceptions wait here until it has returned.
    template <class Call>
    bool guarded(Call call) {
        try {
            call();
            return true;
        } catch (...) {
            failure = std::current_exception();
            return false;
        }
    }
};

struct HttpClient::Trust {
    Certificates extra;

    static CURLcode install(CURL*, void* context, void* self) {
        X509_STORE* store = SSL_CTX_get_cert_store(static_cast<SSL_CTX*>(context));
        for (const auto& certificate : static_cast<Trust*>(self)->extra)
            X509_STORE_add_cert(store, certificate.get());
        ERR_clear_error();  // one that is there twice does no harm
        return CURLE_OK;
    }
};

struct HttpClient::State {
    HttpOptions options;
    Trust trust;
    std::string bundle;  // of the system's roots, where it is not libcurl's default
    std::mutex mutex;
    std::vector<std::unique_ptr<Session>> idle;

    void configure(Session& session, const std::string& url, curl_slist* headers);
    CURLcode transfer(Session& session, const std::stop_token& stop);
};

namespace {

[[noreturn]] void throw_transfer_error(CURLcode code, bool head_done, const std::string& url,
                                       std::string reason) {
    using Kind = HttpFailure::Kind;
    if (reason.empty()) reason = curl_easy_strerror(code);
    switch (code) {
        case CURLE_URL_MALFORMAT:
        case CURLE_UNSUPPORTED_PROTOCOL:
            throw HttpFailure(Kind::kInvalidUrl, url, reason);
        case CURLE_SSL_CONNECT_ERROR:
        case CURLE_PEER_FAILED_VERIFICATION:
        case CURLE_SSL_CACERT_BADFILE:
        case CURLE_SSL_CERTPROBLEM:
        case CURLE_SSL_CIPHER:
        case CURLE_SSL_ISSUER_ERROR:
            throw HttpFailure(Kind::kTls, url, reason);
        case CURLE_COULDNT_RESOLVE_PROXY:
        case CURLE_COULDNT_RESOLVE_HOST:
        case CURLE_COULDNT_CONNECT:
        case CURLE_OPERATION_TIMEDOUT:
        case CURLE_GOT_NOTHING:
        case CURLE_SEND_ERROR:
        case CURLE_RECV_ERROR:
        case CURLE_PARTIAL_FILE:
        case CURLE_HTTP2:
        case CURLE_HTTP2_STREAM:
            throw HttpFailure(head_done ? Kind::kBody : Kind::kConnect, url, reason);
        case CURLE_OUT_OF_MEMORY:
            throw std::bad_alloc();
        default:
            throw HttpFailure(head_done ? Kind::kBody : Kind::kUnsupported, url, reason);
    }
}

}  // namespace

HttpClient::HttpClient(HttpOptions options) : state_(std::make_unique<State>()) {
    init_curl();
    for (std::size_t i = 0; i < options.ca_certificates.size(); ++i) {
        for (auto& certificate : parse_pem(options.ca_certificates[i], i))
            state_->trust.extra.push_back(std::move(certificate));
    }
    state_->bundle = first_set({"SSL_CERT_FILE"});
    state_->options = std::move(options);
}

HttpClient::~HttpClient() = default;

std::unique_ptr<HttpClient::Session> HttpClient::borrow() {
    std::lock_guard guard(state_->mutex);
    if (state_->idle.empty()) return std::make_unique<Session>();
    std::unique_ptr<Session> session = std::move(state_->idle.back());
    state_->idle.pop_back();
    return session;
}

void HttpClient::give_back(std::unique_ptr<Session> session) {
    std::lock_guard guard(state_->mutex);
    state_->idle.push_back(std::move(session));
}

void HttpClient::State::configure(Session& session, const std::string& url, curl_slist* headers) {
    CURL* easy = session.easy;
    curl_easy_reset(easy);  // connections stay: they belong to the multi handle
    curl_easy_setopt(easy, CURLOPT_URL, url.c_str());
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_2TLS);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, options.user_agent.c_str());
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 256L * 1024);
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, session.reason.data());
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, Session::on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, &session);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, Session::on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &session);

    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                     static_cast<long>(options.timeouts.connect.count()));
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, options.timeouts.stall_bytes_per_second);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME,
                     static_cast<long>(options.timeouts.stall.count()));

    if (!bundle.empty()) curl_easy_setopt(easy, CURLOPT_CAINFO, bundle.c_str());
    curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, Trust::install);
    curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, &trust);

    // libcurl reads the lower-case name only; the upper-case one is not taken in a CGI program, where the request's
    // "Proxy:" header would set it. no_proxy is libcurl's own business.
    if (url.starts_with("http:") && std::getenv("REQUEST_METHOD") == nullptr) {
        std::string proxy = first_set({"http_proxy", "HTTP_PROXY"});
        if (!proxy.empty()) curl_easy_setopt(easy, CURLOPT_PROXY, proxy.c_str());
    }
}

CURLcode HttpClient::State::transfer(Session& session, const std::stop_token& stop) {
    curl_multi_add_handle(session.multi, session.easy);
    std::optional<CURLcode> result;
    {
        std::stop_callback wake(stop, [&] { curl_multi_wakeup(session.multi); });
        int running = 1;
        while (running > 0 && !stop.stop_requested()) {
            if (curl_multi_perform(session.multi, &running) != CURLM_OK) break;
            if (running > 0) curl_multi_poll(session.multi, nullptr, 0, 1000, nullptr);
        }
    }
    int left = 0;
    while (CURLMsg* message = curl_multi_info_read(session.multi, &left)) {
        if (message->msg == CURLMSG_DONE) result = message->data.result;
    }
    curl_multi_remove_handle(session.multi, session.easy);
    if (!result && stop.stop_requested()) throw_cancelled();
    return result.value_or(CURLE_FAILED_INIT);
}

HttpResponse HttpClient::get(const HttpRequest& request, BodySink& sink, std::stop_token stop) {
    using Kind = HttpFailure::Kind;
    std::optional<UrlParts> origin = split_url(request.url);
    if (!origin) throw HttpFailure(Kind::kInvalidUrl, request.url, "not an http(s) URL");
    std::string url = request.url;
    bool with_credentials = true;
    std::unique_ptr<Session> session = borrow();
    for (int redirects = 0;; ++redirects) {
        if (stop.stop_requested()) throw_cancelled();
        Headers headers = make_headers(request, with_credentials);
        session->start(url, sink);
        state_->configure(*session, url, headers.get());
        CURLcode code = state_->transfer(*session, stop);
        if (session->failure) std::rethrow_exception(session->failure);
        if (session->headers_too_large)
            throw HttpFailure(Kind::kTooLarge, url, "the answer's headers are too large");
        bool redirect = session->head_done && is_redirect(session->response.status);
        if (code != CURLE_OK && !redirect)
            throw_transfer_error(code, session->head_done, url, session->reason.data());
        if (!redirect) break;

        if (redirects == kMaxRedirects)
            throw HttpFailure(Kind::kRedirect, url, "too many redirects");
        char* location = nullptr;
        curl_easy_getinfo(session->easy, CURLINFO_REDIRECT_URL, &location);
        std::string next = location == nullptr ? std::string{} : resolve_url(url, location);
        std::optional<UrlParts> target = split_url(next);
        if (!target) throw HttpFailure(Kind::kRedirect, url, "the answer redirects to no URL");
        if (url.starts_with("https:") && target->scheme == "http")
            throw HttpFailure(Kind::kRedirect, url, "the answer redirects from https to http");
        // Once gone they stay away, also when a later redirect leads back.
        if (*target != *origin) with_credentials = false;
        url = std::move(next);
    }
    HttpResponse response = std::move(session->response);
    give_back(std::move(session));
    return response;
}

}  // namespace msb::image
