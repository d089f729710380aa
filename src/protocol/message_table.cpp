// The table of spec/protocol.md section 4, and our own runtime.* messages behind it (docs/protocol.md).
#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "protocol/codec.h"

namespace msb::protocol {

namespace {

constexpr std::uint8_t kNone = 0;

struct Row {
    MessageType type;
    MessageInfo info;
};

constexpr std::array kTable = {
    Row{MessageType::kReady, {"core.ready", 1, kNone}},
    Row{MessageType::kInitResolved, {"core.init.resolved", 1, kNone}},
    Row{MessageType::kInitAck, {"core.init.ack", 1, kNone}},
    Row{MessageType::kShutdown, {"core.shutdown", 1, kFlagShutdown}},
    Row{MessageType::kClientDisconnected, {"core.relay.client.disconnected", 1, kNone}},
    Row{MessageType::kClockSync, {"core.clock.sync", 1, kNone}},
    Row{MessageType::kPing, {"core.ping", 6, kNone}},
    Row{MessageType::kPong, {"core.pong", 6, kFlagTerminal}},
    Row{MessageType::kTouch, {"core.touch", 6, kNone}},
    Row{MessageType::kTouched, {"core.touched", 6, kFlagTerminal}},
    Row{MessageType::kError, {"core.error", 5, kFlagTerminal}},
    Row{MessageType::kExecRequest, {"core.exec.request", 1, kFlagSessionStart}},
    Row{MessageType::kExecStarted, {"core.exec.started", 1, kNone}},
    Row{MessageType::kExecStdin, {"core.exec.stdin", 1, kNone}},
    Row{MessageType::kExecStdinError, {"core.exec.stdin.error", 1, kNone}},
    Row{MessageType::kExecStdout, {"core.exec.stdout", 1, kNone}},
    Row{MessageType::kExecStderr, {"core.exec.stderr", 1, kNone}},
    Row{MessageType::kExecExited, {"core.exec.exited", 1, kFlagTerminal}},
    Row{MessageType::kExecFailed, {"core.exec.failed", 1, kFlagTerminal}},
    Row{MessageType::kExecResize, {"core.exec.resize", 1, kNone}},
    Row{MessageType::kExecSignal, {"core.exec.signal", 1, kNone}},
    Row{MessageType::kFsRequest, {"core.fs.request", 2, kFlagSessionStart}},
    Row{MessageType::kFsResponse, {"core.fs.response", 2, kFlagTerminal}},
    Row{MessageType::kFsData, {"core.fs.data", 2, kNone}},
    Row{MessageType::kTcpConnect, {"core.tcp.connect", 4, kFlagSessionStart}},
    Row{MessageType::kTcpConnected, {"core.tcp.connected", 4, kNone}},
    Row{MessageType::kTcpData, {"core.tcp.data", 4, kNone}},
    Row{MessageType::kTcpEof, {"core.tcp.eof", 4, kNone}},
    Row{MessageType::kTcpClose, {"core.tcp.close", 4, kNone}},
    Row{MessageType::kTcpClosed, {"core.tcp.closed", 4, kFlagTerminal}},
    Row{MessageType::kTcpFailed, {"core.tcp.failed", 4, kFlagTerminal}},
    Row{MessageType::kBootstrap, {"core.bootstrap", 7, kNone}},
    Row{MessageType::kRuntimeHeartbeat, {"runtime.heartbeat", 7, kNone}},
    Row{MessageType::kRuntimeCpuTarget, {"runtime.cpu.target", 7, kNone}},
    Row{MessageType::kRuntimeCpuState, {"runtime.cpu.state", 7, kNone}},
    Row{MessageType::kRuntimeFlow, {"runtime.flow", 7, kNone}},
};

constexpr bool in_enum_order() {
    for (std::size_t i = 0; i < kTable.size(); ++i)
        if (std::to_underlying(kTable[i].type) != i) return false;
    return std::to_underlying(MessageType::kRuntimeFlow) + 1 == kTable.size();
}
static_assert(in_enum_order(), "message_info() indexes the table by the type");

constexpr auto kByName = [] {
    auto rows = kTable;
    std::ranges::sort(rows, {}, [](const Row& row) { return row.info.name; });
    return rows;
}();

}  // namespace

const MessageInfo& message_info(MessageType type) noexcept {
    return kTable[std::to_underlying(type)].info;
}

std::optional<MessageType> message_type(std::string_view wire_name) noexcept {
    const auto found = std::ranges::lower_bound(kByName, wire_name, {},
                                                [](const Row& row) { return row.info.name; });
    if (found == kByName.end() || found->info.name != wire_name) return std::nullopt;
    return found->type;
}

}  // namespace msb::protocol
