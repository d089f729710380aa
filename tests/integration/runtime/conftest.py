import os
import pathlib
import shutil
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parents[2]
sys.path.insert(0, str(SOURCE / "tests/lib"))

import sandbox_launcher  # noqa: E402

BUILD = pathlib.Path(os.environ.get("MSB_BUILD_DIR", SOURCE / "build"))
PROGRAM = str(BUILD / "tests/msb_sandbox_process")
SEED = str(BUILD / "tests/seed_sandbox")
os.environ.setdefault("MSB_KERNEL", str(BUILD / "lib/microsandbox/vmlinux"))
os.environ.setdefault("MSB_INITRAMFS", str(BUILD / "lib/microsandbox/initramfs.cpio"))
os.environ.setdefault("MSB_ACCEL", "tcg")
BUSYBOX = os.environ.get("MSB_TEST_ROOT", str(BUILD / "share/microsandbox/busybox.raw"))


@pytest.fixture
def home():
    home = sandbox_launcher.Home(SEED)
    yield home
    home.close()


@pytest.fixture
def program():
    return PROGRAM


@pytest.fixture
def root(home):
    """A launch document's rootfs: a private copy of the demo root."""
    disk = f"{home.path}/root.raw"
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", BUSYBOX, disk], check=True)
    return {"path": None, "follow_root_symlinks": False, "disk": disk, "disk_format": "raw",
            "disk_readonly": False, "upper": None}


@pytest.fixture
def machine(home, root, program):
    """machine(name, spawn and config changes) boots a sandbox and returns (sandbox, connected client)."""

    def boot(name="demo", ephemeral=False, connect=True, config=None, **options):
        sandbox = home.sandbox(name, ephemeral)
        sandbox.spawn(program, sandbox.config(rootfs=root, **(config or {})), **options)
        return sandbox, sandbox.connect() if connect else None

    return boot
