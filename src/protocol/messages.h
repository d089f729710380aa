// Every message of the agent protocol (spec/protocol.md sections 4 and 5) as a plain struct.
//
// Field order is declaration order on the wire. `std::optional` is "null when absent" unless the comment says
// "omitted". Types with a `kType` are payloads of that message; the rest are parts of payloads.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "protocol/bytes.h"

namespace msb::protocol {

enum class MessageType : std::uint8_t {
    kReady,               // core.ready
    kInitResolved,        // core.init.resolved
    kInitAck,             // core.init.ack
    kShutdown,            // core.shutdown
    kClientDisconnected,  // core.relay.client.disconnected
    kClockSync,           // core.clock.sync
    kPing,                // core.ping
    kPong,                // core.pong
    kTouch,               // core.touch
    kTouched,             // core.touched
    kError,               // core.error
    kExecRequest,         // core.exec.request
    kExecStarted,         // core.exec.started
    kExecStdin,           // core.exec.stdin
    kExecStdinError,      // core.exec.stdin.error
    kExecStdout,          // core.exec.stdout
    kExecStderr,          // core.exec.stderr
    kExecExited,          // core.exec.exited
    kExecFailed,          // core.exec.failed
    kExecResize,          // core.exec.resize
    kExecSignal,          // core.exec.signal
    kFsRequest,           // core.fs.request
    kFsResponse,          // core.fs.response
    kFsData,              // core.fs.data
    kTcpConnect,          // core.tcp.connect
    kTcpConnected,        // core.tcp.connected
    kTcpData,             // core.tcp.data
    kTcpEof,              // core.tcp.eof
    kTcpClose,            // core.tcp.close
    kTcpClosed,           // core.tcp.closed
    kTcpFailed,           // core.tcp.failed
    kBootstrap,           // core.bootstrap
    // Messages of our own second port "runtime" between the sandbox process and our agent (docs/protocol.md). They are
    // never seen on the agent socket.
    kRuntimeHeartbeat,  // runtime.heartbeat   G->H once per second
    kRuntimeCpuTarget,  // runtime.cpu.target  H->G
    kRuntimeCpuState,   // runtime.cpu.state   G->H
    kRuntimeFlow,       // runtime.flow        H->G
};

// --- core -------------------------------------------------------------------------------------------------------

struct Ready {
    static constexpr MessageType kType = MessageType::kReady;
    std::uint64_t boot_time_ns = 0;   // CLOCK_BOOTTIME at agent start
    std::uint64_t init_time_ns = 0;   // duration of the init sequence
    std::uint64_t ready_time_ns = 0;  // CLOCK_BOOTTIME just before sending
    std::string agent_version;        // omitted when empty
    bool operator==(const Ready&) const = default;
};

struct DefaultUser {
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    bool operator==(const DefaultUser&) const = default;
};

struct InitResolved {
    static constexpr MessageType kType = MessageType::kInitResolved;
    DefaultUser default_user;
    bool operator==(const InitResolved&) const = default;
};

// Messages whose payload is the empty map.
template <MessageType Type>
struct EmptyMessage {
    static constexpr MessageType kType = Type;
    bool operator==(const EmptyMessage&) const = default;
};
using InitAck = EmptyMessage<MessageType::kInitAck>;
using Ping = EmptyMessage<MessageType::kPing>;
using Pong = EmptyMessage<MessageType::kPong>;
using Touch = EmptyMessage<MessageType::kTouch>;
using TcpConnected = EmptyMessage<MessageType::kTcpConnected>;
using TcpEof = EmptyMessage<MessageType::kTcpEof>;
using TcpClose = EmptyMessage<MessageType::kTcpClose>;
using TcpClosed = EmptyMessage<MessageType::kTcpClosed>;

// Payload is null and never decoded.
struct Shutdown {
    static constexpr MessageType kType = MessageType::kShutdown;
    bool operator==(const Shutdown&) const = default;
};

struct ClientDisconnected {
    static constexpr MessageType kType = MessageType::kClientDisconnected;
    std::uint32_t id_start = 0;
    std::uint32_t id_end_exclusive = 0;
    bool operator==(const ClientDisconnected&) const = default;
};

struct ClockSync {
    static constexpr MessageType kType = MessageType::kClockSync;
    std::uint64_t unix_time_nanos = 0;
    bool operator==(const ClockSync&) const = default;
};

struct Touched {
    static constexpr MessageType kType = MessageType::kTouched;
    std::uint64_t activity_seq = 0;
    bool operator==(const Touched&) const = default;
};

enum class ErrorKind : std::uint8_t {
    kMalformedMessage,
    kUnsupportedMessageType,
    kUnsupportedProtocolGeneration,
    kInvalidFlags,
    kInvalidPayload,
    kInvalidSession,
};

struct ErrorMessage {
    static constexpr MessageType kType = MessageType::kError;
    ErrorKind kind = ErrorKind::kMalformedMessage;
    std::string message;
    std::optional<std::string> offending_type;  // omitted
    bool operator==(const ErrorMessage&) const = default;
};

// --- exec -------------------------------------------------------------------------------------------------------

struct Rlimit {
    std::string resource;
    std::uint64_t soft = 0;
    std::uint64_t hard = 0;
    bool operator==(const Rlimit&) const = default;
};

struct ExecRequest {
    static constexpr MessageType kType = MessageType::kExecRequest;
    std::string cmd;
    std::vector<std::string> args;
    std::vector<std::string> env;  // "K=V"
    std::optional<std::string> cwd;
    std::optional<std::string> user;
    bool tty = false;
    std::uint16_t rows = 24;
    std::uint16_t cols = 80;
    std::vector<Rlimit> rlimits;
    bool operator==(const ExecRequest&) const = default;
};

struct ExecStarted {
    static constexpr MessageType kType = MessageType::kExecStarted;
    std::uint32_t pid = 0;
    bool operator==(const ExecStarted&) const = default;
};

// A payload of one byte string. Empty means EOF where the spec says so.
template <MessageType Type>
struct DataMessage {
    static constexpr MessageType kType = Type;
    Bytes data;
    bool operator==(const DataMessage&) const = default;
};
using ExecStdin = DataMessage<MessageType::kExecStdin>;
using ExecStdout = DataMessage<MessageType::kExecStdout>;
using ExecStderr = DataMessage<MessageType::kExecStderr>;
using FsData = DataMessage<MessageType::kFsData>;
using TcpData = DataMessage<MessageType::kTcpData>;

struct ExecStdinError {
    static constexpr MessageType kType = MessageType::kExecStdinError;
    std::optional<std::int32_t> errno_value;
    std::optional<std::string> errno_name;
    std::string message;
    bool operator==(const ExecStdinError&) const = default;
};

struct ExecExited {
    static constexpr MessageType kType = MessageType::kExecExited;
    std::int32_t code = 0;  // 0..255, or -1 for death by any signal
    bool operator==(const ExecExited&) const = default;
};

enum class ExecFailedKind : std::uint8_t {
    kNotFound,
    kPermissionDenied,
    kNotExecutable,
    kBadCwd,
    kBadArgs,
    kResourceLimit,
    kUserSetupFailed,
    kOutOfMemory,
    kPtySetupFailed,
    kOther,
};

struct ExecFailed {
    static constexpr MessageType kType = MessageType::kExecFailed;
    ExecFailedKind kind = ExecFailedKind::kOther;
    std::optional<std::int32_t> errno_value;
    std::optional<std::string> errno_name;
    std::string message;
    std::optional<std::string> stage;
    bool operator==(const ExecFailed&) const = default;
};

struct ExecResize {
    static constexpr MessageType kType = MessageType::kExecResize;
    std::uint16_t rows = 0;
    std::uint16_t cols = 0;
    bool operator==(const ExecResize&) const = default;
};

struct ExecSignal {
    static constexpr MessageType kType = MessageType::kExecSignal;
    std::int32_t signal = 0;
    bool operator==(const ExecSignal&) const = default;
};

// --- fs ---------------------------------------------------------------------------------------------------------

struct FsAttrs {
    std::optional<std::uint32_t> mode;
    std::optional<std::uint32_t> uid;
    std::optional<std::uint32_t> gid;
    std::optional<std::uint64_t> size;
    std::optional<std::int64_t> atime;  // seconds
    std::optional<std::int64_t> mtime;
    bool operator==(const FsAttrs&) const = default;
};

struct FsOpenOptions {
    bool read = false;
    bool write = false;
    bool append = false;
    bool create = false;
    bool truncate = false;
    bool create_new = false;
    std::optional<std::uint32_t> mode;
    bool operator==(const FsOpenOptions&) const = default;
};

// One struct per FsOp variant; the struct name is the wire name.
namespace fs {
// clang-format off
struct RealPath { std::string path; bool operator==(const RealPath&) const = default; };
struct Stat { std::string path; bool follow_symlink = false; bool operator==(const Stat&) const = default; };
struct SetStat { std::string path; bool follow_symlink = false; FsAttrs attrs; bool operator==(const SetStat&) const = default; };
struct List { std::string path; bool operator==(const List&) const = default; };
struct ReadLink { std::string path; bool operator==(const ReadLink&) const = default; };
struct Symlink { std::string target; std::string link_path; bool operator==(const Symlink&) const = default; };
struct Mkdir { std::string path; std::optional<std::uint32_t> mode; bool operator==(const Mkdir&) const = default; };
struct Remove { std::string path; bool operator==(const Remove&) const = default; };
struct RemoveDir { std::string path; bool recursive = false; bool operator==(const RemoveDir&) const = default; };
struct Copy { std::string src; std::string dst; bool operator==(const Copy&) const = default; };
struct Rename { std::string src; std::string dst; bool operator==(const Rename&) const = default; };
struct OpenFile { std::string path; FsOpenOptions options; bool operator==(const OpenFile&) const = default; };
struct OpenDir { std::string path; bool operator==(const OpenDir&) const = default; };
struct CloseHandle { std::uint64_t handle = 0; bool operator==(const CloseHandle&) const = default; };
struct Read { std::uint64_t handle = 0; std::uint64_t offset = 0; std::optional<std::uint64_t> len; bool operator==(const Read&) const = default; };
struct Write { std::uint64_t handle = 0; std::uint64_t offset = 0; std::optional<std::uint64_t> len; bool operator==(const Write&) const = default; };
struct ReadDir { std::uint64_t handle = 0; std::optional<std::uint32_t> limit; bool operator==(const ReadDir&) const = default; };
struct FStat { std::uint64_t handle = 0; bool operator==(const FStat&) const = default; };
struct FSetStat { std::uint64_t handle = 0; FsAttrs attrs; bool operator==(const FSetStat&) const = default; };
// clang-format on
}  // namespace fs

using FsOp = std::variant<fs::RealPath, fs::Stat, fs::SetStat, fs::List, fs::ReadLink, fs::Symlink,
                          fs::Mkdir, fs::Remove, fs::RemoveDir, fs::Copy, fs::Rename, fs::OpenFile,
                          fs::OpenDir, fs::CloseHandle, fs::Read, fs::Write, fs::ReadDir, fs::FStat,
                          fs::FSetStat>;

struct FsRequest {
    static constexpr MessageType kType = MessageType::kFsRequest;
    FsOp op;
    bool operator==(const FsRequest&) const = default;
};

enum class FsEntryKind : std::uint8_t { kFile, kDir, kSymlink, kOther };

struct FsEntry {
    std::string path;
    FsEntryKind kind = FsEntryKind::kOther;
    std::uint64_t size = 0;
    std::uint32_t mode = 0;  // whole st_mode
    std::optional<std::int64_t> modified;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::optional<std::int64_t> atime;
    std::optional<std::int64_t> mtime;
    bool operator==(const FsEntry&) const = default;
};

struct FsHandle {
    std::uint64_t handle = 0;
    bool operator==(const FsHandle&) const = default;
};
struct FsPath {
    std::string path;
    bool operator==(const FsPath&) const = default;
};
// {"Stat": entry} | {"List": [entry]} | {"Handle": u64} | {"Path": text}
using FsResponseData = std::variant<FsEntry, std::vector<FsEntry>, FsHandle, FsPath>;

struct FsResponse {
    static constexpr MessageType kType = MessageType::kFsResponse;
    bool ok = false;
    std::optional<std::string> error;
    std::optional<FsResponseData> data;
    bool operator==(const FsResponse&) const = default;
};

// --- tcp --------------------------------------------------------------------------------------------------------

struct TcpConnect {
    static constexpr MessageType kType = MessageType::kTcpConnect;
    std::string host;
    std::uint16_t port = 0;
    bool operator==(const TcpConnect&) const = default;
};

struct TcpFailed {
    static constexpr MessageType kType = MessageType::kTcpFailed;
    std::string error;
    bool operator==(const TcpFailed&) const = default;
};

// --- bootstrap --------------------------------------------------------------------------------------------------

struct DiskImageRoot {  // kind "disk-image"
    std::string device;
    std::optional<std::string> fstype;  // omitted; absent = probe
    bool operator==(const DiskImageRoot&) const = default;
};
struct DeviceUpper {  // kind "device"
    std::string device;
    std::string fstype;
    bool operator==(const DeviceUpper&) const = default;
};
struct TmpfsUpper {                         // kind "tmpfs"
    std::optional<std::uint32_t> size_mib;  // omitted
    bool operator==(const TmpfsUpper&) const = default;
};
struct OciErofsRoot {  // kind "oci-erofs"
    std::string lower;
    std::variant<DeviceUpper, TmpfsUpper> upper;
    bool operator==(const OciErofsRoot&) const = default;
};
using BlockRoot = std::variant<DiskImageRoot, OciErofsRoot>;

struct MountFlags {  // all four keys always emitted
    bool readonly = false;
    bool noexec = false;
    bool nosuid = false;
    bool nodev = false;
    bool operator==(const MountFlags&) const = default;
};
struct DirMount {
    std::string tag;
    std::string guest_path;
    MountFlags flags;
    bool operator==(const DirMount&) const = default;
};
struct FileMount {
    std::string tag;
    std::string filename;
    std::string guest_path;
    MountFlags flags;
    bool operator==(const FileMount&) const = default;
};
struct DiskMount {
    std::string id;  // virtio-blk serial
    std::string guest_path;
    std::optional<std::string> fstype;  // omitted
    MountFlags flags;
    bool operator==(const DiskMount&) const = default;
};
struct TmpfsMount {
    std::string path;
    std::optional<std::uint32_t> size_mib;  // omitted
    std::optional<std::uint32_t> mode;      // omitted
    MountFlags flags;
    bool operator==(const TmpfsMount&) const = default;
};

template <std::size_t N>
struct IpFamily {
    std::array<std::uint8_t, N> address{};  // network order
    std::uint8_t prefix_len = 0;
    std::array<std::uint8_t, N> gateway{};
    std::optional<std::array<std::uint8_t, N>> dns;  // omitted
    bool operator==(const IpFamily&) const = default;
};
using Ipv4Config = IpFamily<4>;
using Ipv6Config = IpFamily<16>;

struct GuestNetwork {
    std::string interface;
    std::array<std::uint8_t, 6> mac{};
    std::uint16_t mtu = 0;
    std::optional<Ipv4Config> ipv4;  // omitted
    std::optional<Ipv6Config> ipv6;  // omitted
    bool operator==(const GuestNetwork&) const = default;
};

struct EnvVar {
    std::string key;
    std::string value;
    bool operator==(const EnvVar&) const = default;
};

struct HandoffInit {
    std::string cmd;                 // absolute, or "auto"
    std::vector<std::string> args;   // omitted when empty
    std::optional<std::string> cwd;  // omitted
    std::vector<EnvVar> env;         // omitted when empty
    bool operator==(const HandoffInit&) const = default;
};

enum class SecurityProfile : std::uint8_t { kDefault, kRestricted };

// A file our sandbox process places under the guest's /.msb when no runtime share carries it (our extension; upstream
// agents ignore the unknown key). `path` is relative to /.msb, without "..".
struct RuntimeFile {
    std::string path;
    std::uint32_t mode = 0644;
    Bytes content;
    bool operator==(const RuntimeFile&) const = default;
};

struct Bootstrap {
    static constexpr MessageType kType = MessageType::kBootstrap;
    std::optional<BlockRoot> block_root;  // omitted
    std::vector<DirMount> dir_mounts;     // omitted when empty, as are all lists below
    std::vector<FileMount> file_mounts;
    std::vector<DiskMount> disk_mounts;
    std::vector<TmpfsMount> tmpfs_mounts;
    std::optional<std::string> hostname;  // omitted, as are all optionals below
    std::optional<std::string> host_alias;
    std::optional<GuestNetwork> network;
    std::vector<Rlimit> rlimits;
    std::optional<std::string> user;
    std::optional<std::string> default_cwd;
    std::vector<EnvVar> default_env;
    SecurityProfile security_profile = SecurityProfile::kDefault;  // always emitted
    std::optional<HandoffInit> handoff_init;
    // Our extensions, after all upstream keys, omitted when empty/false.
    std::vector<RuntimeFile> runtime_files;
    bool runtime_share =
        false;  // true: /.msb is the virtiofs tag msb_runtime; false: a tmpfs of the guest
    std::vector<std::byte>
        entropy;  // fresh host randomness mixed into the guest's CRNG before anything runs
    bool operator==(const Bootstrap&) const = default;
};

// --- runtime port -----------------------------------------------------------------------------------------------

struct ActivityCounters {
    std::uint64_t host_messages = 0;
    std::uint64_t guest_messages = 0;
    std::uint64_t exec_output_bytes = 0;
    std::uint64_t fs_bytes = 0;
    std::uint64_t tcp_bytes = 0;
    bool operator==(const ActivityCounters&) const = default;
};

// The content of heartbeat.json (spec/protocol.md section 16); the sandbox process writes the file.
struct RuntimeHeartbeat {
    static constexpr MessageType kType = MessageType::kRuntimeHeartbeat;
    std::uint64_t heartbeat_seq = 0;
    std::uint64_t activity_seq = 0;
    std::uint64_t timestamp_ns = 0;      // CLOCK_REALTIME
    std::uint64_t last_activity_ns = 0;  // CLOCK_REALTIME
    std::uint32_t active_exec_sessions = 0;
    std::uint32_t active_fs_streams = 0;
    std::uint32_t active_tcp_streams = 0;
    ActivityCounters activity_counters;
    bool operator==(const RuntimeHeartbeat&) const = default;
};

struct RuntimeCpuTarget {
    static constexpr MessageType kType = MessageType::kRuntimeCpuTarget;
    std::uint32_t online = 1;
    bool operator==(const RuntimeCpuTarget&) const = default;
};

struct RuntimeCpuState {
    static constexpr MessageType kType = MessageType::kRuntimeCpuState;
    std::uint32_t online = 1;
    bool operator==(const RuntimeCpuState&) const = default;
};

// The client that owns the ids in [id_start, id_end_exclusive) does not keep up (or does again): the agent stops (goes on)
// reading what these sessions produce, so that the backlog stays with the producer. Advice: an agent that ignores it is
// held in check by the relay's hard limit.
struct RuntimeFlow {
    static constexpr MessageType kType = MessageType::kRuntimeFlow;
    std::uint32_t id_start = 0;
    std::uint32_t id_end_exclusive = 0;
    bool paused = false;
    bool operator==(const RuntimeFlow&) const = default;
};

}  // namespace msb::protocol
