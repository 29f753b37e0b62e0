"""The body that Docker gets for a revision."""

from typing import Any

import pytest
from msgspec.structs import replace

from events.values import Bind, GpuRuntime, Nfs
from projections.state import Node
from service.domain.container_config import NO_GPUS, container_config
from tests.kit.builders import GIB, NODE, OWNER, revision, spec


def body(**changes: Any) -> dict[str, Any]:
    """The body for a revision that differs in this from a plain one."""
    made = replace(revision(3), **changes)
    return container_config(made, "image:1", Node(NODE, OWNER), "op-1/create-foo-3")


def test_the_defaults_of_every_container() -> None:
    config = body()
    assert config["Image"] == "image:1"
    assert config["OpenStdin"] is True
    assert "Tty" not in config, "an interactive shell would ignore SIGTERM"
    assert config["HostConfig"]["Init"] is True
    assert config["HostConfig"]["RestartPolicy"] == {"Name": "no"}
    assert "Cmd" not in config
    for limit in ("NanoCpus", "Memory", "ShmSize"):
        assert limit not in config["HostConfig"]


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
    asked = spec(cmd=("sleep", "9"), nano_cpus=5, memory_bytes=GIB, shm_bytes=7)
    config = body(spec=asked)
    assert config["Cmd"] == ["sleep", "9"]
    host = config["HostConfig"]
    assert (host["NanoCpus"], host["Memory"], host["ShmSize"]) == (5, GIB, 7)


def test_ports_are_exposed_and_bound() -> None:
    config = container_config(revision(1, ports=(40001,)), "i", Node(NODE, OWNER), "e")
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
