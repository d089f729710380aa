// What `msb doctor` looks at and what it finds (spec/cli.md section 10.2). Only looks; fixing is doctor.cpp's.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace msb::cli {

enum class Verdict { kGood, kNotice, kBad };

struct DoctorRow {
    Verdict verdict = Verdict::kGood;
    std::string label;  // at most 12 columns
    std::string text;
};

// Commands that repair a finding; run one after another, through sudo when not root.
struct Fix {
    std::string title;  // "install QEMU"
    std::vector<std::vector<std::string>> commands;
};

// Something to tell: an advisory (sandboxes run anyway) or a problem (they do not).
struct Finding {
    bool problem = false;
    std::string title;
    std::vector<std::string> lines;
    std::optional<Fix> fix;
};

struct Diagnosis {
    std::vector<DoctorRow> rows;
    std::vector<Finding> findings;
    bool healthy() const;
};

// Boots a tiny guest when the accelerator has not been tried yet (seconds at most).
Diagnosis diagnose();

// The flag of /proc/cpuinfo that means hardware virtualisation: "vmx", "svm" or "".
std::string cpu_virtualization(const std::string& cpuinfo);

}  // namespace msb::cli
