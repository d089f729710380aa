#include "image/archive_reader.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <vector>

#include "base/error.h"
#include "base/text.h"
#include "image/archive.h"
#include "image/archive_compression.h"
#include "image/http.h"
#include "image/tar_reader.h"

namespace msb::image {

namespace {

constexpr std::size_t kSpoolChunk = 1 << 20;
// Of a pipe, after the archive's end mark: GNU tar pads to 10 KiB, and nobody to much more.
constexpr std::uint64_t kMaxTrailer = 64 << 20;

[[noreturn]] void fail(const std::string& what) {
    throw Error(ErrorCode::kCustom, what);
}

std::string_view without_dot(std::string_view path) {
    return path.starts_with("./") ? path.substr(2) : path;
}

// The member a link in the directory of `path` names; "" when it leads out of the archive.
std::string resolve_link(std::string_view path, std::string_view target, bool symbolic) {
    std::vector<std::string_view> parts;
    if (symbolic && !target.starts_with('/')) {
        parts = split(path, '/');
        parts.pop_back();
    }
    for (std::string_view part : split(target, '/')) {
        if (part.empty() || part == ".") continue;
        if (part != "..") {
            parts.push_back(part);
        } else if (parts.empty()) {
            return "";
        } else {
            parts.pop_back();
        }
    }
    std::string resolved;
    for (std::string_view part : parts) {
        if (!resolved.empty()) resolved += '/';
        resolved += part;
    }
    return resolved;
}

// What has been read of a source to look at, and then the rest of it.
class Replayed : public ByteSource {
  public:
    Replayed(std::span<const std::byte> head, ByteSource& rest) : head_(head), rest_(rest) {}
    std::size_t read(std::span<std::byte> out) override {
        if (head_.empty()) return rest_.read(out);
        std::size_t n = std::min(out.size(), head_.size());
        std::copy_n(head_.begin(), n, out.begin());
        head_ = head_.subspan(n);
        return n;
    }

  private:
    std::span<const std::byte> head_;
    ByteSource& rest_;
};

// A file in the cache's tmp/ that is gone with its descriptor, whatever happens to the process.
UniqueFd make_spool(const Cache& cache) {
    const std::filesystem::path directory = cache.work("load").parent_path();
    UniqueFd fd = make_unnamed_file(directory);
    if (!fd) throw_cache_error(directory, errno);
    return fd;
}

}  // namespace

// A descriptor that is read once and may keep us waiting.
class ArchiveReader::StreamSource : public ByteSource {
  public:
    StreamSource(int fd, const std::stop_token& stop)
        : fd_(fd), wake_(::eventfd(0, EFD_CLOEXEC)), callback_(stop, Wake{wake_.get()}) {
        if (!wake_) throw_os_error(errno, "create eventfd");
    }

    std::size_t read(std::span<std::byte> out) override {
        for (;;) {
            std::array<pollfd, 2> ready{{{fd_, POLLIN, 0}, {wake_.get(), POLLIN, 0}}};
            if (::poll(ready.data(), ready.size(), -1) < 0 && errno != EINTR)
                throw_os_error(errno, "poll");
            if (ready[1].revents != 0) throw_cancelled();
            if (ready[0].revents == 0) continue;
            ssize_t n = ::read(fd_, out.data(), out.size());
            if (n >= 0) return static_cast<std::size_t>(n);
            if (errno != EINTR && errno != EAGAIN) throw_os_error(errno);
        }
    }

  private:
    struct Wake {
        int fd;
        void operator()() const noexcept { ::eventfd_write(fd, 1); }
    };
    int fd_;
    UniqueFd wake_;
    std::stop_callback<Wake> callback_;
};

class ArchiveReader::PositionedSource : public ByteSource {
  public:
    virtual std::uint64_t position() const = 0;
};

// A regular file that holds the archive as it is.
class ArchiveReader::InPlaceSource : public PositionedSource {
  public:
    InPlaceSource(int fd, std::uint64_t start, std::uint64_t end)
        : fd_(fd), at_(start), end_(std::max(start, end)) {}

    std::size_t read(std::span<std::byte> out) override {
        std::size_t n = FileSource::borrow(fd_, at_, end_ - at_).read(out);
        at_ += n;
        return n;
    }
    std::uint64_t skip(std::uint64_t count) override {
        std::uint64_t n = std::min(count, end_ - at_);
        at_ += n;
        return n;
    }
    std::uint64_t position() const override { return at_; }

  private:
    int fd_;
    std::uint64_t at_;
    std::uint64_t end_;
};

// Stores what passes through.
class ArchiveReader::SpoolSource : public PositionedSource {
  public:
    SpoolSource(ByteSource& source, int spool, const Cache& cache)
        : source_(source), spool_(spool), cache_(cache) {}

    std::size_t read(std::span<std::byte> out) override {
        std::size_t n = source_.read(out);
        if (n > kMaxSpooledArchive - position_)
            fail("archive is larger than " + std::to_string(kMaxSpooledArchive) + " bytes");
        if (int err = pwrite_all(spool_, out.first(n), position_))
            throw_cache_error(cache_.work(""), err);
        position_ += n;
        return n;
    }
    std::uint64_t skip(std::uint64_t count) override {
        std::uint64_t done = 0;
        buffer_.resize(kSpoolChunk);
        while (done < count) {
            std::size_t n = read(std::span(buffer_).first(
                static_cast<std::size_t>(std::min<std::uint64_t>(kSpoolChunk, count - done))));
            if (n == 0) break;
            done += n;
        }
        return done;
    }
    std::uint64_t position() const override { return position_; }

