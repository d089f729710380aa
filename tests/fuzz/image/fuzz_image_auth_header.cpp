// What a registry says about authentication: WWW-Authenticate values, token answers, JWTs.
#include <cstdlib>

#include "image/http.h"
#include "image/registry_auth.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace msb::image;
    std::string text(reinterpret_cast<const char*>(data), size);
    std::vector<Challenge> challenges = parse_challenges(text);
    if (challenges.size() > kMaxChallenges) std::abort();
    for (const Challenge& challenge : challenges) {
        if (challenge.scheme.empty()) std::abort();
    }
    if (auto bearer = find_bearer({text})) split_url(token_url(*bearer, "library/alpine"));
    if (auto token = parse_token_answer(text)) {
        if (token->empty() || token->find_first_of("\r\n ") != std::string::npos) std::abort();
    }
    WallSeconds now(std::chrono::seconds(1000));
    token_expiry(text, now);
    token_expiry("e30." + text + ".e30", now);
    split_url(text);
    return 0;
}
