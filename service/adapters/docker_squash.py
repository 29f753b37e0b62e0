"""Making one layer of all that an image has above its base, through the engine's API alone.

A commit adds a layer, and Docker's own image store takes no more than 125 of them. So the layers
are read (`docker save`), made one, and loaded (`docker load`) as an image that names the base's
layers without bringing them: Docker finds them by their digests. The tag moves when all of that is
there and seen to be right. A crash before leaves the old image, and at most one without a name,
which is the very one that the next try makes. A crash after leaves the old one with a name that
the next try knows. Everything blocks.
"""

import hashlib
import json
import tarfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import docker
import requests
from docker.errors import APIError, NotFound
from docker.utils import parse_repository_tag
from msgspec import Struct

from service.adapters import docker_objects as objects
from service.adapters.docker_layers import empty_tree, lay, padded
from service.adapters.docker_merge import LayerMerge
from service.adapters.docker_saved import Saved, read_saved
from service.adapters.docker_spool import Spool, Spooled, own_disk, spool_folder
from service.adapters.docker_streams import Listening
from service.errors import EngineRefused, EngineUnavailable
from service.ports import ImageInfo

LOAD_TIMEOUT_S = 3600.0
"""Docker says nothing while it unpacks, at 0.3 to 1 GB/s."""


OLD = "-unsquashed"
"""What the name of the old image ends with, while its own goes over to the new one."""


class _Plan(Struct, frozen=True):
    """The layers of an image: `shared` are its base's, `own` are to be made one."""

    image_id: str
    shared: tuple[str, ...]
    own: tuple[str, ...]


class _Made(Struct, frozen=True):
    """The image that takes its place."""

    id: str
    layers: tuple[str, ...]


def squash(client: docker.APIClient, image: str, base: str, listening: Listening) -> ImageInfo:
    """`image` with at most one layer above `base`, under the same tag and with the same settings.

    Raises EngineRefused (`layer_limit` where the engine's image store cannot do it, `no_space`),
    EngineUnavailable and docker-py's own errors; the tag then says what it said.
    """
    seen = client.inspect_image(objects.require_image_name(image))
    below = client.inspect_image(objects.require_image_name(base))
    layers, shared = objects.diff_ids(seen), objects.diff_ids(below)
    if layers[: len(shared)] != shared:
        raise EngineRefused(f"image {image} does not lie on image {base}", "bad_request")
    if len(layers) <= len(shared) + 1:
        _drop_old(client, image, seen["Id"], below["Id"])
        return objects.image_info(seen)
    plan = _Plan(seen["Id"], tuple(shared), tuple(layers[len(shared) :]))
    with spool_folder() as folder:
        made = _make(client, plan, folder, listening)
    _require_meant(client, made, seen)
    repository, tag = parse_repository_tag(image)
    client.tag(plan.image_id, repository, f"{tag}{OLD}")
    client.tag(made.id, repository, tag)
    _drop_old(client, image, made.id, below["Id"])
    return objects.image_info(client.inspect_image(image))


def _make(client: docker.APIClient, plan: _Plan, folder: Path, listening: Listening) -> _Made:
    """Load the image with one layer in place of many; it has no name yet."""
    layers = (*plan.shared, *plan.own)
    spool = Spool(folder, plan.shared)
    saved = read_saved(client, {plan.image_id: layers}, spool.take, listening)
    if not saved.holds(plan.image_id, layers):
        raise _other_store("does not give out layers as they were committed")
    path = folder / "load.tar"
    with own_disk(), path.open("wb") as archive:
        made = _write_archive(archive, plan, saved, listening)
    with path.open("rb") as archive:
        try:
            objects.load_image(client, archive, LOAD_TIMEOUT_S)
        except EngineRefused as error:
            if error.reason == "no_space":
                raise
            raise _other_store(f"did not take it: {error}") from error
    return made