  private:
    ByteSource& source_;
    int spool_;
    const Cache& cache_;
    std::uint64_t position_ = 0;
    std::vector<std::byte> buffer_;
};

ArchiveReader::ArchiveReader(const Cache& cache, int input, const std::stop_token& stop) {
    try {
        read_input(cache, input, stop);
    } catch (const Error& e) {
        if (e.code() == ErrorCode::kCustom || e.code() == ErrorCode::kCancelled) throw;
        fail("cannot read the archive: " + e.detail());
    }
}

void ArchiveReader::read_input(const Cache& cache, int input, const std::stop_token& stop) {
    struct stat st{};
    if (::fstat(input, &st) != 0) throw_os_error(errno);
    off_t start = S_ISREG(st.st_mode) ? ::lseek(input, 0, SEEK_CUR) : -1;
    if (start < 0) {
        StreamSource stream(input, stop);
        spool(cache, stream, stop);
        // A writer that is not done with its padding must not die of a closed pipe.
        stream.skip(kMaxTrailer);
        return;
    }
    FileSource file = FileSource::borrow(input, static_cast<std::uint64_t>(start));
    std::array<std::byte, kArchiveMagicBytes> magic;
    std::span<const std::byte> head = std::span(magic).first(read_fully(file, magic));
    if (!is_compressed_archive(head)) {
        fd_ = input;
        InPlaceSource source(input, static_cast<std::uint64_t>(start),
                             static_cast<std::uint64_t>(st.st_size));
        scan(source, stop);
    } else {
        FileSource again = FileSource::borrow(input, static_cast<std::uint64_t>(start));
        spool(cache, again, stop);
    }
}

void ArchiveReader::spool(const Cache& cache, ByteSource& raw, const std::stop_token& stop) {
    spool_ = make_spool(cache);
    fd_ = spool_.get();
    std::array<std::byte, kArchiveMagicBytes> magic;
    std::span<const std::byte> head = std::span(magic).first(read_fully(raw, magic));
    Replayed whole(head, raw);
    std::unique_ptr<ByteSource> plain = unpack_archive(whole, head);
    SpoolSource source(*plain, spool_.get(), cache);
    scan(source, stop);
}

void ArchiveReader::scan(PositionedSource& source, const std::stop_token& stop) {
    TarReader reader(source);
    std::size_t count = 0;
    std::size_t path_bytes = 0;
    while (std::optional<TarEntry> entry = reader.next()) {
        if (stop.stop_requested()) throw_cancelled();
        if (++count > kMaxArchiveMembers)
            fail("archive has too many entries; max is " + std::to_string(kMaxArchiveMembers));
        if (entry->path.size() > kMaxMemberPath || entry->link_target.size() > kMaxMemberPath)
            fail("archive entry path is too long; max is " + std::to_string(kMaxMemberPath));
        path_bytes += entry->path.size() + entry->link_target.size();
        if (path_bytes > kMaxMemberPaths)
            fail("archive entry paths are too long; max is " + std::to_string(kMaxMemberPaths) +
                 " in all");
        std::string path(without_dot(entry->path));
        if (entry->stored_size > kMaxArchiveLayer)
            fail("archive entry " + path + " is " + std::to_string(entry->stored_size) +
                 " bytes; max is " + std::to_string(kMaxArchiveLayer));
        bool regular = entry->type == '0' || entry->type == '\0' || entry->type == '7';
        if (links_.contains(path)) continue;
        if (regular && !entry->sparse) {
            members_.try_emplace(std::move(path), source.position(), entry->stored_size);
        } else if ((entry->type == '1' || entry->type == '2') && !members_.contains(path)) {
            add_link(std::move(path), entry->link_target, entry->type == '2');
        }
    }
}

void ArchiveReader::add_link(std::string path, std::string_view target, bool symbolic) {
    std::string resolved = resolve_link(path, target, symbolic);
    links_.try_emplace(std::move(path), std::move(resolved));
}

const ArchiveReader::Member* ArchiveReader::find(std::string_view path) const {
    std::string name(without_dot(path));
    if (auto link = links_.find(name); link != links_.end())
        name = link->second;  // once: no chains
    auto it = members_.find(name);
    return it == members_.end() ? nullptr : &it->second;
}

std::string ArchiveReader::read(const Member& member, std::string_view path) const {
    if (member.size > kMaxArchiveMetadata)
        fail("manifest parse error: archive metadata entry " + std::string(path) + " is " +
             std::to_string(member.size) + " bytes; max is " + std::to_string(kMaxArchiveMetadata));
    std::string content(static_cast<std::size_t>(member.size), '\0');
    FileSource source = open(member);
    if (read_fully(source, std::as_writable_bytes(std::span(content))) != content.size())
        fail("cannot read the archive: it has become shorter");
    return content;
}

FileSource ArchiveReader::open(const Member& member) const {
    return FileSource::borrow(fd_, member.offset, member.size);
}

}  // namespace msb::image
