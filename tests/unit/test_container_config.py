"""The body that Docker gets for a revision."""

from typing import Any

import pytest
from msgspec.structs import replace

from events.values import Bind, GpuRuntime, Nfs
from projections.lineage import Base
from projections.state import Node
from service.domain.container_config import NO_GPUS, container_config
from tests.kit.builders import GIB, NODE, OWNER, revision, spec

PLAIN = Base("image:1", "sha256:1", ("PATH=/bin", "LANG=C"), ("sh",))
"""An image that nothing was committed to."""


def body(base: Base = PLAIN, **changes: Any) -> dict[str, Any]:
    """The body for a revision on this base that differs in this from a plain one."""
    made = replace(revision(3), **changes)
    return container_config(made, base, Node(NODE, OWNER), "op-1/create-foo-3")


def test_the_defaults_of_every_container() -> None:
    config = body()
    assert config["Image"] == "image:1"
    assert config["OpenStdin"] is True
    assert "Tty" not in config, "an interactive shell would ignore SIGTERM"
    assert config["HostConfig"]["Init"] is True
    assert config["HostConfig"]["RestartPolicy"] == {"Name": "no"}
    assert "Cmd" not in config
    assert config["Env"] == ["CONTAINER_VERSION=3", NO_GPUS]
    for limit in ("NanoCpus", "Memory", "ShmSize", "PidsLimit"):
        assert limit not in config["HostConfig"]


