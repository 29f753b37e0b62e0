"""A revision as the body of Docker's POST /containers/create. Pure: the plan leaves no choice."""

from collections.abc import Iterator
from typing import Any

from events.labels import (
    LABEL_DEBUG_OF,
    LABEL_EFFECT,
    LABEL_NAME,
    LABEL_NODE,
    LABEL_OWNER,
    LABEL_REVISION,
)
from events.values import Bind, GpuRuntime
from projections.lineage import Base
from projections.state import Node, Revision

NO_GPUS = "NVIDIA_VISIBLE_DEVICES=void"
"""CUDA images carry NVIDIA_VISIBLE_DEVICES=all, which an nvidia default runtime would obey."""


def container_config(
    revision: Revision, base: Base, node: Node | None, effect_id: str
) -> dict[str, Any]:
    """The create body of a revision, made of `base`."""
    made_as = revision.made_as or revision.number
    exposed: dict[str, dict[str, str]] = {p.container_port: {} for p in revision.ports}
    env = [
        *revision.spec.env,
        *_unbaked(revision.spec.env, base),
        f"CONTAINER_VERSION={made_as}",
    ]
    requests = _device_requests(revision.gpu_runtime, revision.gpus)
    if not requests:
        env.append(NO_GPUS)
    config: dict[str, Any] = {
        "Image": base.image,
        "Env": env,
        "Labels": {
            **revision.spec.labels,
            LABEL_OWNER: node.owner if node else "",
            LABEL_NODE: node.node if node else "",
            LABEL_NAME: revision.name,
            LABEL_REVISION: str(made_as),
            LABEL_EFFECT: effect_id,
            **({LABEL_DEBUG_OF: revision.debug_of} if revision.debug_of else {}),
        },
        "ExposedPorts": exposed,
        # The images that people bring start shells, and a shell goes on while its input is open.
        # Without a terminal: an interactive shell ignores SIGTERM, and every stop took 10 s.
        "OpenStdin": True,
        "HostConfig": _host_config(revision, requests),
        "NetworkingConfig": {},
    }
    if cmd := revision.spec.cmd or (base.origin_cmd if base.baked_cmd else ()):
        config["Cmd"] = list(cmd)
    return config


def _unbaked(env: tuple[str, ...], base: Base) -> Iterator[str]:
    """What takes back what commits left in the image's environment, and is not to be there.

    A bare name unsets a variable of the image; there is no other way.
    """
    own = {entry.partition("=")[0] for entry in env}
    of_image = {entry.partition("=")[0]: entry for entry in base.origin_env}
    return (of_image.get(name, name) for name in base.baked_env if name not in own)


def _host_config(revision: Revision, requests: list[dict[str, Any]]) -> dict[str, Any]:
    spec = revision.spec
    host: dict[str, Any] = {
        # PID 1 without a TERM handler would cost the whole stop timeout.
        "Init": True,
        # The service starts containers; Docker's own policy would do so behind the ledger's back.
        "RestartPolicy": {"Name": "no"},
        # A set-user-id program in the image gives nobody more than the container's user has.
        "SecurityOpt": ["no-new-privileges"],
        "PortBindings": {
            p.container_port: [{"HostIp": "", "HostPort": str(p.host_port)}] for p in revision.ports
        },
        # Mounts, not Binds: a missing host path is an error, and a commit does not bake them.
        "Mounts": [_mount(bind) for bind in spec.binds],
        "DeviceRequests": requests,
    }
    if spec.nano_cpus is not None:
        host["NanoCpus"] = spec.nano_cpus
    if spec.memory_bytes is not None:
        host["Memory"] = spec.memory_bytes
    if spec.shm_bytes is not None:
        host["ShmSize"] = spec.shm_bytes
    if spec.pids_limit is not None:
        host["PidsLimit"] = spec.pids_limit
    return host


def _mount(bind: Bind) -> dict[str, Any]:
    mount = _writable(bind)
    return {**mount, "ReadOnly": True} if bind.read_only else mount


def _writable(bind: Bind) -> dict[str, Any]:
    if bind.nfs is not None:
        options = f"addr={bind.nfs.server}" + (f",{bind.nfs.options}" if bind.nfs.options else "")
        return {
            "Type": "volume",
            "Target": bind.target,
            "VolumeOptions": {
                "DriverConfig": {
                    "Name": "local",
                    "Options": {"type": "nfs", "o": options, "device": f":{bind.nfs.path}"},
                }
            },
        }
    kind = "bind" if bind.source.startswith("/") else "volume"
    return {"Type": kind, "Source": bind.source, "Target": bind.target}


def _device_requests(runtime: GpuRuntime, gpus: tuple[str, ...]) -> list[dict[str, Any]]:
    if not gpus or runtime in ("simulated", "none"):
        return []
    if runtime == "cdi":
        return [{"Driver": "cdi", "DeviceIDs": [f"nvidia.com/gpu={uuid}" for uuid in gpus]}]
    return [{"Driver": "nvidia", "DeviceIDs": list(gpus), "Capabilities": [["gpu"]]}]