def _write_archive(
    archive: IO[bytes], plan: _Plan, saved: Saved[Spooled], listening: Listening
) -> _Made:
    """What `docker load` takes, less the layers of the base: Docker 20.10 and 26.1 do without."""

    def go_on() -> None:
        if listening.closed:
            raise EngineUnavailable("making one layer of several was given up")

    base, upper = empty_tree(), empty_tree()
    for number, diff_id in enumerate(plan.shared):
        lay(base, saved.layers[diff_id].layer, number)
    with ExitStack() as stack:
        files = []
        for number, diff_id in enumerate(plan.own):
            spooled = saved.layers[diff_id]
            if spooled.file is None or spooled.diff_id != diff_id:
                raise EngineUnavailable(f"Docker sent layer {diff_id} as {spooled.diff_id}")
            files.append(stack.enter_context(spooled.file.open("rb")))
            lay(upper, spooled.layer, number)
        archive.seek(tarfile.BLOCKSIZE)
        merge = LayerMerge(files, archive, go_on)
        layers = (*plan.shared, merge.write(upper, base))
    config = _config(json.loads(saved.configs[plan.image_id]), plan, layers)
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    names = [f"not-sent-{number}" for number in range(len(plan.shared))]
    item = {"Config": config_name, "RepoTags": None, "Layers": [*names, "layer.tar"]}
    for name, content in ((config_name, config), ("manifest.json", json.dumps([item]).encode())):
        archive.write(_header(name, len(content)) + content.ljust(padded(len(content)), b"\0"))
    archive.write(bytes(2 * tarfile.BLOCKSIZE))
    # Only now is it known how long the layer is.
    archive.seek(0)
    archive.write(_header("layer.tar", merge.size_bytes))
    return _Made(f"sha256:{config_name.removesuffix('.json')}", layers)


def _header(name: str, size_bytes: int) -> bytes:
    """One block, however large the member is."""
    member = tarfile.TarInfo(name)
    member.size = size_bytes
    return member.tobuf(tarfile.GNU_FORMAT)


def _config(config: dict[str, Any], plan: _Plan, layers: tuple[str, ...]) -> bytes:
    """The image's settings as they were, on these layers. The same each time, so the id is too."""
    history: list[Mapping[str, Any]] = []
    left = len(plan.shared)
    for step in config.get("history") or ():
        empty = step.get("empty_layer", False)
        if left == 0 and not empty:
            break
        left -= not empty
        history.append(step)
    comment = f"{len(plan.own)} layers made one"
    history.append({"created": config.get("created"), "comment": comment})
    rootfs = {"type": "layers", "diff_ids": list(layers)}
    return json.dumps({**config, "rootfs": rootfs, "history": history}).encode()


def _require_meant(client: docker.APIClient, made: _Made, old: Mapping[str, Any]) -> None:
    """Is what was loaded what was to be loaded?"""
    try:
        seen = client.inspect_image(made.id)
    except NotFound as error:
        raise _other_store("does not have what was loaded into it") from error
    if tuple(objects.diff_ids(seen)) != made.layers or seen["Config"] != old["Config"]:
        raise _other_store("made another image of what was loaded")


def _drop_old(client: docker.APIClient, image: str, image_id: str, base_id: str) -> None:
    """Remove the image that had the name before, if it is there; in use, it stays without one."""
    name = f"{image}{OLD}"
    try:
        old_id = client.inspect_image(name)["Id"]
    except NotFound:
        return
    _drop_nameless(client, old_id, base_id, name)
    # In use it could not be removed, nor its last name: that goes to the new one, and away.
    client.tag(image_id, *parse_repository_tag(name))
    client.remove_image(name, noprune=True)


def _drop_nameless(client: docker.APIClient, image_id: str, base_id: str, name: str) -> None:
    """Remove an image with no other name than this, and those it was made from, down to what has
    a name or is in use."""
    while image_id and image_id != base_id:
        try:
            seen = client.inspect_image(image_id)
            if set(seen.get("RepoTags") or ()) - {name}:
                return
            # Docker's own pruning would not stop at the base, which may have no name left.
            client.remove_image(image_id, noprune=True)
        except NotFound:
            return
        except APIError as error:
            if error.status_code != requests.codes.conflict:
                raise
            return
        image_id = seen.get("Parent") or ""


def _other_store(words: str) -> EngineRefused:
    return EngineRefused(
        f"the layers of this image cannot be made one, as the engine's image store {words}."
        ' Docker\'s classic store can do it ("features": {"containerd-snapshotter": false}). With'
        " this one, start from a new image before the limit of layers is reached.",
        "layer_limit",
    )
