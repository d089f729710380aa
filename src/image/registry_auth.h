// How a registry wants to be asked: WWW-Authenticate challenges, bearer tokens and how long they hold
// (spec/images.md section 3.1).
#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace msb::image {

struct BasicCredentials {
    std::string username;
    std::string password;
    std::string header() const;  // "Basic <base64>"
    bool operator==(const BasicCredentials&) const = default;
};

// One challenge of a WWW-Authenticate header (RFC 9110 section 11.6.1).
struct Challenge {
    std::string scheme;                         // as written
    std::map<std::string, std::string> values;  // names in lower case; the first of a name counts
};
inline constexpr std::size_t kMaxChallenges = 16;
// Lenient: what cannot be read ends the list.
std::vector<Challenge> parse_challenges(std::string_view header);

struct BearerChallenge {
    std::string realm;
    std::optional<std::string> service;
};
// The first Bearer challenge with a realm.
std::optional<BearerChallenge> find_bearer(const std::vector<std::string>& headers);
// "{realm}?scope=repository:{repo}:pull&service={service}", values escaped.
std::string token_url(const BearerChallenge& challenge, std::string_view repository);

// `token`, else `access_token`, of a token endpoint's answer; nullopt when there is none that fits into a header.
std::optional<std::string> parse_token_answer(std::string_view json);

using WallSeconds = std::chrono::sys_seconds;
inline constexpr std::chrono::seconds kOpaqueTokenLife{60};
// The `exp` claim of a JWT, else `now` + kOpaqueTokenLife.
WallSeconds token_expiry(std::string_view token, WallSeconds now);

// Authorization header values by (host, repository). Thread-safe.
class TokenCache {
  public:
    std::optional<std::string> find(const std::string& host, const std::string& repository,
                                    WallSeconds now);
    void store(const std::string& host, const std::string& repository, std::string authorization,
               WallSeconds expiry);
    // Forgets `authorization` if it is still the one.
    void drop(const std::string& host, const std::string& repository,
              const std::string& authorization);

  private:
    struct Entry {
        std::string authorization;
        WallSeconds expiry;
    };
    std::mutex mutex_;
    std::map<std::pair<std::string, std::string>, Entry> entries_;
};

}  // namespace msb::image
