"""What the port `ContainerEngine` promises, on a real Docker and on the simulated one."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from events.labels import LABEL_EFFECT, LABEL_NAME, LABEL_OWNER
from service.errors import EngineRefused, EngineUnavailable
from service.ports import Progress
from tests.kit.dockerd import PrivateDockerd
from tests.kit.engine_rigs import (
    FILE_OF_IMAGE,
    FOREVER,
    IMAGE,
    OTHER_OWNER,
    OWNER,
    EngineRig,
    body,
    engine_rig,
)
from tests.kit.host_ports import free_port
from tests.kit.simulated_programs import ENVIRONMENT_FILE, NO_SUCH_COMMAND

OUTPUT_MAX = 1 << 20


@pytest.fixture
async def rig(any_dockerd: PrivateDockerd | None) -> AsyncIterator[EngineRig]:
    async with engine_rig(any_dockerd) as made:
        yield made


async def test_info_and_ping(rig: EngineRig) -> None:
    await rig.engine.ping()
    info = await rig.engine.info()
    assert info.cpus >= 1
    assert info.memory_bytes > 1 << 20
    assert info.version
    assert info.api_version >= "1.41"
    assert info.local == rig.real


async def test_images_are_found_by_name_and_by_id(rig: EngineRig) -> None:
    image = await rig.engine.inspect_image(IMAGE)
    assert image is not None
    assert image.tags == (IMAGE,)
    assert image.env == ("PATH=/bin",)
    assert image.cmd == ("sh",)
    assert image.layers == 1
    assert await rig.engine.inspect_image(image.id) == image
    assert await rig.engine.inspect_image("absent:1") is None


async def test_pull_reports_progress_up_to_the_whole(rig: EngineRig) -> None:
    seen: list[Progress] = []
    assert await rig.engine.refusal_of_pull(rig.pullable) is None
    image = await rig.engine.pull_image(rig.pullable, seen.append)
    assert image.tags == (rig.pullable,)
    assert await rig.engine.inspect_image(rig.pullable) == image
    assert [p.done_bytes for p in seen] == sorted(p.done_bytes for p in seen)
    assert seen[-1].done_bytes == seen[-1].total_bytes > 0


async def test_pull_of_an_unknown_image_names_it(rig: EngineRig) -> None:
    with pytest.raises(EngineRefused, match="manifest unknown") as refused:
        await rig.engine.pull_image(rig.not_pullable, lambda _: None)
    assert refused.value.reason == "image_not_found"
    assert rig.not_pullable in str(refused.value)
    assert "manifest unknown" in (await rig.engine.refusal_of_pull(rig.not_pullable) or "")


async def test_a_container_left_by_a_crash_is_adopted(rig: EngineRig) -> None:
    made = await rig.engine.create_container("c-1", body())
    assert await rig.engine.create_container("c-1", body()) == made
    await rig.engine.start_container("c-1")
    assert await rig.engine.create_container("c-1", body()) == made
    assert len(await rig.engine.list_containers({LABEL_OWNER: OWNER})) == 1


async def test_a_name_of_another_effect_is_refused(rig: EngineRig) -> None:
    await rig.engine.create_container("c-1", body(effect="effect-1"))
    with pytest.raises(EngineRefused, match="already in use") as refused:
        await rig.engine.create_container("c-1", body(effect="effect-2"))
    assert refused.value.reason == "name_taken"


async def test_of_many_creates_of_one_name_one_wins(rig: EngineRig) -> None:
    creates = (rig.engine.create_container("c-1", body(effect=f"e-{n}")) for n in range(12))
    outcomes = await asyncio.gather(*creates, return_exceptions=True)
    refused = [o for o in outcomes if isinstance(o, EngineRefused)]
    assert len(refused) == 11
    assert {error.reason for error in refused} == {"name_taken"}


async def test_a_foreign_container_is_not_touched(rig: EngineRig) -> None:
    await rig.other.create_container("c-1", body(owner=OTHER_OWNER))
    await rig.other.start_container("c-1")
    before = await rig.engine.inspect_container("c-1")
    with pytest.raises(EngineRefused) as refused:
        await rig.engine.create_container("c-1", body())
    assert refused.value.reason == "name_taken"
    for touch in (
        rig.engine.start_container("c-1"),
        rig.engine.stop_container("c-1", 1),
        rig.engine.remove_container("c-1"),
        rig.engine.update_container("c-1", {"Memory": 64 << 20}),
        rig.engine.rename_container("c-1", "c-2"),
        rig.engine.commit_container("c-1", "stolen:1", {}, pause=False),
        rig.engine.execute("c-1", ["true"], "", OUTPUT_MAX),
    ):
        with pytest.raises(EngineRefused) as refused:
            await touch
        assert refused.value.reason == "not_ours"
    assert await rig.engine.inspect_container("c-1") == before


async def test_create_from_an_unknown_image(rig: EngineRig) -> None:
    with pytest.raises(EngineRefused, match="No such image") as refused:
        await rig.engine.create_container("c-1", body(image="absent:1"))
    assert refused.value.reason == "image_not_found"
    assert await rig.engine.inspect_container("c-1") is None


async def test_the_life_of_a_container(rig: EngineRig) -> None:
    made = await rig.engine.create_container("c-1", body(labels={LABEL_NAME: "c"}))
    created = await rig.engine.inspect_container("c-1")
    assert created is not None
    assert (created.id, created.name, created.status) == (made, "c-1", "created")
    assert created.labels == {LABEL_OWNER: OWNER, LABEL_EFFECT: "effect-1", LABEL_NAME: "c"}
    assert created.started_at == created.finished_at == ""

    started_at = await rig.engine.start_container("c-1")
    assert await rig.engine.start_container("c-1") == started_at
    running = await rig.engine.inspect_container("c-1")
    assert running is not None
    assert (running.status, running.started_at) == ("running", started_at)

    stopped = await rig.engine.stop_container("c-1", 5)
    assert stopped is not None
    assert (stopped.status, stopped.exit_code) == ("exited", 143)
    assert stopped.finished_at > started_at
    assert await rig.engine.stop_container("c-1", 5) == stopped

    assert await rig.engine.start_container("c-1") > started_at
    await rig.engine.remove_container("c-1")
    assert await rig.engine.inspect_container("c-1") is None


async def test_what_is_absent_is_stopped_and_removed_already(rig: EngineRig) -> None:
    assert await rig.engine.stop_container("absent", 1) is None
    await rig.engine.remove_container("absent")
    await rig.engine.remove_image("absent:1")
    await rig.engine.remove_volume("absent")


async def test_what_needs_a_container_says_that_there_is_none(rig: EngineRig) -> None:
    for call in (
        rig.engine.start_container("absent"),
        rig.engine.update_container("absent", {"Memory": 64 << 20}),
        rig.engine.rename_container("absent", "c-2"),
        rig.engine.commit_container("absent", "image:1", {}, pause=False),
        rig.engine.execute("absent", ["true"], "", OUTPUT_MAX),
    ):
        with pytest.raises(EngineRefused) as refused:
            await call
        assert refused.value.reason == "no_such_container"


async def test_a_bad_command_shows_in_dockers_words(rig: EngineRig) -> None:
    await rig.engine.create_container("c-1", body((NO_SUCH_COMMAND,), Init=False))
    with pytest.raises(EngineRefused, match=f'exec: "{NO_SUCH_COMMAND}"') as refused:
        await rig.engine.start_container("c-1")
    assert refused.value.reason == "bad_command"
    seen = await rig.engine.inspect_container("c-1")
    assert seen is not None
    assert (seen.status, seen.started_at, seen.error) == ("created", "", str(refused.value))


async def test_a_port_is_taken_until_its_container_stops(rig: EngineRig) -> None:
    bindings = {"80/tcp": [{"HostPort": str(free_port())}]}
    for name in ("c-1", "c-2"):
        await rig.engine.create_container(name, body(PortBindings=bindings))
    await rig.engine.start_container("c-1")
    with pytest.raises(EngineRefused, match="already allocated") as refused:
        await rig.engine.start_container("c-2")
    assert refused.value.reason == "port_taken"
    await rig.engine.stop_container("c-1", 5)
    assert await rig.engine.start_container("c-2")


async def test_containers_are_listed_by_all_labels(rig: EngineRig) -> None:
    await rig.engine.create_container("c-1", body(labels={LABEL_NAME: "c"}))
    await rig.engine.create_container("d-1", body(labels={LABEL_NAME: "d"}))
    await rig.other.create_container("e-1", body(owner=OTHER_OWNER, labels={LABEL_NAME: "c"}))
    await rig.engine.start_container("d-1")
    ours = await rig.engine.list_containers({LABEL_OWNER: OWNER})
    assert {c.name: c.status for c in ours} == {"c-1": "created", "d-1": "running"}
    both = await rig.engine.list_containers({LABEL_OWNER: OWNER, LABEL_NAME: "c"})
    assert both == (await rig.engine.inspect_container("c-1"),)


async def test_limits_change_in_place(rig: EngineRig) -> None:
    await rig.engine.create_container("c-1", body(Memory=64 << 20, MemorySwap=64 << 20))
    await rig.engine.start_container("c-1")
    before = await rig.engine.inspect_container("c-1")
    with pytest.raises(EngineRefused, match="update the memoryswap at the same time"):
        await rig.engine.update_container("c-1", {"Memory": 128 << 20})
    limits = {"Memory": 128 << 20, "MemorySwap": 128 << 20}
    await rig.engine.update_container("c-1", limits)
    limits |= {"NanoCpus": 500_000_000, "PidsLimit": 100}
    await rig.engine.update_container("c-1", {"NanoCpus": 500_000_000, "PidsLimit": 100})
    assert await asyncio.to_thread(rig.limits_of, "c-1") == limits
    assert await rig.engine.inspect_container("c-1") == before
    for absurd in ({"Memory": 1 << 20, "PidsLimit": 7}, {"NanoCpus": 10**15}, {"NanoCpus": -5}):
        with pytest.raises(EngineRefused, match=r"Minimum memory limit|Range of CPUs") as refused:
            await rig.engine.update_container("c-1", absurd)
        assert refused.value.reason == "bad_request"
    assert await asyncio.to_thread(rig.limits_of, "c-1") == limits


async def test_a_container_gets_another_name(rig: EngineRig) -> None:
    made = await rig.engine.create_container("c-1", body())
    await rig.engine.start_container("c-1")
    for _ in range(2):  # the second time nothing has the old name any more
        await rig.engine.rename_container("c-1", "c-2")
    await rig.engine.rename_container("c-2", "c-2")
    assert await rig.engine.inspect_container("c-1") is None
    renamed = await rig.engine.inspect_container("c-2")
    assert renamed is not None
    assert (renamed.id, renamed.name, renamed.status) == (made, "c-2", "running")
    assert await rig.engine.create_container("c-1", body()) != made


async def test_a_name_in_use_is_not_given_away(rig: EngineRig) -> None:
    await rig.engine.create_container("c-1", body())
    await rig.other.create_container("c-2", body(owner=OTHER_OWNER))
    with pytest.raises(EngineRefused, match="already in use") as refused:
        await rig.engine.rename_container("c-1", "c-2")
    assert refused.value.reason == "name_taken"
    assert await rig.engine.inspect_container("c-1") is not None
    with pytest.raises(EngineRefused) as refused:
        await rig.engine.rename_container("absent", "c-2")
    assert refused.value.reason == "no_such_container"


async def test_a_commit_keeps_files_and_deletions(rig: EngineRig) -> None:
    await rig.engine.create_container("c-1", body(env=("A=1",), labels={LABEL_NAME: "old"}))
    await rig.engine.start_container("c-1")
    for cmd in (["sh", "-c", "echo kept > /kept"], ["rm", FILE_OF_IMAGE]):
        assert (await rig.engine.execute("c-1", cmd, "", OUTPUT_MAX)).exit_code == 0
    labels = {LABEL_NAME: "new", LABEL_OWNER: ""}
    image = await rig.engine.commit_container("c-1", "saved:1", labels, pause=True)
    assert image.tags == ("saved:1",)
    assert (image.labels[LABEL_NAME], image.labels[LABEL_OWNER]) == ("new", "")
    assert "A=1" in image.env
    assert image.cmd == FOREVER
    assert image.layers == 2

    await rig.engine.create_container("c-2", body(image="saved:1"))
    await rig.engine.start_container("c-2")
    kept = await rig.engine.execute("c-2", ["cat", "/kept"], "", OUTPUT_MAX)
    assert (kept.exit_code, kept.stdout) == (0, b"kept\n")
    assert (await rig.engine.execute("c-2", ["cat", FILE_OF_IMAGE], "", OUTPUT_MAX)).exit_code == 1


async def test_an_image_in_use_stays(rig: EngineRig) -> None:
    await rig.engine.create_container("c-1", body())
    await rig.engine.commit_container("c-1", "saved:1", {}, pause=False)
    await rig.engine.create_container("c-2", body(image="saved:1"))
    with pytest.raises(EngineRefused) as refused:
        await rig.engine.remove_image("saved:1")
    assert refused.value.reason == "image_in_use"
    await rig.engine.remove_container("c-2")
    await rig.engine.remove_image("saved:1")
    assert await rig.engine.inspect_image("saved:1") is None


async def test_execute_gives_exit_code_and_output(rig: EngineRig) -> None:
    await rig.engine.create_container("c-1", body())
    with pytest.raises(EngineRefused, match="is not running") as refused:
        await rig.engine.execute("c-1", ["true"], "", OUTPUT_MAX)
    assert refused.value.reason == "not_running"
    await rig.engine.start_container("c-1")
    assert (await rig.engine.execute("c-1", ["true"], "", OUTPUT_MAX)).exit_code == 0
    assert (await rig.engine.execute("c-1", ["false"], "", OUTPUT_MAX)).exit_code == 1
    long = await rig.engine.execute("c-1", ["echo", "x" * 1000], "/", 10)
    assert (long.exit_code, long.stdout, long.stdout_bytes) == (0, b"x" * 10, 1001)
    missing = await rig.engine.execute("c-1", [NO_SUCH_COMMAND], "", OUTPUT_MAX)
    assert missing.exit_code in (126, 127)
    assert NO_SUCH_COMMAND.encode() in missing.stdout


async def test_volumes(rig: EngineRig) -> None:
    labels = {LABEL_OWNER: OWNER, LABEL_EFFECT: "effect-1", LABEL_NAME: "v"}
    for _ in range(2):
        await rig.engine.create_volume("v-1", {"type": "tmpfs", "device": "tmpfs"}, labels)
    assert await rig.engine.list_volumes({LABEL_OWNER: OWNER}) == ("v-1",)
    assert await rig.engine.list_volumes({LABEL_OWNER: OTHER_OWNER}) == ()
    with pytest.raises(EngineRefused) as refused:
        await rig.other.create_volume("v-1", {}, {**labels, LABEL_OWNER: OTHER_OWNER})
    assert refused.value.reason == "name_taken"
    with pytest.raises(EngineRefused) as refused:
        await rig.other.remove_volume("v-1")
    assert refused.value.reason == "not_ours"

    mount = {"Type": "volume", "Source": "v-1", "Target": "/data"}
    await rig.engine.create_container("c-1", body(Mounts=[mount]))
    with pytest.raises(EngineRefused) as refused:
        await rig.engine.remove_volume("v-1")
    assert refused.value.reason == "volume_in_use"
    await rig.engine.remove_container("c-1")
    await rig.engine.remove_volume("v-1")
    assert await rig.engine.list_volumes({LABEL_OWNER: OWNER}) == ()


async def test_gpus_are_asked_for_by_uuid(rig: EngineRig) -> None:
    request = {"DeviceIDs": ["GPU-a", "GPU-b"], "Capabilities": [["gpu"]]}
    await rig.engine.create_container("c-1", body(DeviceRequests=[request]))
    await rig.engine.start_container("c-1")
    environment = await rig.engine.execute("c-1", ["cat", ENVIRONMENT_FILE], "", OUTPUT_MAX)
    assert b"NVIDIA_VISIBLE_DEVICES=GPU-a,GPU-b" in environment.stdout.split(b"\0")
    image = await rig.engine.commit_container("c-1", "saved:1", {}, pause=False)
    assert not any("GPU-a" in entry for entry in image.env)


async def test_an_engine_that_is_gone_and_back(rig: EngineRig) -> None:
    await rig.engine.create_container("c-1", body())
    await rig.go_away()
    try:
        for call in (
            rig.engine.ping(),
            rig.engine.info(),
            rig.engine.inspect_container("c-1"),
            rig.engine.start_container("c-1"),
            rig.engine.pull_image(rig.pullable, lambda _: None),
            rig.engine.execute("c-1", ["true"], "", OUTPUT_MAX),
        ):
            with pytest.raises(EngineUnavailable):
                await call
    finally:
        await rig.come_back()
    await rig.engine.ping()
    assert await rig.engine.start_container("c-1")
