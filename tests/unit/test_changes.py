"""What is other in one spec than in another, told in the words of the API."""

from typing import Any

import pytest
from msgspec.structs import replace

from events.values import Bind, Nfs
from service.domain.changes import SpecChange, spec_changes
from tests.kit.builders import GIB, IMAGE, mount, spec

PLAIN = spec()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, ()),
        ({"image": "train:2"}, (("imageName", IMAGE, "train:2"),)),
        ({"gpu_count": 2}, (("gpuCount", "0", "2"),)),
        ({"nano_cpus": 1_500_000_000}, (("cpus", "", "1.5"),)),
        ({"memory_bytes": 2 * GIB}, (("memory", "", "2GB"),)),
        ({"shm_bytes": GIB // 2}, (("shmSize", "", "512MB"),)),
        ({"pids_limit": 7}, (("pidsLimit", "", "7"),)),
        ({"secret_env": ("A", "B")}, (("secretEnv", "", "A, B"),)),
        ({"on_exit": "restart"}, (("onExit", "none", "restart"),)),
        ({"on_gpu_lost": "restart"}, (("onGpuLost", "none", "restart"),)),
        ({"max_retries": 3}, (("maxRetries", "0", "3"),)),
        ({"cmd": ("sleep", "9")}, (("cmd", "", "sleep 9"),)),
        ({"container_ports": ("22/tcp", "80/tcp")}, (("containerPorts", "", "22/tcp, 80/tcp"),)),
        ({"env": ("B=x=y", "A=1")}, (("env.A", "", "1"), ("env.B", "", "x=y"))),
        ({"env": ("A=",)}, (("env.A", "", ""),)),
        ({"binds": (Bind("/a", "/x"),)}, (("binds./x", "", "/a"),)),
        (
            {"binds": (Bind("", "/x", Nfs("10.0.0.1", "/export")),)},
            (("binds./x", "", "10.0.0.1:/export"),),
        ),
        ({"labels": {"team": "a"}}, (("labels.team", "", "a"),)),
    ],
)
def test_a_difference_is_told_both_ways(
    changes: dict[str, Any], told: tuple[tuple[str, str, str], ...]
) -> None:
    changed = replace(PLAIN, **changes)
    assert spec_changes(PLAIN, changed) == tuple(SpecChange(*one) for one in told)
    back = tuple(SpecChange(field, new, old) for field, old, new in told)
    assert spec_changes(changed, PLAIN) == back


def test_fields_come_in_a_fixed_order_and_entries_by_key() -> None:
    old = spec(mounts=("/a", "/b"), env=("A=1", "B=2"), memory_bytes=GIB)
    new = replace(
        old, env=("C=3", "A=2", "B=2"), binds=(mount("/b"),), memory_bytes=None, gpu_count=1
    )
    assert spec_changes(old, new) == (
        SpecChange("gpuCount", "0", "1"),
        SpecChange("memory", "1GB", ""),
        SpecChange("env.A", "1", "2"),
        SpecChange("env.C", "", "3"),
        SpecChange("binds./mnt/a", "/a", ""),
    )
