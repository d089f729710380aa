#include "vmm/qmp.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "base/json.h"

namespace msb::vmm {
namespace {

constexpr std::size_t kReadChunk = 64 * 1024;
// Commands are few and short; an engine that does not read them is stuck or hostile.
constexpr std::size_t kMaxOutput = 64 * 1024;

const json::Value* member(const json::Value& object, std::string_view key) {
    if (!object.is_object()) return nullptr;
    const auto it = object.find(std::string(key));
    return it == object.end() ? nullptr : &*it;
}

std::optional<std::uint64_t> unsigned_member(const json::Value& object, std::string_view key) {
    const json::Value* value = member(object, key);
    if (value == nullptr || !value->is_number_unsigned()) return std::nullopt;
    return value->get<std::uint64_t>();
}

std::string string_member(const json::Value& object, std::string_view key) {
    const json::Value* value = member(object, key);
    return value != nullptr && value->is_string() ? value->get<std::string>() : std::string();
}

bool read_greeting(const json::Value& greeting, QmpMessage& message) {
    message.kind = QmpMessage::Kind::kGreeting;
    const json::Value* version = member(greeting, "version");
    if (version == nullptr) return false;
    const json::Value* numbers = member(*version, "qemu");
    if (numbers == nullptr) return false;
    const auto number = [&](std::string_view key) {
        return static_cast<std::uint32_t>(unsigned_member(*numbers, key).value_or(0));
    };
    message.version_major = number("major");
    message.version_minor = number("minor");
    message.version_micro = number("micro");
    return true;
}

void read_return(const json::Value& value, QmpMessage& message) {
    message.kind = QmpMessage::Kind::kReturn;
    message.status = string_member(value, "status");
    message.balloon_actual = unsigned_member(value, "actual");
    if (!value.is_array()) return;
    for (const json::Value& cpu : value) {
        if (message.thread_ids.size() == kMaxQmpVcpus) return;
        if (const json::Value* thread = member(cpu, "thread-id");
            thread != nullptr && thread->is_number_integer())
            message.thread_ids.push_back(thread->get<std::int64_t>());
    }
}

void read_event(const json::Value& event, const json::Value& document, QmpMessage& message) {
    message.kind = QmpMessage::Kind::kEvent;
    message.event = event.get<std::string>();
    const json::Value* data = member(document, "data");
    if (data == nullptr) return;
    message.reason = string_member(*data, "reason");
    message.balloon_actual = unsigned_member(*data, "actual");
    if (const json::Value* guest = member(*data, "guest"); guest != nullptr && guest->is_boolean())
        message.guest_requested = guest->get<bool>();
}

}  // namespace

std::optional<QmpMessage> parse_qmp_message(std::string_view line) try {
    const json::Value document = json::parse(line);
    QmpMessage message;
    message.id = unsigned_member(document, "id");
    if (const json::Value* greeting = member(document, "QMP"))
        return read_greeting(*greeting, message) ? std::optional(message) : std::nullopt;
    if (const json::Value* event = member(document, "event");
        event != nullptr && event->is_string()) {
        read_event(*event, document, message);
        return message;
    }
    if (const json::Value* value = member(document, "return")) {
        read_return(*value, message);
        return message;
    }
    if (const json::Value* error = member(document, "error")) {
        message.kind = QmpMessage::Kind::kError;
        message.error = string_member(*error, "class") + ": " + string_member(*error, "desc");
        return message;
    }
    return std::nullopt;
} catch (const std::exception&) {
    return std::nullopt;
}

bool QmpLineBuffer::append(std::string_view bytes) {
    if (start_ > 0) {
        buffer_.erase(0, start_);
        scanned_ -= start_;
        start_ = 0;
    }
    buffer_.append(bytes);
    const std::size_t last_newline = buffer_.rfind('\n');
    const std::size_t unfinished =
        last_newline == std::string::npos ? buffer_.size() : buffer_.size() - last_newline - 1;
    return unfinished <= kMaxQmpLine;
}

std::optional<std::string> QmpLineBuffer::next_line() {
    const std::size_t newline = buffer_.find('\n', scanned_);
    if (newline == std::string::npos) {
        scanned_ = buffer_.size();
        return std::nullopt;
    }
    std::string line = buffer_.substr(start_, newline - start_);
    start_ = scanned_ = newline + 1;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    return line;
}

QmpClient::QmpClient(UniqueFd socket) : socket_(std::move(socket)) {
    set_nonblocking(socket_.get(), true);
}

std::uint64_t QmpClient::send(std::string_view command, std::string_view arguments) {
    const std::uint64_t id = next_id_++;
    if (closed_) return id;
    output_ += arguments.empty()
                   ? fmt::format("{{\"execute\":\"{}\",\"id\":{}}}\n", command, id)
                   : fmt::format("{{\"execute\":\"{}\",\"arguments\":{},\"id\":{}}}\n", command,
                                 arguments, id);
    flush();
    return id;
}

void QmpClient::flush() {
    while (!output_.empty() && !closed_) {
        const ssize_t n = ::send(socket_.get(), output_.data(), output_.size(), MSG_NOSIGNAL);
        if (n >= 0) {
            output_.erase(0, static_cast<std::size_t>(n));
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            break;
        } else if (errno != EINTR) {
            closed_ = true;  // the engine is gone; its exit says why
        }
    }
    if (output_.size() > kMaxOutput) {
        closed_ = true;
        violation_ = "the engine does not read its control channel";
    }
}

std::vector<QmpMessage> QmpClient::receive() {
    std::vector<QmpMessage> messages;
    std::array<char, kReadChunk> chunk;
    if (closed_) return messages;
    const ssize_t n = ::recv(socket_.get(), chunk.data(), chunk.size(), 0);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return messages;
    if (n <= 0) {
        closed_ = true;
        return messages;
    }
    const bool fits = input_.append({chunk.data(), static_cast<std::size_t>(n)});
    while (const auto line = input_.next_line()) {
        if (line->empty()) continue;
        auto message = parse_qmp_message(*line);
        if (!message) {
            closed_ = true;
            violation_ = "the engine sent something that is not QMP";
            return messages;
        }
        messages.push_back(std::move(*message));
    }
    if (!fits) {
        closed_ = true;
        violation_ = "the engine sent a QMP message that is too long";
    }
    return messages;
}

}  // namespace msb::vmm