def test_a_container_gets_no_privileges_and_nothing_asked_for_gives_it_any() -> None:
    """What a body may hold at most: there is no field that a caller could bring one in by."""
    everything = spec(
        gpu_count=1,
        ports=1,
        mounts=("/srv",),
        env=("A=1",),
        cmd=("x",),
        nano_cpus=1,
        memory_bytes=GIB,
        shm_bytes=1,
        pids_limit=1,
    )
    host = body(spec=everything, gpus=("gpu-0",))["HostConfig"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert set(host) == {
        *("Init", "RestartPolicy", "SecurityOpt", "PortBindings", "Mounts", "DeviceRequests"),
        *("NanoCpus", "Memory", "ShmSize", "PidsLimit"),
    }


def test_the_labels_tie_it_to_its_record_and_cannot_be_set_by_a_caller() -> None:
    forged = {"team": "a", "gpuledger.owner": "somebody", "gpuledger.effect": "other"}
    assert body(spec=spec(labels=forged))["Labels"] == {
        "team": "a",
        "gpuledger.owner": OWNER,
        "gpuledger.node": NODE,
        "gpuledger.name": "foo",
        "gpuledger.revision": "3",
        "gpuledger.effect": "op-1/create-foo-3",
    }


def test_the_version_is_in_the_environment_and_wins() -> None:
    env = body(spec=spec(env=("A=1", "CONTAINER_VERSION=9")))["Env"]
    assert env[:2] == ["A=1", "CONTAINER_VERSION=9"]
    assert [one for one in env if one.startswith("CONTAINER_VERSION")][-1] == "CONTAINER_VERSION=3"


def test_command_and_limits_are_passed_on() -> None:
    asked = spec(cmd=("sleep", "9"), nano_cpus=5, memory_bytes=GIB, shm_bytes=7, pids_limit=99)
    config = body(spec=asked)
    assert config["Cmd"] == ["sleep", "9"]
    host = config["HostConfig"]
    assert (host["NanoCpus"], host["Memory"], host["ShmSize"]) == (5, GIB, 7)
    assert host["PidsLimit"] == 99


BAKED = replace(PLAIN, image="snapshot:2", baked_env=("A", "LANG"), baked_cmd=True)
"""A commit of a container with the variables A and LANG, and a command."""


@pytest.mark.parametrize(
    ("base", "env", "expected"),
    [
        (PLAIN, ("A=1",), ["A=1"]),
        (BAKED, ("A=1", "LANG=de"), ["A=1", "LANG=de"]),
        (BAKED, ("LANG=de",), ["LANG=de", "A"]),
        (BAKED, ("A=1",), ["A=1", "LANG=C"]),
        (BAKED, (), ["A", "LANG=C"]),
        (BAKED, ("A=",), ["A=", "LANG=C"]),
    ],
)
def test_what_a_commit_baked_into_the_environment_is_taken_back(
    base: Base, env: tuple[str, ...], expected: list[str]
) -> None:
    """A name without a value unsets what the image has of it; its own value comes back."""
    assert body(base, spec=spec(env=env))["Env"] == [*expected, "CONTAINER_VERSION=3", NO_GPUS]


@pytest.mark.parametrize(
    ("base", "cmd", "expected"),
    [
        (PLAIN, (), None),
        (PLAIN, ("train",), ["train"]),
        (BAKED, (), ["sh"]),
        (BAKED, ("train",), ["train"]),
        (replace(BAKED, origin_cmd=()), (), None),
    ],
)
def test_what_a_commit_baked_as_the_command_is_taken_back(
    base: Base, cmd: tuple[str, ...], expected: list[str] | None
) -> None:
    config = body(base, spec=spec(cmd=cmd))
    assert (config["Image"], config.get("Cmd")) == (base.image, expected)


def test_ports_are_exposed_and_bound() -> None:
    config = container_config(revision(1, ports=(40001,)), PLAIN, Node(NODE, OWNER), "e")
    assert config["ExposedPorts"] == {"22/tcp": {}}
    bindings = config["HostConfig"]["PortBindings"]
    assert bindings == {"22/tcp": [{"HostIp": "", "HostPort": "40001"}]}


@pytest.mark.parametrize(
    ("bind", "mounted"),
    [
        (Bind("/data", "/x"), {"Type": "bind", "Source": "/data", "Target": "/x"}),
        (Bind("disk-2", "/x"), {"Type": "volume", "Source": "disk-2", "Target": "/x"}),
        (
            Bind("", "/x", Nfs("10.0.0.1", "/export", "ro,nfsvers=4")),
            {
                "Type": "volume",
                "Target": "/x",
                "VolumeOptions": {
                    "DriverConfig": {
                        "Name": "local",
                        "Options": {
                            "type": "nfs",
                            "o": "addr=10.0.0.1,ro,nfsvers=4",
                            "device": ":/export",
                        },
                    }
                },
            },
        ),
    ],
)
def test_mounts(bind: Bind, mounted: dict[str, Any]) -> None:
    """Mounts and never Binds: a commit must not bake them, a missing host path is an error."""
    host = body(spec=spec(binds=(bind,)))["HostConfig"]
    assert host["Mounts"] == [mounted]
    assert "Binds" not in host


@pytest.mark.parametrize(
    ("runtime", "requests"),
    [
        (
            "nvidia",
            [
                {
                    "Driver": "nvidia",
                    "DeviceIDs": ["gpu-0", "gpu-2"],
                    "Capabilities": [["gpu"]],
                }
            ],
        ),
        (
            "cdi",
            [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=gpu-0", "nvidia.com/gpu=gpu-2"]}],
        ),
        ("simulated", []),
        ("none", []),
    ],
)
def test_gpus_are_asked_for_by_uuid(runtime: GpuRuntime, requests: list[Any]) -> None:
    config = body(gpus=("gpu-0", "gpu-2"), gpu_runtime=runtime)
    assert config["HostConfig"]["DeviceRequests"] == requests
    assert (NO_GPUS in config["Env"]) == (not requests)


def test_a_cardless_container_sees_no_gpu_whatever_its_image_says() -> None:
    config = body(gpu_runtime="nvidia", spec=spec(env=("NVIDIA_VISIBLE_DEVICES=all",)))
    assert config["Env"][-1] == NO_GPUS
    assert config["HostConfig"]["DeviceRequests"] == []
