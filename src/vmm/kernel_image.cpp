#include "vmm/kernel_image.h"

#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

namespace msb::vmm {
namespace {

constexpr unsigned kPhys32Entry = 18;  // XEN_ELFNOTE_PHYS32_ENTRY
constexpr std::size_t kMaxNotes = 64 * 1024;
constexpr std::size_t kMaxSegments = 64;

// What is there of `count` bytes at `offset`.
std::vector<char> read_at(int fd, std::uint64_t offset, std::size_t count) {
    std::vector<char> bytes(count);
    const ssize_t n = ::pread(fd, bytes.data(), count, static_cast<off_t>(offset));
    bytes.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
    return bytes;
}

template <class T>
bool read_struct(std::string_view bytes, std::size_t offset, T& value) {
    if (offset > bytes.size() || bytes.size() - offset < sizeof value) return false;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return true;
}

std::size_t padded(std::size_t size) {
    return (size + 3) / 4 * 4;
}

bool has_pvh_note(std::string_view notes) {
    Elf64_Nhdr header;
    std::size_t at = 0;
    while (read_struct(notes, at, header)) {
        at += sizeof header;
        const std::string_view name = notes.substr(at, header.n_namesz);
        if (header.n_type == kPhys32Entry && name == std::string_view("Xen\0", 4)) return true;
        at += padded(header.n_namesz) + padded(header.n_descsz);
        if (at > notes.size()) break;
    }
    return false;
}

bool is_pvh_kernel(int fd) {
    const auto bytes = read_at(fd, 0, sizeof(Elf64_Ehdr));
    Elf64_Ehdr header;
    if (!read_struct({bytes.data(), bytes.size()}, 0, header)) return false;
    if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
        header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != EM_X86_64 ||
        header.e_phentsize != sizeof(Elf64_Phdr))
        return false;
    const std::size_t count = std::min<std::size_t>(header.e_phnum, kMaxSegments);
    const auto table = read_at(fd, header.e_phoff, count * sizeof(Elf64_Phdr));
    for (std::size_t i = 0; i < count; ++i) {
        Elf64_Phdr segment;
        if (!read_struct({table.data(), table.size()}, i * sizeof segment, segment)) return false;
        if (segment.p_type != PT_NOTE) continue;
        const auto notes =
            read_at(fd, segment.p_offset, std::min<std::size_t>(segment.p_filesz, kMaxNotes));
        if (has_pvh_note({notes.data(), notes.size()})) return true;
    }
    return false;
}

}  // namespace

void check_kernel(const std::filesystem::path& kernel) {
    const UniqueFd fd(::open(kernel.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd)
        throw Error(ErrorCode::kCustom,
                    fmt::format("guest kernel {}: {}", kernel.string(), os_error_text(errno)));
    if (!is_pvh_kernel(fd.get()))
        throw Error(ErrorCode::kCustom,
                    fmt::format("guest kernel {} is not an x86-64 vmlinux with a PVH entry: run "
                                "`make build`, or correct MSB_KERNEL",
                                kernel.string()));
}

}  // namespace msb::vmm
