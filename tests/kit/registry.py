"""A registry with one image, on loopback, where Docker needs no TLS: for pulling, for real.

It speaks the part of the distribution API (v2, schema 2) that a pull needs. The layer can be
sent slowly, as from far away, so that there is progress to report.
"""

import gzip
import hashlib
import os
import platform
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

import msgspec

from tests.kit.busybox import busybox_rootfs

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"
PIECES = 40
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class Registry:
    """A context manager, served by threads; `image` is what to pull.

    `seconds` is how long the layer takes on its way.
    """

    def __init__(self, *, seconds: float = 0.0) -> None:
        rootfs = busybox_rootfs()
        # Random bytes behind the end of the archive, so that it does not shrink to nothing.
        layer = gzip.compress(rootfs + os.urandom(8 << 20), compresslevel=1, mtime=0)
        unpacked = gzip.decompress(layer)
        config = msgspec.json.encode(
            {
                "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
                "os": "linux",
                "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"]},
                "rootfs": {"type": "layers", "diff_ids": [_digest(unpacked)]},
            }
        )
        manifest = msgspec.json.encode(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": _descriptor(CONFIG_TYPE, config),
                "layers": [_descriptor(LAYER_TYPE, layer)],
            }
        )
        self.seconds = seconds
        self.blobs = {_digest(config): config, _digest(layer): layer}
        self.manifests = {"latest": manifest, _digest(manifest): manifest}
        self.layer = _digest(layer)
        self._closing = threading.Event()
        registry = self

        class Handler(_Handler):
            pass

        Handler.registry, Handler.closing = registry, self._closing
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.image = f"127.0.0.1:{self._server.server_address[1]}/far/away:latest"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    registry: Registry
    closing: threading.Event
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        parts = self.path.strip("/").split("/")
        if parts == ["v2"]:
            self._send(200, "application/json", b"{}", with_body=with_body)
            return
        found = {"manifests": self.registry.manifests, "blobs": self.registry.blobs}
        body = found.get(parts[-2], {}).get(parts[-1]) if parts[1:3] == ["far", "away"] else None
        if body is None:
            code = "MANIFEST_UNKNOWN" if parts[-2] == "manifests" else "BLOB_UNKNOWN"
            errors = {"errors": [{"code": code, "message": "not here"}]}
            self._send(404, "application/json", msgspec.json.encode(errors), with_body=with_body)
            return
        kind = MANIFEST_TYPE if parts[-2] == "manifests" else "application/octet-stream"
        self._send(200, kind, body, with_body=with_body)

    def _send(self, status: int, kind: str, body: bytes, *, with_body: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.send_header("Docker-Content-Digest", _digest(body))
        self.end_headers()
        if not with_body:
            return
        slow = self.registry.seconds if _digest(body) == self.registry.layer else 0.0
        size = len(body) // PIECES + 1
        for begin in range(0, len(body), size):
            try:
                self.wfile.write(body[begin : begin + size])
            except OSError:  # whoever pulled has given up
                return
            if slow:
                self.closing.wait(slow / PIECES)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the tests' output is for the tests."""


def _digest(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _descriptor(kind: str, body: bytes) -> dict[str, object]:
    return {"mediaType": kind, "size": len(body), "digest": _digest(body)}
