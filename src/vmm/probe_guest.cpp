#include "vmm/probe_guest.h"

#include <elf.h>
#include <sys/reboot.h>
#include <sys/syscall.h>

#include <cstdint>
#include <cstring>

#include "vmm/cpio.h"

namespace msb::vmm {
namespace {

constexpr std::uint64_t kLoadAddress = 0x400000;

class Assembler {
  public:
    void move(unsigned char opcode, std::uint32_t value) {  // mov r32, imm32
        byte(opcode);
        word(value);
    }
    void byte(unsigned char value) { code_ += static_cast<char>(value); }
    void word(std::uint32_t value) {
        for (int i = 0; i < 4; ++i)
            byte(static_cast<unsigned char>(value >> (8 * i)));
    }
    void system_call() {
        byte(0x0f);
        byte(0x05);
    }
    std::string code() const { return code_; }

  private:
    std::string code_;
};

constexpr unsigned char kEax = 0xb8, kEdi = 0xbf, kEsi = 0xbe, kEdx = 0xba;

std::string probe_code(std::uint64_t text_address, std::string_view text) {
    Assembler assembler;
    assembler.move(kEax, SYS_write);
    assembler.move(kEdi, 1);
    assembler.move(kEsi, static_cast<std::uint32_t>(text_address));
    assembler.move(kEdx, static_cast<std::uint32_t>(text.size()));
    assembler.system_call();
    assembler.move(kEax, SYS_reboot);
    assembler.move(kEdi, 0xfee1dead);  // LINUX_REBOOT_MAGIC1
    assembler.move(kEsi, 672274793);   // LINUX_REBOOT_MAGIC2
    assembler.move(kEdx, static_cast<std::uint32_t>(RB_AUTOBOOT));
    assembler.system_call();
    assembler.byte(0xeb);  // jmp to itself
    assembler.byte(0xfe);
    return assembler.code();
}

std::string probe_program() {
    const std::string text = std::string(kProbeMarker) + "\n";
    constexpr std::size_t kHeaders = sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr);
    const std::size_t text_offset = kHeaders + probe_code(0, text).size();
    const std::string code = probe_code(kLoadAddress + text_offset, text);
    const std::size_t size = text_offset + text.size();

    Elf64_Ehdr header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    header.e_version = EV_CURRENT;
    header.e_entry = kLoadAddress + kHeaders;
    header.e_phoff = sizeof header;
    header.e_ehsize = sizeof header;
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phnum = 1;
    Elf64_Phdr segment{};
    segment.p_type = PT_LOAD;
    segment.p_flags = PF_R | PF_X;
    segment.p_vaddr = segment.p_paddr = kLoadAddress;
    segment.p_filesz = segment.p_memsz = size;
    segment.p_align = 0x1000;

    std::string program(reinterpret_cast<const char*>(&header), sizeof header);
    program.append(reinterpret_cast<const char*>(&segment), sizeof segment);
    return program + code + text;
}

}  // namespace

std::string probe_initramfs() {
    CpioArchive archive;
    archive.add_directory("dev");
    archive.add_character_device("dev/console", 5, 1, 0600);
    archive.add_file("init", probe_program(), 0755);
    return archive.finish();
}

}  // namespace msb::vmm
