"""Upstream's msb 0.6.18, from npm."""

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
