// Encoding and decoding of stdout frames, each beside a memcpy of the same bytes in the same run: the counter
// "vs_memcpy" is the ratio of the two speeds (budget: at least 1 GB/s for 64 KiB frames, DESIGN.md section 7).
#include <chrono>
#include <cstring>
#include <vector>

#include <benchmark/benchmark.h>

#include "protocol/codec.h"

namespace {

using namespace msb::protocol;
using Clock = std::chrono::steady_clock;

// Enough frames for the working set to leave the inner caches, as on a busy relay.
constexpr std::size_t kFramesPerRound = 16;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

std::vector<std::byte> frames_of(std::size_t data_size) {
    const std::vector<std::byte> data(data_size, std::byte{'x'});
    ByteBuffer stream;
    for (std::size_t i = 0; i < kFramesPerRound; ++i)
        if (!append_frame(stream, 33554432, ExecStdout{Bytes::view(data)})) std::abort();
    return stream;
}

// Runs `round` and a memcpy of `bytes` bytes alternately and reports both.
template <class Round>
void compare_with_memcpy(benchmark::State& state, std::size_t bytes, Round round) {
    std::vector<std::byte> from(bytes, std::byte{1});
    std::vector<std::byte> to(bytes);
    double copy_seconds = 0;
    double round_seconds = 0;
    for (auto _ : state) {
        const auto copy_start = Clock::now();
        std::memcpy(to.data(), from.data(), bytes);
        benchmark::DoNotOptimize(to.data());
        benchmark::ClobberMemory();
        copy_seconds += seconds_since(copy_start);
        const auto start = Clock::now();
        round();
        benchmark::ClobberMemory();
        const double elapsed = seconds_since(start);
        round_seconds += elapsed;
        state.SetIterationTime(elapsed);
    }
    const double total = static_cast<double>(bytes) * static_cast<double>(state.iterations());
    state.counters["GB/s"] = total / round_seconds / 1e9;
    state.counters["vs_memcpy"] = copy_seconds / round_seconds;
}

void encode(benchmark::State& state) {
    const auto size = static_cast<std::size_t>(state.range(0));
    const std::vector<std::byte> data(size, std::byte{'x'});
    ByteBuffer out;
    compare_with_memcpy(state, size * kFramesPerRound, [&] {
        out.clear();
        for (std::size_t i = 0; i < kFramesPerRound; ++i)
            if (!append_frame(out, 33554432, ExecStdout{Bytes::view(data)})) std::abort();
        benchmark::DoNotOptimize(out.data());
    });
}

// What a client does with bytes a read(2) put into the reader's buffer: the copy stands for the read.
void decode(benchmark::State& state) {
    const auto size = static_cast<std::size_t>(state.range(0));
    const auto stream = frames_of(size);
    FrameReader reader;
    compare_with_memcpy(state, stream.size(), [&] {
        reader.append(stream);
        std::size_t bytes = 0;
        while (const auto frame = reader.next()) {
            const auto envelope = decode_envelope(frame->body);
            const auto message = decode_payload<ExecStdout>(envelope->payload.span());
            bytes += message->data.size();
        }
        if (bytes != size * kFramesPerRound) std::abort();
    });
}

// The same in pieces that never end where a frame does.
void decode_split(benchmark::State& state) {
    const auto size = static_cast<std::size_t>(state.range(0));
    const auto stream = frames_of(size);
    constexpr std::size_t kPiece = 61'441;
    FrameReader reader;
    compare_with_memcpy(state, stream.size(), [&] {
        std::size_t bytes = 0;
        for (std::size_t at = 0; at < stream.size(); at += kPiece) {
            reader.append(ByteView(stream).subspan(at, std::min(kPiece, stream.size() - at)));
            while (const auto frame = reader.next()) {
                const auto envelope = decode_envelope(frame->body);
                bytes += decode_payload<ExecStdout>(envelope->payload.span())->data.size();
            }
        }
        if (bytes != size * kFramesPerRound) std::abort();
    });
}

// The head of a frame whose bytes go out by writev: a rate, not a bandwidth.
void encode_head(benchmark::State& state) {
    ByteBuffer out;
    for (auto _ : state) {
        out.clear();
        if (!append_data_frame_head(out, 33554432, MessageType::kExecStdout, 65'536)) std::abort();
        benchmark::DoNotOptimize(out.data());
    }
    state.SetItemsProcessed(state.iterations());
}

BENCHMARK(encode)->Arg(4096)->Arg(65'536)->UseManualTime();
BENCHMARK(decode)->Arg(4096)->Arg(65'536)->UseManualTime();
BENCHMARK(decode_split)->Arg(4096)->Arg(65'536)->UseManualTime();
BENCHMARK(encode_head);

}  // namespace
