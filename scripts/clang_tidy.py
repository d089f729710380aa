#!/usr/bin/python3
"""Runs clang-tidy over the files of a compilation database, several at a time, and remembers what passed.

usage: clang_tidy.py [--build DIR] [--jobs N] [--no-cache] [--tests] [FILE...]

Without names: every source file of the product. The tests are left out unless --tests asks for them;
their macros take the tool longer than all the code they test.

A file that passed is not checked again until something it depends on changes: the key of the cache
entry covers the file, the project's headers it includes (content), other headers (path, size, time),
its compile command, .clang-tidy and the version of clang-tidy. The headers come from ninja's
dependency log, or from the compiler where the file has not been built. Entries are empty files in
${XDG_CACHE_HOME:-~/.cache}/microsandbox/lint; only passes are remembered.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import time

TOOL = "clang-tidy-19"
# Flags of GCC's that clang does not know; the analyzer's quick mode (see .clang-tidy).
EXTRA_ARGS = [f"--extra-arg={a}" for a in
              ("-Wno-unknown-warning-option", "-Xclang", "-analyzer-config", "-Xclang", "mode=shallow")]
KEEP_SECONDS = 30 * 24 * 3600


def fail(*lines):
    for line in lines:
        print(f"clang-tidy: error: {line}", file=sys.stderr)
    sys.exit(1)


def ninja_deps(build):
    """Object path (relative to the build folder) -> files it was made of, from ninja's log."""
    result = subprocess.run(["ninja", "-C", build, "-t", "deps"], capture_output=True, text=True)
    deps, current = {}, None
    for line in result.stdout.splitlines():
        if line.startswith("    "):
            current.append(line.strip())
        elif ": #deps" in line:
            current = [] if "(VALID)" in line else None
            if current is None:
                current = []  # stale entry: collected and thrown away
            else:
                deps[line.split(": #deps")[0]] = current
    return deps


def compiler_deps(args, directory):
    """The same from the compiler, for a file that ninja has not built yet."""
    command = [a for i, a in enumerate(args) if a not in ("-c", "-o") and (i == 0 or args[i - 1] != "-o")]
    result = subprocess.run(command + ["-M"], cwd=directory, capture_output=True, text=True)
    if result.returncode != 0:
        return None  # clang-tidy will say what is wrong with it
    return result.stdout.replace("\\\n", " ").split(":", 1)[1].split()


class Cache:
    def __init__(self, root, enabled):
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        self.path = os.path.join(base, "microsandbox", "lint")
        self.root, self.enabled = root, enabled
        self.hashes = {}
        with open(os.path.join(root, ".clang-tidy"), "rb") as file:
            config = file.read()
        version = subprocess.run([TOOL, "--version"], capture_output=True, check=True).stdout
        self.common = hashlib.sha256(config + version + " ".join(EXTRA_ARGS).encode()).hexdigest()
        if enabled:
            os.makedirs(self.path, exist_ok=True)
            limit = time.time() - KEEP_SECONDS
            for entry in os.scandir(self.path):
                if entry.stat().st_mtime < limit:
                    os.unlink(entry.path)

    def fingerprint(self, path):
        if path not in self.hashes:
            if path.startswith(self.root + os.sep):
                with open(path, "rb") as file:
                    self.hashes[path] = hashlib.sha256(file.read()).hexdigest()
            else:
                status = os.stat(path)
                self.hashes[path] = f"{status.st_size} {status.st_mtime_ns}"
        return self.hashes[path]

    def key(self, unit, deps):
        if deps is None:
            return None
        digest = hashlib.sha256(self.common.encode())
        # The compile command names the checkout; a second checkout of the same content may share.
        digest.update(unit["command"].replace(self.root, ".").encode())
        try:
            for dep in sorted({os.path.normpath(os.path.join(unit["directory"], d)) for d in deps} | {unit["file"]}):
                digest.update(f"\n{os.path.relpath(dep, self.root)} {self.fingerprint(dep)}".encode())
        except OSError:
            return None
        return digest.hexdigest()

    def has(self, key):
        if not self.enabled or key is None:
            return False
        try:
            os.utime(os.path.join(self.path, key))
            return True
        except OSError:
            return False

    def add(self, key):
        if self.enabled and key is not None:
            open(os.path.join(self.path, key), "w").close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--no-cache", action="store_true", help="check every file again")
    parser.add_argument("--tests", action="store_true", help="the tests and benchmarks too")
    parser.add_argument("files", nargs="*", help="only these source files")
    options = parser.parse_args()

    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    build = os.path.join(root, options.build)
    try:
        with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
            database = json.load(file)
    except FileNotFoundError:
        fail(f"{options.build}/compile_commands.json is missing", "configure first: cmake --preset release")

    left_out = () if options.tests or options.files else tuple(os.path.join(root, d) + os.sep for d in ("tests", "bench"))
    units = {}
    wanted = {os.path.abspath(f) for f in options.files}
    for unit in database:
        unit["file"] = os.path.normpath(os.path.join(unit["directory"], unit["file"]))
        # Generated sources are nobody's to mend; a file built for two targets is checked once.
        if unit["file"].startswith(root + os.sep) and not unit["file"].startswith((build + os.sep, *left_out)):
            if not wanted or unit["file"] in wanted:
                units.setdefault(unit["file"], unit)
    for missing in sorted(wanted - units.keys()):
        fail(f"{missing} is not in {options.build}/compile_commands.json")

    cache = Cache(root, not options.no_cache)
    known = ninja_deps(build) if cache.enabled else {}

    def check(unit):
        args = shlex.split(unit["command"])
        unit["command"] = " ".join(args)
        key = None
        if cache.enabled:
            output = args[args.index("-o") + 1] if "-o" in args else ""
            output = os.path.relpath(os.path.join(unit["directory"], output), build)
            deps = known.get(output)
            key = cache.key(unit, deps if deps is not None else compiler_deps(args, unit["directory"]))
        if cache.has(key):
            return unit["file"], None, 0.0
        start = time.monotonic()
        result = subprocess.run(
            [TOOL, "-p", build, "--quiet", *EXTRA_ARGS, unit["file"]],
            cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if result.returncode == 0:
            cache.add(key)
            return unit["file"], None, time.monotonic() - start
        # Standard error is a count of suppressed warnings, unless the tool itself could not work.
        return unit["file"], result.stdout.strip() or result.stderr.strip(), time.monotonic() - start

    failed, times, shown = [], [], set()
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for name, output, seconds in pool.map(check, units.values()):
            if seconds > 0:
                times.append((seconds, name))
            if output is not None:
                failed.append(name)
                # What a header is guilty of turns up in every file that includes it: say it once.
                for finding in re.split(r"^(?=/\S+:\d+:\d+: (?:error|warning):)", output, flags=re.M):
                    finding = re.sub(r"^note: this fix will not be applied.*\n?", "", finding, flags=re.M).strip()
                    if finding and finding not in shown:
                        shown.add(finding)
                        print(finding.replace(root + os.sep, ""), flush=True)
    times.sort(reverse=True)
    print(f"clang-tidy: {len(units)} files, {len(times)} checked, {len(units) - len(times)} from the cache, "
          f"{time.monotonic() - start:.0f} s")
    if times:
        print("clang-tidy: slowest: " + ", ".join(f"{os.path.relpath(n, root)} {s:.0f} s" for s, n in times[:5]))
    if failed:
        fail(f"{len(failed)} files have findings (above): mend them, or silence one with NOLINT and a reason",
             *(f"  {os.path.relpath(name, root)}" for name in failed))


if __name__ == "__main__":
    main()
