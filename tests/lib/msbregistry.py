"""Debian's docker-registry on loopback, and images to put into it."""

import gzip
import hashlib
import http.server
import io
import json
import os
import random
import re
import subprocess
import shutil
import tarfile
import tempfile
import threading
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # until Debian 13: it is all that bookworm needs for bcrypt
    import crypt


class Registry:
    """A registry with an empty store in a temporary directory; gone, with its store, at the end of the `with` block.

    tls: (certificate, key) files. user: (name, password) for basic authentication.
    """

    def __init__(self, tls=None, user=None):
        self.directory = tempfile.mkdtemp(prefix="msb-registry-")
        self.tls, self.user = tls, user
        config = {
            "version": "0.1",
            "log": {"level": "info"},
            "storage": {"filesystem": {"rootdirectory": f"{self.directory}/store"}, "delete": {"enabled": True}},
            "http": {"addr": "127.0.0.1:0", "secret": "test"},
        }
        if tls:
            config["http"]["tls"] = {"certificate": tls[0], "key": tls[1]}
        if user:
            with open(f"{self.directory}/htpasswd", "w") as file:
                salt = crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)
                file.write(f"{user[0]}:{crypt.crypt(user[1], salt)}\n")
            config["auth"] = {"htpasswd": {"realm": "test", "path": f"{self.directory}/htpasswd"}}
        path = f"{self.directory}/config.yml"
        with open(path, "w") as file:
            json.dump(config, file)  # JSON is YAML
        self.process = subprocess.Popen(["docker-registry", "serve", path], stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True)
        for line in self.process.stdout:
            if found := re.search(r"listening on (127\.0\.0\.1:\d+)", line):
                self.host = found[1]
                break
        else:
            raise RuntimeError("docker-registry did not start")
        # It must not block on a full pipe.
        self.drain = subprocess.Popen(["cat"], stdin=self.process.stdout, stdout=subprocess.DEVNULL)
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.drain.wait()
        shutil.rmtree(self.directory)

    def push(self, layout, name):
        """Pushes an OCI layout directory as `name` ("repo:tag")."""
        command = ["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "--preserve-digests"]
        if self.user:
            command += ["--dest-creds", ":".join(self.user)]
        subprocess.run([*command, f"oci:{layout}", f"docker://{self.host}/{name}"], check=True,
                       stdout=subprocess.DEVNULL)


class TarLayer:
    """A tar being written, entry by entry."""

    def __init__(self, form=tarfile.PAX_FORMAT):
        self.out = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.out, mode="w", format=form, encoding="utf-8", errors="surrogateescape")

    def add(self, name, kind=tarfile.REGTYPE, data=b"", **fields):
        """`fields` are attributes of tarfile.TarInfo; the mode is 0644 unless they say."""
        member = tarfile.TarInfo(name)
        member.type, member.size, member.mtime = kind, len(data), 1_700_000_000
        for field, value in fields.items():
            setattr(member, field, value)
        self.tar.addfile(member, io.BytesIO(data))
        return self

    def bytes(self):
        self.tar.close()
        return self.out.getvalue()


def make_tar(members):
    """A tar of {name: bytes, (mode, bytes), None for a directory, or a str for a symbolic link}."""
    layer = TarLayer()
    for name, content in members.items():
        if content is None:
            layer.add(name, tarfile.DIRTYPE, mode=0o755)
        elif isinstance(content, str):
            layer.add(name, tarfile.SYMTYPE, linkname=content)
        elif isinstance(content, tuple):
            layer.add(name, data=content[1], mode=content[0])
        else:
            layer.add(name, data=content)
    return layer.bytes()


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Layout:
    """An OCI layout being written. Layers are given as tars and stored as gzip (or as they are)."""

    def __init__(self, directory):
        self.directory = directory
        os.makedirs(f"{directory}/blobs/sha256")

    def blob(self, data):
        with open(f"{self.directory}/blobs/sha256/{digest(data)[7:]}", "wb") as file:
            file.write(data)
        return {"digest": digest(data), "size": len(data)}

    def image(self, tars, config=None, compress=True):
        layers = []
        for tar in tars:
            data = gzip.compress(tar, 6, mtime=0) if compress else tar
            kind = "application/vnd.oci.image.layer.v1.tar" + ("+gzip" if compress else "")
            layers.append({"mediaType": kind, **self.blob(data)})
        text = {"architecture": "amd64", "os": "linux", "config": config or {"Cmd": ["sh"]},
                "rootfs": {"type": "layers", "diff_ids": [digest(tar) for tar in tars]}}
        config_blob = {"mediaType": "application/vnd.oci.image.config.v1+json",
                       **self.blob(json.dumps(text).encode())}
        manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "config": config_blob, "layers": layers}
        descriptor = {"mediaType": manifest["mediaType"], **self.blob(json.dumps(manifest).encode())}
        with open(f"{self.directory}/index.json", "w") as file:
            json.dump({"schemaVersion": 2, "manifests": [descriptor]}, file)
        with open(f"{self.directory}/oci-layout", "w") as file:
            file.write('{"imageLayoutVersion":"1.0.0"}')
        return descriptor["digest"]


