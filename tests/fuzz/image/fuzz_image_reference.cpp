// Image references and digests as users and archives give them.
#include <cstdlib>

#include "base/error.h"
#include "image/reference.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace msb::image;
    std::string_view text(reinterpret_cast<const char*>(data), size);
    try {
        // The canonical text is a reference to the same thing.
        Reference reference = parse_reference(text);
        std::string canonical = reference.canonical();
        if (parse_reference(canonical).canonical() != canonical) std::abort();
        if (reference.repository.size() > 255 || reference.repository.contains("..")) std::abort();
        if (!reference.tag && !reference.digest) std::abort();
    } catch (const msb::Error&) {
    }
    // Whatever it is, as a file name it stays in its directory.
    if (digest_file_name(text).find_first_of(std::string_view("/\0", 2)) != std::string::npos)
        std::abort();
    try {
        check_digest(text);
        if (digest_file_name(text).contains('/')) std::abort();
    } catch (const msb::Error&) {
    }
    return 0;
}
