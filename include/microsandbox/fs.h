// Files of a running sandbox, through the guest agent. Paths are guest paths.
//
// Errors: Error{kSandboxFsOps} with the agent's text ("sandbox fs error: stat: No such file or directory (os error 2)"),
// Error{kAgentClient} when the sandbox cannot be reached, Error{kCancelled} when `stop` is triggered.
// SandboxFs and its copies may be used from any number of threads; each stream or open file from one at a time.
#pragma once

#include <microsandbox/error.h>
#include <microsandbox/export.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace microsandbox {

enum class FileKind : std::uint8_t { kFile, kDirectory, kSymlink, kOther };
MICROSANDBOX_API std::string_view to_string(
    FileKind kind) noexcept;  // file directory symlink other

// One directory entry (not following links).
struct FsEntry {
    std::string path;  // directory joined with the name
    FileKind kind = FileKind::kOther;
    std::uint64_t size = 0;
    std::uint32_t mode = 0;  // whole st_mode, e.g. 0100644
    std::optional<std::chrono::sys_seconds> modified;
};

struct FsMetadata {
    FileKind kind = FileKind::kOther;
    std::uint64_t size = 0;
    std::uint32_t mode = 0;  // whole st_mode
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    bool readonly = false;  // no bit of 0222 is set
    std::optional<std::chrono::sys_seconds> accessed;
    std::optional<std::chrono::sys_seconds> modified;
    std::optional<std::chrono::sys_seconds> created;  // the guest never reports it
};

// What set_stat changes; unset members stay as they are.
struct FsSetAttributes {
    std::optional<std::uint32_t> mode;
    std::optional<std::uint32_t> uid;
    std::optional<std::uint32_t> gid;
    std::optional<std::uint64_t> size;
    std::optional<std::chrono::sys_seconds> accessed;
    std::optional<std::chrono::sys_seconds> modified;
};

struct FsOpenOptions {
    bool read = false;
    bool write = false;
    bool append = false;
    bool create = false;
    bool truncate = false;
    bool create_new = false;
    std::optional<std::uint32_t> mode;  // of a created file; 0666 & ~umask of the agent
};

// A file being read. Destroying it early closes its connection.
class MICROSANDBOX_API FsReadStream {
  public:
    struct Impl;  // incomplete outside the library

    FsReadStream(FsReadStream&&) noexcept;
    FsReadStream& operator=(FsReadStream&&) noexcept;
    ~FsReadStream();
    // The next chunk, at most 3 MiB; nullopt at the end of the file.
    std::optional<std::string> recv(std::stop_token stop = {});
    std::string collect(std::stop_token stop = {});

