#include "vmm/cpio.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cstddef>

namespace msb::vmm {

void CpioArchive::pad() {
    bytes_.append((4 - bytes_.size() % 4) % 4, '\0');
}

// "070701" and thirteen fields of eight hexadecimal digits; name and data padded to four bytes.
void CpioArchive::add(const Entry& entry) {
    constexpr std::size_t kUid = 0, kGid = 0, kLinks = 1, kTime = 0, kMajor = 0, kMinor = 0,
                          kCheck = 0;
    bytes_ += "070701";
    for (const std::size_t field :
         {std::size_t{++inode_}, std::size_t{entry.mode}, kUid, kGid, kLinks, kTime,
          entry.data.size(), kMajor, kMinor, std::size_t{entry.device_major},
          std::size_t{entry.device_minor}, entry.name.size() + 1, kCheck})
        bytes_ += fmt::format("{:08x}", field);
    bytes_ += entry.name;
    bytes_ += '\0';
    pad();
    bytes_ += entry.data;
    pad();
}

void CpioArchive::add_directory(std::string_view name, unsigned mode) {
    add({.name = name, .mode = S_IFDIR | mode});
}

void CpioArchive::add_file(std::string_view name, std::string_view data, unsigned mode) {
    add({.name = name, .mode = S_IFREG | mode, .data = data});
}

void CpioArchive::add_character_device(std::string_view name, unsigned major, unsigned minor,
                                       unsigned mode) {
    add({.name = name, .mode = S_IFCHR | mode, .device_major = major, .device_minor = minor});
}

std::string CpioArchive::finish() {
    add({.name = "TRAILER!!!"});
    return std::move(bytes_);
}

}  // namespace msb::vmm
