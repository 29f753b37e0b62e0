"""Images of several names, on a real Docker and on the simulated one: each holds the image."""

from collections.abc import AsyncIterator

import pytest

from events.labels import LABEL_KEPT_BY
from service.errors import EngineRefused
from tests.kit.dockerd import PrivateDockerd
from tests.kit.engine_rigs import OWNER, EngineRig, body, engine_rig

KEPT = "gpuledger/snapshot:foo-1-op"
COPY = "gpuledger/snapshot:bug-1-op"


@pytest.fixture
async def rig(any_dockerd: PrivateDockerd | None) -> AsyncIterator[EngineRig]:
    """With the container c-1, and KEPT, which was committed of it."""
    async with engine_rig(any_dockerd) as made:
        await made.engine.create_container("c-1", body())
        labels = {LABEL_KEPT_BY: OWNER}
        await made.engine.commit_container("c-1", KEPT, labels, pause=False)
        yield made


async def test_an_image_has_as_many_names_as_it_is_given(rig: EngineRig) -> None:
    before = await rig.engine.inspect_image(KEPT)
    assert before is not None
    for image in (KEPT, before.id, KEPT):  # the last time is after a crash
        named = await rig.engine.tag_image(image, COPY)
        assert (named.id, sorted(named.tags)) == (before.id, [COPY, KEPT])
    (shown,) = await rig.engine.list_images({LABEL_KEPT_BY: OWNER})
    assert sorted(shown.tags) == [COPY, KEPT]


async def test_a_name_taken_away_leaves_the_others_and_who_was_made_of_it(
    rig: EngineRig,
) -> None:
    await rig.engine.tag_image(KEPT, COPY)
    for name, image in (("of-kept", KEPT), ("of-copy", COPY)):
        await rig.engine.create_container(name, body(image=image))
        await rig.engine.start_container(name)
    await rig.engine.remove_image(KEPT)
    left = await rig.engine.inspect_image(COPY)
    assert left is not None
    assert left.tags == (COPY,)
    with pytest.raises(EngineRefused) as refused:
        await rig.engine.remove_image(COPY)
    assert refused.value.reason == "image_in_use"
    for name in ("of-kept", "of-copy"):
        await rig.engine.stop_container(name, 1)
        assert await rig.engine.start_container(name)
        await rig.engine.remove_container(name)
    await rig.engine.remove_image(COPY)
    assert await rig.engine.inspect_image(left.id) is None


async def test_a_name_goes_though_other_images_lie_on_it(rig: EngineRig) -> None:
    await rig.engine.create_container("c-2", body(image=KEPT))
    await rig.engine.commit_container("c-2", "saved:1", {}, pause=False)
    await rig.engine.remove_container("c-2")
    await rig.engine.remove_image(KEPT)
    assert await rig.engine.inspect_image(KEPT) is None
    assert await rig.engine.inspect_image("saved:1") is not None


async def test_no_image_is_given_no_name(rig: EngineRig) -> None:
    with pytest.raises(EngineRefused, match=r"[Nn]o such image: absent:1") as refused:
        await rig.engine.tag_image("absent:1", COPY)
    assert refused.value.reason == "image_not_found"
