#include "fake_agent.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <stdexcept>

#include "protocol/handshake.h"

namespace msb::test {

using namespace protocol;

struct FakeAgent::Session {
    int fd = -1;
    bool closing = false;
    // Commands waiting for input, by id, and files being written.
    std::map<std::uint32_t, std::string> commands;
    struct Write {
        std::string path;
        std::string data;
    };
    std::map<std::uint32_t, Write> writes;

    template <class M>
    void send(std::uint32_t id, const M& message) {
        ByteBuffer out;
        if (append_frame(out, id, message)) write_all(fd, out);
    }
    void raw(std::string_view bytes) { (void)::msb::write_all(fd, bytes); }
    static int write_all(int to, std::span<const std::byte> bytes) {
        while (!bytes.empty()) {
            ssize_t n = ::send(to, bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (n <= 0) return 1;
            bytes = bytes.subspan(static_cast<std::size_t>(n));
        }
        return 0;
    }
};

std::string handshake_bytes(std::uint32_t slot, std::uint8_t generation) {
    const auto head = encode_handshake_head(id_range(slot));
    ByteBuffer out(head.begin(), head.end());
    (void)append_frame(out, 0, Ready{11, 22, 33, "0.6.18"}, generation);
    return {reinterpret_cast<const char*>(out.data()), out.size()};
}

void FakeAgent::serve(UniqueFd socket, std::uint32_t slot) {
    ++connections;
    Session session;
    session.fd = socket.get();
    const std::string hello = handshake_bytes(slot, generation);
    Session::write_all(session.fd, std::as_bytes(std::span(hello.data(), hello.size())));
    FrameReader reader;
    while (!session.closing) {
        auto space = reader.writable(65536);
        ssize_t n = ::read(session.fd, space.data(), space.size());
        if (n <= 0) break;
        reader.commit(static_cast<std::size_t>(n));
        while (auto view = reader.next())
            frame(session, *view);
    }
    ++disconnections;
}

void FakeAgent::frame(Session& session, const FrameView& view) {
    auto envelope = decode_envelope(view.body);
    if (!envelope || !envelope->type) return;
    const ByteView payload = envelope->payload.span();
    switch (*envelope->type) {
        case MessageType::kExecRequest:
            exec(session, view.id, *decode_payload<ExecRequest>(payload));
            break;
        case MessageType::kExecStdin: {
            auto command = session.commands.find(view.id);
            if (command == session.commands.end()) break;
            auto data = decode_payload<ExecStdin>(payload);
            if (data->data.empty() || command->second == "size") {
                session.commands.erase(command);
                session.send(view.id, ExecExited{0});
            } else {
                session.send(view.id, ExecStdout{Bytes::view(data->data.text())});
            }
            break;
        }
        case MessageType::kExecSignal:
            if (session.commands.erase(view.id) != 0) {
                ++killed;
                session.send(view.id, ExecExited{-1});
            }
            break;
        case MessageType::kExecResize: {
            auto size = decode_payload<ExecResize>(payload);
            const std::string text =
                std::to_string(size->rows) + "x" + std::to_string(size->cols) + "\n";
            session.send(view.id, ExecStdout{Bytes::view(text)});
            break;
        }
        case MessageType::kFsRequest:
            fs(session, view.id, *decode_payload<FsRequest>(payload));
            break;
        case MessageType::kFsData: {
            auto write = session.writes.find(view.id);
            if (write == session.writes.end()) break;
            auto data = decode_payload<FsData>(payload);
            if (!data->data.empty()) {
                write->second.data += data->data.text();
                break;
            }
            {
                std::scoped_lock lock(mutex_);
                files[write->second.path] = write->second.data;
            }
            const bool full = write->second.path == "/full";
            session.writes.erase(write);
            FsResponse response;
            response.ok = !full;
            if (full) response.error = "write: No space left on device (os error 28)";
            session.send(view.id, response);
            break;
        }
        case MessageType::kPing:
            session.send(view.id, Pong{});
            break;
        case MessageType::kTouch:
            session.send(view.id, Touched{++activity_});
            break;
        case MessageType::kShutdown:
            on_shutdown();
            break;
        default:
            break;
    }
}

void FakeAgent::exec(Session& session, std::uint32_t id, const ExecRequest& request) {
    ++execs;
    auto out = [&](const std::string& text) { session.send(id, ExecStdout{Bytes::view(text)}); };
    if (request.cmd == "missing") {
        session.send(id, ExecFailed{ExecFailedKind::kNotFound, 2, "ENOENT",
                                    "spawn \"missing\": No such file or directory (os error 2)",
                                    "Command::spawn"});
        return;
    }
    if (request.cmd == "badkind") {
        // core.exec.failed whose kind is unknown: upstream clients lose the terminal event.
        ByteBuffer good;
        (void)append_frame(good, id, ExecFailed{ExecFailedKind::kOther, {}, {}, "x", {}});
        std::string text(reinterpret_cast<const char*>(good.data()), good.size());
        text.replace(text.find("other"), 5, "bogus");
        session.raw(text);
        return;
    }
    if (request.cmd == "refuse") {
        session.send(id, ErrorMessage{ErrorKind::kInvalidPayload, "decode payload: nope",
                                      "core.exec.request"});
        return;
    }
    session.send(id, ExecStarted{30});
    if (request.cmd == "echo") {
        std::string line;
        for (const std::string& arg : request.args)
            line += (line.empty() ? "" : " ") + arg;
        out(line + "\n");
    } else if (request.cmd == "env") {
        std::string lines;
        for (const std::string& entry : request.env)
            lines += entry + "\n";
        out(lines);
    } else if (request.cmd == "pwd") {
        out(request.cwd.value_or("none") + " " + request.user.value_or("none") +
            (request.tty ? " tty" : ""));
    } else if (request.cmd == "fail") {
        session.send(id, ExecStderr{Bytes::view(std::string_view("err\n"))});
        session.send(id, ExecExited{std::stoi(request.args.at(0))});
        return;
    } else if (request.cmd == "flood") {
        const std::string block(4096, 'x');
        for (int i = std::stoi(request.args.at(0)); i > 0; --i)
            out(block);
    } else if (request.cmd == "early") {
        session.send(id, ExecStdinError{32, "EPIPE", "io error: Broken pipe (os error 32)"});
    } else if (request.cmd == "junk") {
        ByteBuffer unknown;
        (void)append_frame(unknown, id, ExecStarted{1});
        std::string text(reinterpret_cast<const char*>(unknown.data()), unknown.size());
        text.replace(text.find("core.exec.started"), 17, "core.exec.strange");
        session.raw(text);                           // unknown type
        std::string garbage("\x00\x00\x00\x07", 4);  // 5 + 2 bytes
        for (int shift = 24; shift >= 0; shift -= 8)
            garbage.push_back(static_cast<char>(id >> shift & 0xff));
        garbage += std::string("\x00\xff\xff", 3);  // no CBOR map
        session.raw(garbage);
        session.send(id + 1000, ExecExited{9});  // nobody's
    } else if (request.cmd == "drop") {
        ::shutdown(session.fd, SHUT_RDWR);
        session.closing = true;
        return;
    } else {  // cat, hang, size: they end later
        session.commands[id] = request.cmd;
        return;
    }
    session.send(id, ExecExited{0});
}

void FakeAgent::fs(Session& session, std::uint32_t id, const FsRequest& request) {
    if (const auto* write = std::get_if<protocol::fs::Write>(&request.op)) {
        std::scoped_lock lock(mutex_);
        session.writes[id] = {handles_[write->handle], ""};
        return;
    }
    session.send(id, fs_reply(session, id, request));
}

FsResponse FakeAgent::fs_reply(Session& session, std::uint32_t id, const FsRequest& request) {
    namespace op = protocol::fs;
    std::scoped_lock lock(mutex_);
    FsResponse ok;
    ok.ok = true;
    auto failure = [](std::string text) {
        FsResponse response;
        response.error = std::move(text);
        return response;
    };
    auto entry = [&](const std::string& path) -> std::optional<FsEntry> {
        if (auto file = files.find(path); file != files.end())
            return FsEntry{path, FsEntryKind::kFile, file->second.size(), 0100444, 1700000000, 1000,
                           2000, 1700000000,         1700000000};
        if (directories.contains(path))
            return FsEntry{path, FsEntryKind::kDir, 0, 040755, 1, 0, 0, 1, 1};
        return std::nullopt;
    };
    const std::string missing = "No such file or directory (os error 2)";
    if (const auto* stat = std::get_if<op::Stat>(&request.op)) {
        auto found = entry(stat->path);
        if (!found) return failure("stat: " + missing);
        ok.data = *found;
    } else if (const auto* list = std::get_if<op::List>(&request.op)) {
        std::vector<FsEntry> entries;
        for (const auto& [path, content] : files) {
            if (path.starts_with(list->path + "/")) entries.push_back(*entry(path));
        }
        ok.data = entries;
    } else if (const auto* open = std::get_if<op::OpenFile>(&request.op)) {
        if (open->options.create && open->options.truncate) files[open->path] = "";
        if (!files.contains(open->path)) return failure("open: " + missing);
        handles_[next_handle_] = open->path;
        ok.data = FsHandle{next_handle_++};
    } else if (const auto* close = std::get_if<op::CloseHandle>(&request.op)) {
        if (handles_.erase(close->handle) == 0) return failure("close: invalid handle");
    } else if (const auto* read = std::get_if<op::Read>(&request.op)) {
        const std::string& content = files[handles_[read->handle]];
        std::string_view rest(content);
        rest.remove_prefix(std::min<std::size_t>(read->offset, rest.size()));
        rest = rest.substr(0, read->len.value_or(rest.size()));
        while (!rest.empty()) {
            const std::string_view chunk = rest.substr(0, 100000);
            session.send(id, FsData{Bytes::view(chunk)});
            rest.remove_prefix(chunk.size());
        }
    } else if (const auto* remove = std::get_if<op::Remove>(&request.op)) {
        if (files.erase(remove->path) == 0) return failure("remove: " + missing);
    } else if (const auto* mkdir = std::get_if<op::Mkdir>(&request.op)) {
        directories[mkdir->path] = true;
    } else if (const auto* link = std::get_if<op::ReadLink>(&request.op)) {
        ok.data =
            link->path == "/odd" ? FsResponseData(FsHandle{1}) : FsResponseData(FsPath{"/target"});
    } else if (const auto* rename = std::get_if<op::Rename>(&request.op)) {
        files[rename->dst] = files[rename->src];
        files.erase(rename->src);
    } else if (std::get_if<op::RemoveDir>(&request.op) != nullptr) {
        return failure("remove_dir: Directory not empty (os error 39)");
    } else if (std::get_if<op::Copy>(&request.op) != nullptr) {
        return {};  // ok = false without a text
    } else if (std::get_if<op::SetStat>(&request.op) == nullptr) {
        return failure("unsupported");
    }
    return ok;
}

// --- server -----------------------------------------------------------------------------------------------------

SocketServer::SocketServer(const std::filesystem::path& path, Handler handler)
    : listener_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)),
      stop_(::eventfd(0, EFD_CLOEXEC)),
      handler_(std::move(handler)) {
    std::filesystem::create_directories(path.parent_path());
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    if (::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener_.get(), 64) != 0)
        throw std::runtime_error("cannot listen on " + path.string());
    acceptor_ = std::jthread([this] { run(); });
}

SocketServer::~SocketServer() {
    const std::uint64_t one = 1;
    (void)!::write(stop_.get(), &one, sizeof one);
    acceptor_.join();
    {
        std::scoped_lock lock(mutex_);
        for (int fd : open_)
            ::shutdown(fd, SHUT_RDWR);
    }
    threads_.clear();
}

void SocketServer::run() {
    for (int number = 0;; ++number) {
        std::array<pollfd, 2> fds{pollfd{listener_.get(), POLLIN, 0},
                                  pollfd{stop_.get(), POLLIN, 0}};
        if (::poll(fds.data(), fds.size(), -1) < 0) continue;
        if (fds[1].revents != 0) return;
        UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        if (!socket) continue;
        std::scoped_lock lock(mutex_);
        open_.push_back(socket.get());
        threads_.emplace_back([this, number, fd = socket.release()] {
            UniqueFd owned(fd);
            UniqueFd passed(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
            handler_(std::move(passed), number);
            std::scoped_lock guard(mutex_);
            std::erase(open_, fd);
            owned.reset();
        });
    }
}

}  // namespace msb::test
