#include "base/hash.h"

#include <openssl/evp.h>

#include <array>

#include "base/encoding.h"
#include "base/error.h"

namespace msb {

std::string sha256_hex(std::string_view data) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
    unsigned length = 0;
    if (EVP_Digest(data.data(), data.size(), digest.data(), &length, EVP_sha256(), nullptr) != 1)
        throw Error(ErrorCode::kRuntime, "SHA-256 is not available in this OpenSSL");
    return hex({reinterpret_cast<const char*>(digest.data()), length});
}

std::uint64_t fnv1a64(std::string_view data) {
    std::uint64_t hash = 0xcbf29ce484222325ULL;
    for (char c : data) {
        hash ^= static_cast<unsigned char>(c);
        hash *= 0x100000001b3ULL;
    }
    return hash;
}

}  // namespace msb
