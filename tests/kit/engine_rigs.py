"""The engine contract's set-up: one Docker, real or simulated, seen by two owners."""

import asyncio
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web
from docker.errors import NotFound

from events.labels import LABEL_EFFECT, LABEL_OWNER
from service.adapters.docker_engine import DockerEngine
from service.ports import ContainerEngine
from tests.kit.busybox import busybox_rootfs
from tests.kit.dockerd import PrivateDockerd
from tests.kit.host_ports import free_port
from tests.kit.simulated_engine import SimulatedEngine
from tests.kit.simulated_world import World

OWNER = "contract"
OTHER_OWNER = "somebody-else"
IMAGE = "busybox:test"
FILE_OF_IMAGE = "/etc/group"
FOREVER = ("sleep", "600")
LIMITS = ("Memory", "MemorySwap", "NanoCpus", "PidsLimit")
NO_TAG = "<none>:<none>"
"""How Docker lists an image without a name (before 25.0)."""

EMPTY_LAYER = bytes(1024)
"""A tar without members."""


@dataclass
class EngineRig:
    """`engine` is under test; `other` is another installation on the same Docker."""

    engine: ContainerEngine
    other: ContainerEngine
    real: bool
    pullable: str
    """An image that can be fetched; `not_pullable` cannot."""
    not_pullable: str
    limits_of: Callable[[str], Mapping[str, int]]
    """What Docker has noted for a container: those of LIMITS, 0 where there is none. Blocks."""
    make_deep: Callable[[str, int], None]
    """Make an image, by its name, on IMAGE with so many layers in all. Blocks."""
    go_away: Callable[[], Any]
    """Docker stops answering, without having stopped its containers; `come_back` undoes it."""
    come_back: Callable[[], Any]


def body(
    cmd: tuple[str, ...] = FOREVER,
    *,
    owner: str = OWNER,
    effect: str = "effect-1",
    image: str = IMAGE,
    env: tuple[str, ...] = (),
    labels: Mapping[str, str] | None = None,
    **host: Any,
) -> dict[str, Any]:
    """A container as POST /containers/create takes it; `host` is its HostConfig."""
    return {
        "Image": image,
        "Cmd": list(cmd),
        "Env": list(env),
        "Labels": {LABEL_OWNER: owner, LABEL_EFFECT: effect, **(labels or {})},
        "ExposedPorts": {port: {} for port in host.get("PortBindings", {})},
        "HostConfig": {"Init": True, **host},
    }


def simulated_rig() -> EngineRig:
    """Nothing real at all."""
    world = World(images=[IMAGE], registry=["pullable:1"])
    world.images[IMAGE].files[FILE_OF_IMAGE] = b"root:x:0:\n"
    engine = SimulatedEngine(world, owner=OWNER)

    async def set_down(down: bool) -> None:
        engine.down = down

    def make_deep(name: str, layers: int) -> None:
        below = world.images[IMAGE].layers
        digest = world.digest("sha256:")
        more = tuple(f"{digest}-{number}" for number in range(layers - len(below)))
        world.images[name] = replace(world.images[IMAGE], id=digest, layers=below + more)

    return EngineRig(
        engine=engine,
        other=SimulatedEngine(world, owner=OTHER_OWNER),
        real=False,
        pullable="pullable:1",
        not_pullable="absent:1",
        limits_of=lambda name: _limits(world.containers[name].host),
        make_deep=make_deep,
        go_away=lambda: set_down(True),
        come_back=lambda: set_down(False),
    )


def docker_rig(dockerd: PrivateDockerd, registry_port: int) -> EngineRig:
    """On a private Docker, with a registry on this port of the loopback."""

    def limits_of(name: str) -> Mapping[str, int]:
        with dockerd.client() as client:
            return _limits(client.api.inspect_container(name)["HostConfig"])

    def make_deep(name: str, layers: int) -> None:
        with dockerd.client() as client:
            base = client.api.inspect_image(IMAGE)["RootFS"]["Layers"]
            list(client.api.load_image(_deep_image(name, base, layers)))

    return EngineRig(
        engine=DockerEngine(dockerd.url, owner=OWNER),
        other=DockerEngine(dockerd.url, owner=OTHER_OWNER),
        real=True,
        pullable=f"127.0.0.1:{registry_port}/busybox:pulled",
        not_pullable=f"127.0.0.1:{registry_port}/absent:1",
        limits_of=limits_of,
        make_deep=make_deep,
        go_away=lambda: asyncio.to_thread(dockerd.kill),
        come_back=lambda: asyncio.to_thread(dockerd.start),
    )


