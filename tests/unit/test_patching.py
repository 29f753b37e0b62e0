"""What a patch makes of a spec, and when the running container may stay for it."""

from typing import Any

import pytest
from msgspec.structs import replace

from events.values import Bind, ContainerSpec, GpuRuntime
from service.domain.commands import BindAt, BindChange
from service.domain.patching import patched, resources, updates_in_place
from service.domain.rejections import Reason, Rejected
from tests.kit.builders import GIB, mount, patch, revision, spec

FULL = spec(
    gpu_count=2,
    ports=2,
    mounts=("/a", "disk-1"),
    env=("A=1", "B=2"),
    cmd=("train",),
    nano_cpus=5,
    memory_bytes=GIB,
    shm_bytes=GIB,
    pids_limit=100,
    labels={"team": "a"},
)
"""Everything in it is set."""


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        ({}, {}),
        ({"gpu_count": 0}, {"gpu_count": 0}),
        ({"gpu_count": 3}, {"gpu_count": 3}),
        ({"image": "train:2"}, {"image": "train:2"}),
        ({"cmd": ("eval", "-v")}, {"cmd": ("eval", "-v")}),
        ({"cmd": ()}, {"cmd": ()}),
        ({"container_ports": ("80/tcp",)}, {"container_ports": ("80/tcp",)}),
        ({"container_ports": ()}, {"container_ports": ()}),
        ({"nano_cpus": 7}, {"nano_cpus": 7}),
        ({"nano_cpus": 0}, {"nano_cpus": None}),
        ({"memory_bytes": 2 * GIB}, {"memory_bytes": 2 * GIB}),
        ({"memory_bytes": 0}, {"memory_bytes": None}),
        ({"shm_bytes": 7}, {"shm_bytes": 7}),
        ({"shm_bytes": 0}, {"shm_bytes": None}),
        ({"pids_limit": 7}, {"pids_limit": 7}),
        ({"pids_limit": 0}, {"pids_limit": None}),
        ({"env": ("A=9",)}, {"env": ("A=9", "B=2")}),
        ({"env": ("C=x=y", "A=")}, {"env": ("A=", "B=2", "C=x=y")}),
        ({"env": ("A",)}, {"env": ("B=2",)}),
        ({"env": ("A", "B", "C=3")}, {"env": ("C=3",)}),
        (
            {"env": ("A=9", "C=3"), "secret_env": ("C", "A")},
            {"env": ("A=9", "B=2", "C=3"), "secret_env": ("A", "C")},
        ),
        ({"env": ("A", "A=9")}, {"env": ("B=2", "A=9")}),
        (
            {"bind": BindChange(mount("/a"), Bind("/b", "/x"))},
            {"binds": (Bind("/b", "/x"), mount("disk-1"))},
        ),
        (
            {"bind": BindChange(mount("/a"), Bind("/b", "/mnt/a"))},
            {"binds": (Bind("/b", "/mnt/a"), mount("disk-1"))},
        ),
        (
            {"binds": (BindAt("/b", "/x"),)},
            {"binds": (mount("/a"), mount("disk-1"), Bind("/b", "/x"))},
        ),
        (
            {"binds": (BindAt("disk-2", "/mnt/a"),)},
            {"binds": (Bind("disk-2", "/mnt/a"), mount("disk-1"))},
        ),
        ({"binds": (BindAt("", "/mnt/a"),)}, {"binds": (mount("disk-1"),)}),
        (
            {
                "bind": BindChange(mount("/a"), Bind("/b", "/x")),
                "binds": (BindAt("", "/x"), BindAt("/c", "/y")),
            },
            {"binds": (mount("disk-1"), Bind("/c", "/y"))},
        ),
    ],
)
def test_a_patch_changes_what_is_given_and_nothing_else(
    given: dict[str, Any], changed: dict[str, Any]
) -> None:
    assert patched(FULL, patch(**given)) == replace(FULL, **changed)


@pytest.mark.parametrize(
    ("bound", "asked", "found"),
    [
        ("disk-2", "disk-2", True),
        ("disk-2", "disk-1", True),
        ("disk-2", "disk-3", False),
        ("disk-2", "other-1", False),
        ("disk-2", "/disk-1", False),
        ("/a-2", "/a-1", False),
    ],
)
def test_a_bind_is_found_by_the_version_that_it_was_before_a_resize(
    bound: str, asked: str, found: bool
) -> None:
    """Clients of the predecessor patch bar-1 to bar-2 themselves, once they have resized bar."""
    new = Bind("disk-9", "/x")
    change = BindChange(Bind(asked, "/x"), new)
    answer = patched(spec(binds=(Bind(bound, "/x"),)), patch(bind=change))
    assert (isinstance(answer, ContainerSpec) and answer.binds == (new,)) == found
    elsewhere = BindChange(Bind(asked, "/y"), new)
    assert isinstance(patched(spec(binds=(Bind(bound, "/x"),)), patch(bind=elsewhere)), Rejected)


