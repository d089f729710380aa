// Builds tar archives in memory, byte for byte, for tests.
#pragma once

#include <cstdio>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "image/byte_source.h"

namespace msb::image {

class TarBuilder {
  public:
    struct Options {
        char type = '0';
        unsigned mode = 0644;
        unsigned uid = 0;
        unsigned gid = 0;
        long mtime = 0;
        std::string link;
        unsigned major = 0;
        unsigned minor = 0;
    };

    TarBuilder& add(std::string_view name, std::string_view content, const Options& options) {
        std::string header(512, '\0');
        header.replace(0, name.size(), name);
        put(header, 100, "%07o", options.mode);
        put(header, 108, "%07o", options.uid);
        put(header, 116, "%07o", options.gid);
        put(header, 124, "%011lo", static_cast<unsigned long>(content.size()));
        put(header, 136, "%011lo", static_cast<unsigned long>(options.mtime));
        header[156] = options.type;
        header.replace(157, options.link.size(), options.link);
        header.replace(257, 8,
                       std::string("ustar\0"
                                   "00",
                                   8));
        if (options.type == '3' || options.type == '4') {
            put(header, 329, "%07o", options.major);
            put(header, 337, "%07o", options.minor);
        }
        seal(header);
        bytes_ += header;
        bytes_ += content;
        bytes_.append((512 - content.size() % 512) % 512, '\0');
        return *this;
    }
    TarBuilder& file(std::string_view name, std::string_view content, unsigned mode = 0644) {
        return add(name, content, {.mode = mode});
    }
    TarBuilder& directory(std::string_view name, unsigned mode = 0755) {
        return add(name, "", {.type = '5', .mode = mode});
    }
    TarBuilder& symlink(std::string_view name, std::string_view target) {
        return add(name, "", {.type = '2', .mode = 0777, .link = std::string(target)});
    }
    TarBuilder& hard_link(std::string_view name, std::string_view target) {
        return add(name, "", {.type = '1', .link = std::string(target)});
    }
    TarBuilder& pax(std::string_view key, std::string_view value) {
        std::string body = " " + std::string(key) + "=" + std::string(value) + "\n";
        std::size_t length = body.size() + 1;
        while (std::to_string(length).size() + body.size() != length)
            ++length;
        return add("pax", std::to_string(length) + body, {.type = 'x'});
    }
    // Appends a raw 512-byte header after fixing its checksum.
    TarBuilder& raw(std::string header, std::string_view content) {
        seal(header);
        bytes_ += header;
        bytes_ += content;
        bytes_.append((512 - content.size() % 512) % 512, '\0');
        return *this;
    }
    std::string finish() const { return bytes_ + std::string(1024, '\0'); }
    const std::string& bytes() const { return bytes_; }

  private:
    template <class Value>
    static void put(std::string& header, std::size_t offset, const char* format, Value value) {
        char text[32];
        int length = std::snprintf(text, sizeof text, format, value);
        header.replace(offset, static_cast<std::size_t>(length), text);
    }
    static void seal(std::string& header) {
        header.replace(148, 8, "        ");
        unsigned sum = 0;
        for (char c : header)
            sum += static_cast<unsigned char>(c);
        char text[8];
        std::snprintf(text, sizeof text, "%06o", sum);
        header.replace(148, 7, std::string(text, 7));
    }
    std::string bytes_;
};

class StringSource : public ByteSource {
  public:
    explicit StringSource(std::string_view bytes) : bytes_(bytes) {}
    std::size_t read(std::span<std::byte> out) override {
        std::size_t n = std::min(out.size(), bytes_.size());
        std::memcpy(out.data(), bytes_.data(), n);
        bytes_.remove_prefix(n);
        return n;
    }

  private:
    std::string_view bytes_;
};

}  // namespace msb::image
