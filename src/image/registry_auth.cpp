#include "image/registry_auth.h"

#include <algorithm>
#include <cmath>

#include "base/encoding.h"
#include "base/json.h"
#include "base/text.h"
#include "image/http.h"

namespace msb::image {

namespace {

constexpr std::size_t kMaxTokenBytes = 32 * 1024;  // servers refuse longer header lines anyway

bool is_token_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("!#$%&'*+-.^_`|~").contains(c);
}

std::string lower(std::string_view text) {
    std::string out(text);
    std::ranges::transform(out, out.begin(), [](char c) {
        return static_cast<char>(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
    });
    return out;
}

class ChallengeParser {
  public:
    explicit ChallengeParser(std::string_view text) : text_(text) {}

    std::vector<Challenge> run() {
        std::vector<Challenge> challenges;
        while (challenges.size() < kMaxChallenges) {
            skip_separators();
            std::string_view scheme = token();
            if (scheme.empty()) break;
            challenges.push_back({std::string(scheme), {}});
            if (!parameters(challenges.back())) break;
        }
        return challenges;
    }

  private:
    // name=value pairs up to the next scheme; false when something unreadable stands there.
    bool parameters(Challenge& challenge) {
        for (;;) {
            skip_separators();
            std::size_t start = at_;
            std::string_view name = token();
            if (name.empty()) return at_ == text_.size();
            skip_blanks();
            if (at_ == text_.size() || text_[at_] != '=') {
                at_ = start;  // the next challenge's scheme
                return true;
            }
            ++at_;
            skip_blanks();
            std::optional<std::string> value = this->value();
            if (!value) return false;
            challenge.values.emplace(lower(name), std::move(*value));
        }
    }

    std::optional<std::string> value() {
        if (at_ == text_.size() || text_[at_] != '"') {
            // Unquoted realms with slashes and colons exist: up to the next separator.
            std::size_t end = std::min(text_.find_first_of(", \t", at_), text_.size());
            std::string plain(text_.substr(at_, end - at_));
            at_ = end;
            return plain;
        }
        std::string out;
        for (++at_; at_ < text_.size(); ++at_) {
            char c = text_[at_];
            if (c == '"') {
                ++at_;
                return out;
            }
            if (c == '\\' && at_ + 1 < text_.size()) c = text_[++at_];
            out += c;
        }
        return std::nullopt;
    }

    std::string_view token() {
        std::size_t start = at_;
        while (at_ < text_.size() && is_token_char(text_[at_]))
            ++at_;
        return text_.substr(start, at_ - start);
    }
    void skip_blanks() {
        while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t'))
            ++at_;
    }
    void skip_separators() {
        while (at_ < text_.size() && std::string_view(" \t,").contains(text_[at_]))
            ++at_;
    }

    std::string_view text_;
    std::size_t at_ = 0;
};

}  // namespace

std::string BasicCredentials::header() const {
    return "Basic " + base64_encode(username + ":" + password);
}

std::vector<Challenge> parse_challenges(std::string_view header) {
    return ChallengeParser(header).run();
}

std::optional<BearerChallenge> find_bearer(const std::vector<std::string>& headers) {
    for (const std::string& header : headers) {
        for (const Challenge& challenge : parse_challenges(header)) {
            auto realm = challenge.values.find("realm");
            if (!iequals(challenge.scheme, "bearer") || realm == challenge.values.end()) continue;
            BearerChallenge bearer{realm->second, std::nullopt};
            auto service = challenge.values.find("service");
            if (service != challenge.values.end()) bearer.service = service->second;
            return bearer;
        }
    }
    return std::nullopt;
}

std::string token_url(const BearerChallenge& challenge, std::string_view repository) {
    std::string url = challenge.realm;
    url += url.contains('?') ? '&' : '?';
    url += "scope=" + query_escape("repository:" + std::string(repository) + ":pull");
    if (challenge.service) url += "&service=" + query_escape(*challenge.service);
    return url;
}

std::optional<std::string> parse_token_answer(std::string_view text) {
    try {
        json::Value value = json::parse(text);
        json::Reader reader(value, "RegistryToken");
        std::optional<std::string> token = reader.optional_string("token");
        if (!token) token = reader.optional_string("access_token");
        if (!token || token->empty() || token->size() > kMaxTokenBytes) return std::nullopt;
        // It goes into a header line: no line breaks, no other control bytes.
        bool visible = std::ranges::all_of(*token, [](char c) { return c > ' ' && c < '\x7F'; });
        return visible ? token : std::nullopt;
    } catch (const json::ParseError&) {
        return std::nullopt;
    }
}

WallSeconds token_expiry(std::string_view token, WallSeconds now) {
    WallSeconds fallback = now + kOpaqueTokenLife;
    std::vector<std::string_view> parts = split(token, '.');
    if (parts.size() != 3) return fallback;
    std::optional<std::string> claims = base64_decode(parts[1], Base64::kUrlUnpadded);
    if (!claims) return fallback;
    try {
        json::Value value = json::parse(*claims);
        if (!value.is_object()) return fallback;
        auto exp = value.find("exp");
        if (exp == value.end() || !exp->is_number()) return fallback;
        double seconds = exp->get<double>();
        if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e12) return fallback;
        return WallSeconds(std::chrono::seconds(static_cast<std::int64_t>(seconds)));
    } catch (const json::ParseError&) {
        return fallback;
    }
}

std::optional<std::string> TokenCache::find(const std::string& host, const std::string& repository,
                                            WallSeconds now) {
    std::lock_guard guard(mutex_);
    auto it = entries_.find({host, repository});
    if (it == entries_.end()) return std::nullopt;
    if (it->second.expiry > now) return it->second.authorization;
    entries_.erase(it);
    return std::nullopt;
}

void TokenCache::store(const std::string& host, const std::string& repository,
                       std::string authorization, WallSeconds expiry) {
    std::lock_guard guard(mutex_);
    entries_[{host, repository}] = {std::move(authorization), expiry};
}

void TokenCache::drop(const std::string& host, const std::string& repository,
                      const std::string& authorization) {
    std::lock_guard guard(mutex_);
    auto it = entries_.find({host, repository});
    if (it != entries_.end() && it->second.authorization == authorization) entries_.erase(it);
}

}  // namespace msb::image
