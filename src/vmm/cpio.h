// Writes the newc archives a kernel takes as its initramfs
// (Linux Documentation/driver-api/early-userspace/buffer-format.rst).
#pragma once

#include <string>
#include <string_view>

namespace msb::vmm {

class CpioArchive {
  public:
    // Parents first. `mode` is the permission bits.
    void add_directory(std::string_view name, unsigned mode = 0755);
    void add_file(std::string_view name, std::string_view data, unsigned mode);
    void add_character_device(std::string_view name, unsigned major, unsigned minor, unsigned mode);
    std::string finish();  // the archive; the object is used up

  private:
    struct Entry {
        std::string_view name;
        unsigned mode = 0;  // with the file type
        std::string_view data;
        unsigned device_major = 0, device_minor = 0;
    };
    void add(const Entry& entry);
    void pad();

    std::string bytes_;
    unsigned inode_ = 0;
};

}  // namespace msb::vmm
