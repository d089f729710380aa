#!/usr/bin/python3
"""Runs ctest and tells what failed, shortly.

usage: run_ctest.py BUILD_DIR [ctest option...]

One line per test as it ends. At the end, for every test that failed, the part of its output that says why: of a GoogleTest
program the failed cases, of pytest the failures with short tracebacks, of anything else the last lines; at most
REPORT_LINES lines each. The whole outputs are in BUILD_DIR/Testing/Temporary/LastTest.log. When the run is terminated
(a stage over its time), the tests that had not ended are named. Exits as ctest does.
"""

import os
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

REPORT_LINES = 60  # of one test program
CASE_LINES = 12  # of one case at least, when many failed
LONGEST_LINE = 400  # characters

PYTEST_CASE = re.compile(r"_{3,} (.+?) _{3,}")
GTEST_RUN = re.compile(r"\[ RUN      \] (\S+)")
GTEST_FAILED = re.compile(r"\[  FAILED  \] (\S+?),? .*\(\d+ ms\)")
GTEST_END = re.compile(r"\[ +(OK|FAILED|SKIPPED) +\] \S+.*\(\d+ ms\)")


def shortened(lines, limit):
    """At most `limit` lines: where a failure starts and where it ends say most."""
    lines = [line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + " [...]" for line in lines]
    if len(lines) <= limit:
        return lines
    head = limit // 2
    tail = limit - head - 1
    return lines[:head] + [f"    [... {len(lines) - head - tail} lines ...]"] + lines[len(lines) - tail:]


def gtest_failures(lines):
    """The lines of each failed case; a case that never ended (a crash, a hang) is one."""
    cases, current = [], None
    for line in lines:
        if GTEST_RUN.match(line):
            current = [line]
        elif current is not None:
            current.append(line)
            if GTEST_END.match(line):
                if GTEST_FAILED.match(line):
                    cases.append(current)
                current = None
    if current is not None:
        cases.append(current)
    return cases


def pytest_failures(lines):
    """The lines of each failure and error, without what it printed and logged meanwhile being cut off."""
    cases, current = [], None
    for line in lines:
        if re.match(r"=+ (short test summary info|warnings summary) =+", line) or re.match(r"\d+ (failed|passed|error)", line):
            current = None
        elif PYTEST_CASE.fullmatch(line):
            current = [line]
            cases.append(current)
        elif current is not None:
            current.append(line)
    return cases


def failure_text(output):
    """The part of a failed test program's output that says why it failed."""
    lines = output.rstrip("\n").split("\n")
    cases = gtest_failures(lines) or pytest_failures(lines)
    if not cases:
        return shortened(lines[-REPORT_LINES:], REPORT_LINES)
    share = max(CASE_LINES, REPORT_LINES // len(cases))
    shown = [line for case in cases[: REPORT_LINES // share] for line in shortened(case, share)]
    for case in cases[REPORT_LINES // share:]:
        shown.append(f"also failed: {case[0]}")
    return shortened(shown, 2 * REPORT_LINES)


def report(junit, verdicts):
    """Prints why each failed test of a finished run failed."""
    for case in ElementTree.parse(junit).iter("testcase"):
        if case.get("status") == "run":
            continue
        print(f"\n---- {case.get('name')}: {verdicts.get(case.get('name'), 'not run')}")
        print("\n".join(failure_text(case.findtext("system-out") or "")))


class Run:
    """ctest as a child, its progress on our standard output."""

    def __init__(self, build, options):
        self.junit = os.path.join(build, "Testing", "junit.xml")
        if os.path.exists(self.junit):
            os.unlink(self.junit)
        self.unfinished = []
        self.verdicts = {}  # of the failed: "Failed    1.2 sec", "Timeout 300.0 sec", ...
        self.terminated = False
        environment = {**os.environ, "PYTEST_ADDOPTS": os.environ.get("PYTEST_ADDOPTS", "--tb=short")}
        self.process = subprocess.Popen(
            ["ctest", "--test-dir", build, "--no-tests=error", "--output-junit", os.path.abspath(self.junit),
             "--test-output-size-failed", "4000000", "--test-output-truncation", "middle", *options],
            stdout=subprocess.PIPE, text=True, errors="replace", env=environment)
        signal.signal(signal.SIGTERM, self.terminate)

    def terminate(self, *_):
        self.terminated = True
        self.process.terminate()

    def follow(self):
        for line in self.process.stdout:
            started = re.match(r"\s*Start +\d+: (\S+)", line)
            ended = re.match(r"\s*\d+/\d+ Test +#\d+: (\S+)", line)
            if started:
                self.unfinished.append(started[1])
                continue
            if ended and ended[1] in self.unfinished:
                self.unfinished.remove(ended[1])
            if ended and "***" in line:
                self.verdicts[ended[1]] = re.sub(r"\s+", " ", line.split("***", 1)[1].strip())
            if line.strip() and not line.startswith(("Internal ctest", "Output from these tests", "Use \"--rerun")):
                print(line, end="", flush=True)
        return self.process.wait()


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__.split("\n\n")[1])
    run = Run(sys.argv[1], sys.argv[2:])
    status = run.follow()
    if run.terminated:
        print(f"terminated while these ran: {' '.join(run.unfinished)}")
        return 128 + signal.SIGTERM
    if status != 0 and os.path.exists(run.junit):
        report(run.junit, run.verdicts)
        print(f"\nwhole outputs: {sys.argv[1]}/Testing/Temporary/LastTest.log")
    return status


if __name__ == "__main__":
    sys.exit(main())
