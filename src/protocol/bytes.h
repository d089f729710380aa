// A byte payload that is a view into the buffer it was decoded from whenever the wire form allows
// it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace msb::protocol {

// Decoding a definite-length byte string yields a view into the decoder's input, valid as long as
// that input; the rare other forms (chunked strings, integer arrays) are copied and owned. Encoding
// takes a view of the caller's bytes.
class Bytes {
  public:
    Bytes() noexcept = default;
    static Bytes view(std::span<const std::byte> bytes) noexcept {
        Bytes result;
        result.view_ = bytes;
        return result;
    }
    static Bytes view(std::string_view text) noexcept {
        return view(std::as_bytes(std::span(text.data(), text.size())));
    }
    static Bytes owned(std::vector<std::byte> bytes) noexcept {
        Bytes result;
        result.owned_ = std::move(bytes);
        result.is_owned_ = true;
        return result;
    }

    std::span<const std::byte> span() const noexcept {
        return is_owned_ ? std::span<const std::byte>(owned_) : view_;
    }
    std::string_view text() const noexcept {
        return {reinterpret_cast<const char*>(span().data()), span().size()};
    }
    std::size_t size() const noexcept { return span().size(); }
    bool empty() const noexcept { return span().empty(); }
    // Makes the bytes independent of the buffer they were decoded from.
    void own() {
        if (is_owned_) return;
        owned_.assign(view_.begin(), view_.end());
        is_owned_ = true;
        view_ = {};
    }

    bool operator==(const Bytes& other) const noexcept {
        return std::ranges::equal(span(), other.span());
    }

  private:
    std::span<const std::byte> view_;
    std::vector<std::byte> owned_;
    bool is_owned_ = false;
};

}  // namespace msb::protocol