@pytest.mark.parametrize(
    ("given", "reason", "words"),
    [
        ({"env": ("C",)}, Reason.ENV_NOT_FOUND, ("env C is not set for foo", "A, B")),
        ({"env": ("A", "A")}, Reason.ENV_NOT_FOUND, ("env A", "B")),
        ({"env": ("A", "B", "A")}, Reason.ENV_NOT_FOUND, ("none",)),
        (
            {"bind": BindChange(mount("/b"), mount("/c"))},
            Reason.BIND_NOT_FOUND,
            ("/b:/mnt/b", "/a:/mnt/a, disk-1:/mnt/disk-1"),
        ),
        (
            {"bind": BindChange(Bind("/a", "/other"), mount("/c"))},
            Reason.BIND_NOT_FOUND,
            ("/a:/other",),
        ),
        (
            {"bind": BindChange(mount("/a"), Bind("/c", "/mnt/disk-1"))},
            Reason.BIND_TARGET_TAKEN,
            ("/mnt/disk-1",),
        ),
        (
            {"binds": (BindAt("", "/x"),)},
            Reason.BIND_NOT_FOUND,
            ("nothing is mounted at /x in foo", "/mnt/a, /mnt/disk-1"),
        ),
        (
            {"binds": tuple(BindAt("", at) for at in ("/mnt/a", "/mnt/disk-1", "/mnt/a"))},
            Reason.BIND_NOT_FOUND,
            ("mounted are: nothing",),
        ),
    ],
)
def test_a_patch_of_what_is_not_there_is_refused_and_says_what_is(
    given: dict[str, Any], reason: Reason, words: tuple[str, ...]
) -> None:
    refused = patched(FULL, patch(memory_bytes=2 * GIB, **given))
    assert isinstance(refused, Rejected)
    assert refused.reason == reason
    assert [word for word in words if word not in refused.message] == []


def test_of_a_variable_and_a_bind_that_are_not_there_the_variable_is_told() -> None:
    refused = patched(FULL, patch(env=("C",), bind=BindChange(mount("/b"), mount("/c"))))
    assert isinstance(refused, Rejected)
    assert refused.reason == Reason.ENV_NOT_FOUND


LIMITED = spec(nano_cpus=5, memory_bytes=GIB, pids_limit=100, env=("A=1",))


@pytest.mark.parametrize(
    ("before", "changes", "stays"),
    [
        (LIMITED, {"memory_bytes": 2 * GIB}, True),
        (LIMITED, {"memory_bytes": GIB // 2}, True),
        (LIMITED, {"nano_cpus": 9, "pids_limit": 7}, True),
        (spec(), {"nano_cpus": 9, "memory_bytes": GIB, "pids_limit": 7}, True),
        (LIMITED, {}, False),
        (LIMITED, {"on_exit": "restart"}, True),
        (LIMITED, {"on_gpu_lost": "restart"}, True),
        (LIMITED, {"max_retries": 3, "memory_bytes": 2 * GIB}, True),
        (LIMITED, {"on_exit": "restart", "memory_bytes": None}, False),
        (LIMITED, {"on_exit": "restart", "env": ("A=2",)}, False),
        (LIMITED, {"nano_cpus": None}, False),
        (LIMITED, {"memory_bytes": None}, False),
        (LIMITED, {"pids_limit": None}, False),
        (LIMITED, {"memory_bytes": None, "nano_cpus": 9}, False),
        (LIMITED, {"memory_bytes": 2 * GIB, "shm_bytes": GIB}, False),
        (LIMITED, {"memory_bytes": 2 * GIB, "env": ("A=2",)}, False),
        (LIMITED, {"memory_bytes": 2 * GIB, "cmd": ("train",)}, False),
        (LIMITED, {"memory_bytes": 2 * GIB, "image": "train:2"}, False),
        (LIMITED, {"memory_bytes": 2 * GIB, "gpu_count": 1}, False),
        (LIMITED, {"memory_bytes": 2 * GIB, "binds": (mount("/a"),)}, False),
        (LIMITED, {"memory_bytes": 2 * GIB, "container_ports": ("80/tcp",)}, False),
        (LIMITED, {"memory_bytes": 2 * GIB, "labels": {"team": "a"}}, False),
    ],
)
def test_the_container_stays_when_only_limits_differ_and_none_is_taken_away(
    before: ContainerSpec, changes: dict[str, Any], stays: bool
) -> None:
    assert updates_in_place(revision(spec=before), replace(before, **changes)) == stays


@pytest.mark.parametrize(
    ("runtime", "gpus", "stays"),
    [
        ("nvidia", (0,), False),
        ("nvidia", (), True),
        ("cdi", (0,), True),
        ("simulated", (0,), True),
        ("none", (), True),
    ],
)
def test_a_container_with_gpus_put_in_by_the_hook_never_stays(
    runtime: GpuRuntime, gpus: tuple[int, ...], stays: bool
) -> None:
    """Docker's update can take them out again (nvidia-container-runtime issue 55)."""
    current = revision(gpus=gpus, gpu_runtime=runtime)
    assert updates_in_place(current, replace(current.spec, memory_bytes=GIB)) == stays
    # Of this Docker hears nothing.
    assert updates_in_place(current, replace(current.spec, on_exit="restart"))


@pytest.mark.parametrize(
    ("limits", "body"),
    [
        ({}, {}),
        ({"nano_cpus": 5}, {"NanoCpus": 5}),
        ({"memory_bytes": GIB}, {"Memory": GIB, "MemorySwap": 2 * GIB}),
        ({"pids_limit": 7}, {"PidsLimit": 7}),
        (
            {"nano_cpus": 5, "memory_bytes": GIB, "pids_limit": 7},
            {"NanoCpus": 5, "Memory": GIB, "MemorySwap": 2 * GIB, "PidsLimit": 7},
        ),
    ],
)
def test_limits_as_docker_takes_them(limits: dict[str, Any], body: dict[str, int]) -> None:
    assert resources(spec(nano_cpus=1), spec(**limits)) == body
    assert resources(spec(**limits), spec(**limits)) == {}


def test_a_mark_stays_as_long_as_its_variable() -> None:
    marked = spec(env=("A=1", "B=2"), secret_env=("A", "B"))
    after = patched(marked, patch(env=("A=3", "B")))
    assert after == spec(env=("A=3",), secret_env=("A",))
