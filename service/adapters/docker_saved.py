"""Images as `docker save` streams them: a tar of their layers' tars and of what belongs to them.

Docker 20.10 calls a layer `<id>/layer.tar`, and one that comes twice is a link the second time;
25.0 and later call it `blobs/sha256/<its digest>`. manifest.json says in both which layers an image
has, the lowest first. The engine sends all layers, whichever are wanted. Everything blocks.
"""

import json
import posixpath
import tarfile
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, Generic, TypeVar, cast

import docker
import requests

from service.adapters import docker_objects as objects
from service.adapters.docker_errors import FOREIGN_ERRORS, map_error
from service.adapters.docker_layers import ENCODING, ERRORS, members, normal
from service.adapters.docker_streams import Listening
from service.errors import EngineUnavailable

SAVE_TIMEOUT_S = 3600.0
"""Between two pieces. Docker 20.10 gathers all on its own disk before it sends the first."""

T = TypeVar("T")

ReadLayer = Callable[[str, IO[bytes]], T]
"""From what a layer is called in the stream, and its tar, to what is kept of it."""

_CONTAINERD_STORE = ["driver-type", "io.containerd.snapshotter.v1"]
"""In the engine's status (docs.docker.com, containerd image store)."""

_MANIFEST = "manifest.json"
_BLOBS = "blobs/sha256/"
_PIECE_BYTES = 1 << 20


class Saved(Generic[T]):
    """What was read: `layers` by diff id, `configs` by image id (`sha256:…` both)."""

    def __init__(self) -> None:
        self.layers: dict[str, T] = {}
        self.configs: dict[str, bytes] = {}

    def holds(self, image_id: str, diff_ids: Sequence[str]) -> bool:
        """Is all of an image there? Not so with containerd's image store."""
        return image_id in self.configs and self.layers.keys() >= set(diff_ids)


def read_saved(
    client: docker.APIClient,
    images: Mapping[str, Sequence[str]],
    read_layer: ReadLayer[T],
    listening: Listening,
) -> Saved[T]:
    """Read images, by id with the diff ids of their layers; layers that they share come once.

    Nothing is read from an engine with containerd's image store, which sends layers compressed.
    Raises EngineUnavailable when the stream ends early, and docker-py's own errors. Whatever else
    `read_layer` raises goes through.
    """
    if _CONTAINERD_STORE in (client.info().get("DriverStatus") or ()):
        return Saved()
    with objects.get_stream(
        client, "/images/get", {"names": list(images)}, SAVE_TIMEOUT_S
    ) as response:
        listening.attach(response)
        try:
            found = _Found(images, read_layer)
            found.read(_Answer(response))
        except tarfile.ReadError as error:
            raise EngineUnavailable(f"Docker did not send the whole image ({error})") from error
        finally:
            listening.detach()
    return found.saved()


class _Found(Generic[T]):
    """What came out of the stream so far, by the names there."""

    def __init__(self, images: Mapping[str, Sequence[str]], read_layer: ReadLayer[T]) -> None:
        self._images = images
        self._read_layer = read_layer
        self._layers: dict[str, T] = {}
        self._links: dict[str, str] = {}
        self._documents: dict[str, bytes] = {}
        digests = {diff_id for diff_ids in images.values() for diff_id in diff_ids}
        self._layer_names = {_BLOBS + _hex(digest) for digest in digests}
        self._document_names = {_MANIFEST}
        for image in images:
            self._document_names |= {f"{_hex(image)}.json", _BLOBS + _hex(image)}

    def read(self, answer: "_Answer") -> None:
        with tarfile.open(
            fileobj=cast("IO[bytes]", answer),
            mode="r|",
            bufsize=_PIECE_BYTES,
            encoding=ENCODING,
            errors=ERRORS,
        ) as tar:
            for member, _ in members(tar):
                self._take(member, tar)

    def _take(self, member: tarfile.TarInfo, tar: tarfile.TarFile) -> None:
        name = normal(member.name)
        if member.issym() or member.islnk():
            folder = posixpath.dirname(name) if member.issym() else ""
            self._links[name] = normal(posixpath.join(folder, member.linkname))
            return
        stream = tar.extractfile(member)
        if stream is None:
            return
        if name in self._document_names:
            self._documents[name] = stream.read()
        elif name in self._layer_names or name.endswith("/layer.tar"):
            self._layers[name] = self._read_layer(name, stream)

    def saved(self) -> Saved[T]:
        if _MANIFEST not in self._documents:
            raise EngineUnavailable("Docker did not send the whole image (no manifest)")
        saved: Saved[T] = Saved()
        manifest: list[dict[str, Any]] = json.loads(self._documents[_MANIFEST])
        for item in manifest:
            config = item["Config"]
            image = "sha256:" + posixpath.basename(config).removesuffix(".json")
            if image not in self._images or config not in self._documents:
                continue
            saved.configs[image] = self._documents[config]
            for diff_id, name in zip(self._images[image], item["Layers"], strict=False):
                there = self._links.get(name, name)
                if there in self._layers:
                    saved.layers[diff_id] = self._layers[there]
        return saved


class _Answer:
    """The body of an answer as tarfile reads it. Raises our errors, which are no OSError."""

    def __init__(self, response: requests.Response) -> None:
        self._raw = response.raw

    def read(self, size: int) -> bytes:
        try:
            piece: bytes = self._raw.read(size)
        except FOREIGN_ERRORS as error:
            raise map_error(error) from error
        return piece


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")
