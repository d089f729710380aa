"""Upstream's msb 0.6.18, from npm."""

import os
import pathlib
import subprocess
import tarfile

PACKAGE = "@superradcompany/microsandbox-linux-x64-gnu@0.6.18"


def fetch(directory):
    """Unpacks the package into `directory`; the path of its msb. npm keeps what it has downloaded."""
    name = subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=directory, check=True, stdout=subprocess.PIPE,
                          text=True).stdout.split()[-1]
    with tarfile.open(pathlib.Path(directory) / name) as package:
        package.extractall(directory)
    return str(pathlib.Path(directory) / "package/bin/msb")


def programs(argv, directory):
    """(our msb, upstream's or None) from a command line "[MSB [UPSTREAM_MSB]]": MSB is $MSB_BUILD_DIR/bin/msb when it is
    not given, UPSTREAM_MSB is $MSB_BENCH_UPSTREAM, and "npm" means to fetch it into `directory`."""
    ours = argv[1] if len(argv) > 1 else f"{os.environ['MSB_BUILD_DIR']}/bin/msb"
    other = argv[2] if len(argv) > 2 else os.environ.get("MSB_BENCH_UPSTREAM")
    return ours, fetch(directory) if other == "npm" else other
