// One request line of the control socket. Every answer is one line of JSON, or none.
#include <cstdlib>

#include "base/json.h"
#include "runtime/control.h"

namespace {

class Target : public msb::runtime::ControlTarget {
  public:
    bool memory_resizable() const override { return true; }
    bool cpu_resizable() const override { return true; }
    msb::runtime::ControlMemory memory() override { return memory_; }
    msb::runtime::ControlCpu cpu() override { return {}; }
    void set_memory(std::uint64_t mib) override { memory_.target_mib = mib; }
    void set_cpus(unsigned) override {}

  private:
    msb::runtime::ControlMemory memory_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Target target;
    const auto answer =
        msb::runtime::handle_control_line({reinterpret_cast<const char*>(data), size}, target);
    if (!answer) return 0;
    if (answer->empty() || answer->find('\n') != answer->size() - 1) std::abort();
    if (!msb::json::parse(*answer).at("ok").is_boolean()) std::abort();
    return 0;
}
