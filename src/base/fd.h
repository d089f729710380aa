// Owned file descriptors and the whole-buffer I/O loops around read(2) and write(2).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace msb {

// Owns one descriptor; closes it when destroyed.
class UniqueFd {
  public:
    UniqueFd() noexcept = default;
    explicit UniqueFd(int fd) noexcept : fd_(fd) {}
    UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
    UniqueFd& operator=(UniqueFd&& other) noexcept {
        if (this != &other) reset(other.release());
        return *this;
    }
    UniqueFd(const UniqueFd&) = delete;
    UniqueFd& operator=(const UniqueFd&) = delete;
    ~UniqueFd() { reset(); }

    int get() const noexcept { return fd_; }
    explicit operator bool() const noexcept { return fd_ >= 0; }
    [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
    void reset(int fd = -1) noexcept;

  private:
    int fd_ = -1;
};

// All of these create close-on-exec descriptors and throw Error{kIo} on failure.
struct PipeFds {
    UniqueFd read;
    UniqueFd write;
};
PipeFds make_pipe();
std::pair<UniqueFd, UniqueFd> make_socketpair();  // AF_UNIX, SOCK_STREAM
UniqueFd duplicate(int fd);

void set_cloexec(int fd, bool on);
void set_nonblocking(int fd, bool on);

// Reads until EOF. Throws Error{kIo}, or when more than `limit` bytes come.
std::string read_to_end(int fd, std::size_t limit = SIZE_MAX);

// Reads the whole file. Throws Error{kIo} with only the OS text ("No such file or directory (os
// error 2)").
std::string read_file(const std::filesystem::path& path, std::size_t limit = SIZE_MAX);

// Writes everything, retrying short writes and EINTR; waits with poll(2) when the descriptor is
// non-blocking. Returns 0 or the errno that stopped it.
int write_all(int fd, std::span<const std::byte> data) noexcept;
int write_all(int fd, std::string_view data) noexcept;

// Writes everything at `offset`, retrying short writes and EINTR. Returns 0 or the errno that stopped it.
int pwrite_all(int fd, std::span<const std::byte> data, std::uint64_t offset) noexcept;

// Reads exactly data.size() bytes. Returns the count read: less than asked only at EOF; -errno on
// error.
std::ptrdiff_t read_exactly(int fd, std::span<std::byte> data) noexcept;

// A file without a name in `directory`, open for reading and writing, mode 0600: gone with its descriptor. Unset with
// errno when it cannot be made.
UniqueFd make_unnamed_file(const std::filesystem::path& directory) noexcept;

// fsyncs a directory, so that a rename in it lasts. Returns 0 or the errno.
int sync_directory(const std::filesystem::path& directory) noexcept;

// A file being made beside the one it will replace. Destroying it unpublished removes it.
class ReplacementFile {
  public:
    // fd() is unset and errno says why when it cannot be made. Mode 0600.
    explicit ReplacementFile(std::filesystem::path target);
    ReplacementFile(const ReplacementFile&) = delete;
    ReplacementFile& operator=(const ReplacementFile&) = delete;
    ~ReplacementFile();

    int fd() const { return fd_.get(); }
    const std::filesystem::path& directory() const { return directory_; }
    // chmod, with `durable` fsync, and rename onto the target; with `durable` also fsync of the directory, whose failure
    // is not told. Returns 0 or the errno.
    int publish(unsigned mode, bool durable) noexcept;

  private:
    std::filesystem::path target_;
    std::filesystem::path directory_;
    std::string temporary_;
    UniqueFd fd_;
};

// Publishes `content` at `path`: temporary file beside it, fsync, rename, fsync of the directory.
// Readers see the old or the new file, never a part. Throws Error{kIo}; nothing is left behind on
// failure.
void publish_file(const std::filesystem::path& path, std::string_view content,
                  unsigned mode = 0644);

}  // namespace msb
