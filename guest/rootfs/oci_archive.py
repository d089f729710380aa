#!/usr/bin/env python3
"""Packs a folder tree as an image of one layer: an OCI layout in a tar, as `msb load` and `skopeo` take it.

usage: oci_archive.py FOLDER OUT.tar NAME [KEY=VALUE...]

The same tree gives the same bytes: entries are sorted, owners are root, time stamps are the tree's own. NAME becomes the
image's reference. KEY=VALUE are entries of the image's configuration, VALUE in JSON: Cmd=["sh"].
"""

import gzip
import hashlib
import io
import json
import os
import platform
import sys
import tarfile

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def layer(folder):
    """The tree as a plain tar, bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for directory, names, files in os.walk(folder):
            names.sort()
            links = [name for name in names if os.path.islink(os.path.join(directory, name))]
            for name in sorted(links + files) if directory != folder else ["."] + sorted(links + files):
                add(tar, folder, os.path.join(directory, name) if name != "." else folder)
            for name in names:
                if name not in links:
                    add(tar, folder, os.path.join(directory, name))
    return out.getvalue()


def add(tar, folder, path):
    info = tar.gettarinfo(path, arcname=os.path.relpath(path, folder))
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = int(info.mtime)
    with open(path, "rb") if info.isreg() else io.BytesIO() as content:
        tar.addfile(info, content if info.isreg() else None)


class Layout:
    """Blobs by digest, then one tar."""

    def __init__(self):
        self.files = {"oci-layout": json.dumps({"imageLayoutVersion": "1.0.0"}).encode()}

    def blob(self, media_type, data):
        digest = hashlib.sha256(data).hexdigest()
        self.files[f"blobs/sha256/{digest}"] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def write(self, path):
        with open(f"{path}.part", "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
            for name in sorted(self.files):
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(self.files[name]), 0o644
                tar.addfile(info, io.BytesIO(self.files[name]))
        os.rename(f"{path}.part", path)


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    folder, out, name = sys.argv[1:4]
    config = {key: json.loads(value) for key, value in (word.split("=", 1) for word in sys.argv[4:])}
    host = {"architecture": ARCHITECTURES[platform.machine()], "os": "linux"}
    plain = layer(folder)
    layout = Layout()
    kind = "application/vnd.oci.image."
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind + "manifest.v1+json",
        "config": layout.blob(kind + "config.v1+json", json.dumps({
            **host, "config": config,
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(plain).hexdigest()]},
        }).encode()),
        "layers": [layout.blob(kind + "layer.v1.tar+gzip", gzip.compress(plain, 9, mtime=0))],
    }
    described = layout.blob(manifest["mediaType"], json.dumps(manifest).encode())
    described["platform"] = host
    described["annotations"] = {"org.opencontainers.image.ref.name": name}
    layout.files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [described]}).encode()
    layout.write(out)


if __name__ == "__main__":
    main()