def clear(dockerd: PrivateDockerd) -> None:
    """Remove every container and volume, and every image but busybox's own name."""
    with dockerd.client() as client:
        for container in client.api.containers(all=True):
            client.api.remove_container(container["Id"], force=True, v=True)
        for volume in client.api.volumes()["Volumes"] or ():
            client.api.remove_volume(volume["Name"])
        for image in client.api.images():
            for tag in image["RepoTags"] or ():
                if tag not in (IMAGE, NO_TAG):
                    client.api.remove_image(tag, force=True)
        # Removed along with what lay on it, unless it was left without a name before.
        for image in client.api.images(filters={"dangling": True}):
            with suppress(NotFound):
                client.api.remove_image(image["Id"], force=True)


@asynccontextmanager
async def engine_rig(dockerd: PrivateDockerd | None) -> AsyncIterator[EngineRig]:
    """The rig on this Docker, or the simulated one, and its end."""
    if dockerd is None:
        yield simulated_rig()
        return
    runner = web.AppRunner(registry())
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    made = docker_rig(dockerd, port)
    try:
        yield made
    finally:
        for engine in (made.engine, made.other):
            await engine.close()  # type: ignore[attr-defined]
        await runner.cleanup()
        await asyncio.to_thread(clear, dockerd)


def _limits(host: Mapping[str, Any]) -> Mapping[str, int]:
    return {limit: int(host.get(limit) or 0) for limit in LIMITS}


def _deep_image(name: str, base: Sequence[str], layers: int) -> bytes:
    """For `docker load`: an image with empty layers on those of the image that it has already."""
    more = layers - len(base)
    rootfs = {"type": "layers", "diff_ids": [*base, *[_digest(EMPTY_LAYER)] * more]}
    config = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]}, "rootfs": rootfs}
    names = ["not-sent"] * len(base) + ["layer.tar"] * more
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": names}]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for file, content in (
            ("layer.tar", EMPTY_LAYER),
            ("config.json", json.dumps(config).encode()),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            entry = tarfile.TarInfo(file)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def registry() -> web.Application:
    """A registry (API v2, read only) that has the image `busybox:pulled` and nothing else."""
    layer = gzip.compress(busybox_rootfs(), compresslevel=1, mtime=0)
    diff_id = _digest(busybox_rootfs())
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        }
    ).encode()
    docker_type = "application/vnd.docker"
    manifest_type = f"{docker_type}.distribution.manifest.v2+json"
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": _part(f"{docker_type}.container.image.v1+json", config),
            "layers": [_part(f"{docker_type}.image.rootfs.diff.tar.gzip", layer)],
        }
    ).encode()
    blobs = {_digest(blob): blob for blob in (config, layer)}

    async def hello(_: web.Request) -> web.Response:
        return web.json_response({})

    async def get_manifest(request: web.Request) -> web.Response:
        reference = request.match_info["reference"]
        if request.match_info["name"] != "busybox" or reference not in (
            "pulled",
            _digest(manifest),
        ):
            error = {"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}
            return web.json_response({"errors": [error]}, status=404)
        headers = {"Docker-Content-Digest": _digest(manifest)}
        return web.Response(body=manifest, content_type=manifest_type, headers=headers)

    async def get_blob(request: web.Request) -> web.Response:
        return web.Response(body=blobs[request.match_info["digest"]])

    app = web.Application()
    app.router.add_get("/v2/", hello)
    app.router.add_get("/v2/{name}/manifests/{reference}", get_manifest)
    app.router.add_get("/v2/{name}/blobs/{digest}", get_blob)
    return app


def _part(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "size": len(blob), "digest": _digest(blob)}


def _digest(blob: bytes) -> str:
    return "sha256:" + hashlib.sha256(blob).hexdigest()