def busybox_tar():
    """A root file system that boots: busybox with all its names, root and nobody."""
    with open("/bin/busybox", "rb") as file:
        members = {"bin": None, "bin/busybox": (0o755, file.read()), "etc": None, "root": None, "tmp": None}
    for applet in subprocess.run(["/bin/busybox", "--list"], check=True, capture_output=True, text=True).stdout.split():
        members.setdefault(f"bin/{applet}", "busybox")
    members["etc/passwd"] = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
    members["etc/group"] = b"root:x:0:\nnogroup:x:65534:\n"
    return make_tar(members)


def random_tree(seed, files, size):
    """Members of a tar: `files` files of up to 2 * `size` bytes in some directories."""
    source = random.Random(seed)
    members = {}
    for i in range(files):
        directory = f"d{seed}-{i % 17}"
        members.setdefault(directory, None)
        members[f"{directory}/f{i}"] = source.randbytes(source.randrange(2 * size))
    return members


def make_certificate(directory):
    """A CA and a certificate of 127.0.0.1 signed by it: (ca, certificate, key)."""
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, cwd=directory, stderr=subprocess.DEVNULL)
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
            "-subj", "/CN=msb test CA", "-addext", "basicConstraints=critical,CA:TRUE")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key", "-out", "server.csr",
            "-subj", "/CN=127.0.0.1")
    with open(f"{directory}/extensions", "w") as file:
        file.write("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", "server.pem", "-days", "2", "-extfile", "extensions")
    return f"{directory}/ca.pem", f"{directory}/server.pem", f"{directory}/server.key"


class GatedRegistry:
    """Serves one OCI layout under every name; each layer stops half-way until its gate is opened."""

    def __init__(self, layout):
        self.layout = layout
        with open(f"{layout}/index.json") as file:
            self.manifest = json.load(file)["manifests"][0]["digest"]
        with open(self.blob(self.manifest)) as file:
            self.layers = [layer["digest"] for layer in json.load(file)["layers"]]
        self.gates = {digest: threading.Event() for digest in self.layers}
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                registry.answer(self)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # clients that went away
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever)

    def blob(self, digest):
        return f"{self.layout}/blobs/sha256/{digest[7:]}"

    def answer(self, request):
        if request.path == "/v2/":
            return self.send(request, b"{}", "application/json")
        kind, name = re.fullmatch(r"/v2/.*/(manifests|blobs)/([^/?]+)", request.path).groups()
        digest = name if name.startswith("sha256:") else self.manifest
        with open(self.blob(digest), "rb") as file:
            data = file.read()
        if kind == "manifests":
            self.send(request, data, json.loads(data)["mediaType"])
        else:
            self.send(request, data, "application/octet-stream", self.gates.get(digest))

    def send(self, request, data, kind, gate=None):
        request.send_response(200)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        half = len(data) // 2 if gate else len(data)
        request.wfile.write(data[:half])
        request.wfile.flush()
        if gate:
            gate.wait()
            request.wfile.write(data[half:])

    def let_through(self, layer):
        self.gates[self.layers[layer]].set()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        for gate in self.gates.values():
            gate.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