  private:
    friend class SandboxFs;
    friend class FsFile;
    explicit FsReadStream(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

// A file being written. close() reports errors of earlier writes; destroying the stream without it loses them.
class MICROSANDBOX_API FsWriteStream {
  public:
    struct Impl;  // incomplete outside the library

    FsWriteStream(FsWriteStream&&) noexcept;
    FsWriteStream& operator=(FsWriteStream&&) noexcept;
    ~FsWriteStream();
    void write(std::string_view data, std::stop_token stop = {});
    void close(std::stop_token stop = {});

  private:
    friend class SandboxFs;
    friend class FsFile;
    explicit FsWriteStream(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

// A file held open in the guest over its own connection; closed when destroyed.
class MICROSANDBOX_API FsFile {
  public:
    struct Impl;  // incomplete outside the library

    FsFile(FsFile&&) noexcept;
    FsFile& operator=(FsFile&&) noexcept;
    ~FsFile();
    std::uint64_t handle() const noexcept;  // the agent's number for it
    // At most `length` bytes from `offset`; shorter at the end of the file.
    std::string read(std::uint64_t offset, std::uint64_t length, std::stop_token stop = {});
    // To the end of the file when `length` is unset. The file must outlive the stream.
    FsReadStream read_stream(std::uint64_t offset, std::optional<std::uint64_t> length = {},
                             std::stop_token stop = {});
    void write(std::uint64_t offset, std::string_view data, std::stop_token stop = {});
    FsWriteStream write_stream(std::uint64_t offset, std::stop_token stop = {});
    FsMetadata stat(std::stop_token stop = {});
    void set_stat(const FsSetAttributes& attributes, std::stop_token stop = {});
    // Flushes and closes, reporting errors. Idempotent.
    void close(std::stop_token stop = {});

  private:
    friend class SandboxFs;
    explicit FsFile(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

// A directory held open in the guest; closed when destroyed.
class MICROSANDBOX_API FsDir {
  public:
    struct Impl;  // incomplete outside the library

    FsDir(FsDir&&) noexcept;
    FsDir& operator=(FsDir&&) noexcept;
    ~FsDir();
    std::uint64_t handle() const noexcept;
    // The next entries, at most `limit` (128 when unset); empty at the end.
    std::vector<FsEntry> read(std::optional<std::uint32_t> limit = {}, std::stop_token stop = {});
    FsMetadata stat(std::stop_token stop = {});
    void close(std::stop_token stop = {});

  private:
    friend class SandboxFs;
    explicit FsDir(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

class MICROSANDBOX_API SandboxFs {
  public:
    struct Impl;  // incomplete outside the library

    SandboxFs(const SandboxFs&);
    SandboxFs(SandboxFs&&) noexcept;
    SandboxFs& operator=(const SandboxFs&);
    SandboxFs& operator=(SandboxFs&&) noexcept;
    ~SandboxFs();

    // The whole file.
    std::string read(const std::string& path, std::stop_token stop = {}) const;
    // The same; Error{kSandboxFsOps} "invalid utf-8: ..." when it is not UTF-8.
    std::string read_to_string(const std::string& path, std::stop_token stop = {}) const;
    FsReadStream read_stream(const std::string& path, std::stop_token stop = {}) const;
    // Creates or truncates; parent directories are not created.
    void write(const std::string& path, std::string_view data, std::stop_token stop = {}) const;
    FsWriteStream write_stream(const std::string& path, std::stop_token stop = {}) const;

    // One level, without "." and "..", in directory order.
    std::vector<FsEntry> list(const std::string& path, std::stop_token stop = {}) const;
    // With parents; an existing directory is fine.
    void mkdir(const std::string& path, std::stop_token stop = {}) const;
    void remove(const std::string& path, std::stop_token stop = {}) const;      // file or link
    void remove_dir(const std::string& path, std::stop_token stop = {}) const;  // recursive
    void remove_empty_dir(const std::string& path, std::stop_token stop = {}) const;  // rmdir
    void copy(const std::string& from, const std::string& to, std::stop_token stop = {}) const;
    void rename(const std::string& from, const std::string& to, std::stop_token stop = {}) const;
    std::string read_link(const std::string& path, std::stop_token stop = {}) const;
    void symlink(const std::string& target, const std::string& link,
                 std::stop_token stop = {}) const;
    std::string real_path(const std::string& path, std::stop_token stop = {}) const;
    FsMetadata stat(const std::string& path, bool follow = true, std::stop_token stop = {}) const;
    void set_stat(const std::string& path, bool follow, const FsSetAttributes& attributes,
                  std::stop_token stop = {}) const;
    // False for every file system error; throws only when the sandbox cannot be reached.
    bool exists(const std::string& path, std::stop_token stop = {}) const;

    // One regular file, streamed; permission bits are kept. Host errors are Error{kIo}.
    // copy_to_host publishes by rename: a partial file never shows under the final name.
    void copy_from_host(const std::filesystem::path& host, const std::string& guest,
                        std::stop_token stop = {}) const;
    void copy_to_host(const std::string& guest, const std::filesystem::path& host,
                      std::stop_token stop = {}) const;

    FsFile open_file(const std::string& path, const FsOpenOptions& options,
                     std::stop_token stop = {}) const;
    FsDir open_dir(const std::string& path, std::stop_token stop = {}) const;

  private:
    friend class Sandbox;
    friend class SandboxHandle;
    explicit SandboxFs(std::shared_ptr<Impl> impl);
    std::shared_ptr<Impl> impl_;
};

}  // namespace microsandbox
