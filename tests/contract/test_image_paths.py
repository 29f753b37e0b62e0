"""An image's name becomes part of a path of the engine's API: it leads to images only."""

import asyncio

import pytest

from events.values import is_image
from service.adapters.docker_engine import DockerEngine
from service.errors import EngineRefused
from tests.kit.dockerd import PrivateDockerd
from tests.kit.engine_rigs import IMAGE as USED
from tests.kit.engine_rigs import OWNER, clear

ELSEWHERE = (
    *("x/../../containers/foreign", "../containers/foreign", "x/./../../containers/foreign"),
    *("..", "../info", "x/..", "x/.", "./x", ".", "x//y", "/x", "x/", "a/../b:1", "-/../x"),
    *("host..name/x", ".host/x", "host./x", "host:/x", "x/y..z", "x/y._z", "x___y", "x?y", "x#y"),
    "x/../../containers/foreign@sha256:" + "a" * 64,
)
IMAGES = (
    *("busybox", "a:1", "a/b/c/d:T_a.g-1", "reg.example.org:5000/a-b/c__d.e_f:1", "localhost/x"),
    *("127.0.0.1:5000/busybox:test", "REG-1.Example.org/a", "a--b", "sha256:" + "a" * 64),
    *("gpuledger/snapshot:foo-1-key-0a", "x@sha256:" + "0" * 64, "x:y@sha256:" + "0" * 64),
)


@pytest.mark.parametrize("image", ELSEWHERE)
def test_what_is_no_image(image: str) -> None:
    assert not is_image(image)


@pytest.mark.parametrize("image", IMAGES)
def test_what_is_an_image(image: str) -> None:
    assert is_image(image)


async def test_the_engine_is_asked_for_nothing_else(dockerd: PrivateDockerd) -> None:
    """A record of before may hold such a name; this led to the environment of any container."""

    def make() -> None:
        with dockerd.client() as client:
            secret = {"OTHERS": "secret"}
            client.api.create_container(USED, "true", environment=secret, name="foreign")

    def left() -> list[str]:
        with dockerd.client() as client:
            return [name for one in client.api.containers(all=True) for name in one["Names"]]

    engine = DockerEngine(dockerd.url, owner=OWNER)
    await asyncio.to_thread(make)
    try:
        for image in ELSEWHERE:
            for asked in (
                *(engine.inspect_image(image), engine.remove_image(image)),
                *(engine.tag_image(image, "a:1"), engine.tag_image(USED, image)),
                *(engine.refusal_of_pull(image), engine.squash_image(image, image)),
            ):
                with pytest.raises(EngineRefused, match="no image reference"):
                    await asked
        assert "/foreign" in await asyncio.to_thread(left)
    finally:
        await engine.close()
        await asyncio.to_thread(clear, dockerd)
