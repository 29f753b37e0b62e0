"""Values that every layer shares: names, sizes, the limits on each, and what a container is.

Nothing here refuses; the functions answer whether a text is well formed, or give None.
"""

import re
from typing import Literal

from msgspec import Struct

NAME_LENGTH_MAX = 63
"""A Docker name and a subject token both hold it, with a version number behind it."""

GPU_COUNT_MAX = 1024
"""More than any host has; a bound so that a number can never be absurd."""

SIZE_BYTES_MAX = 1 << 60
"""One exbibyte: above it no file system here could hold a volume."""

SIZE_UNITS = {"KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
"""The contract's units are powers of 1024."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,62}")
# ASCII: to `\d` the digits of all scripts are digits, and `int` reads them as well.
_SIZE = re.compile(r"(\d{1,18})(?:\.(\d{1,6}))?\s?([A-Za-z]{1,8})", re.ASCII)
# As Docker's own grammar has it. It becomes a part of a path of the engine's API: no component may
# be "..", which leads to other things than images.
_IMAGE = re.compile(
    r"(?:[a-zA-Z0-9]+(?:(?:\.|-+)[a-zA-Z0-9]+)*(?::\d{1,5})?/)?"
    r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?|sha256:[0-9a-f]{64}",
    re.ASCII,
)

GpuRuntime = Literal["nvidia", "cdi", "simulated", "none"]
"""How GPUs are handed to the engine; "simulated" and "none" hand over nothing."""

Carry = Literal["upper", "commit"]
"""How a system disk is kept and carried to the next revision: by moving and cloning its upper
directory (overlay2 on this host), or by committing it as an image (any engine)."""

Verb = Literal[
    "run",
    "patch",
    "commit",
    "rollback",
    "stop",
    "restart",
    "pause",
    "continue",
    "execute",
    "delete",
    "pin",
    "unpin",
    "debug",
    "create",
    "resize",
    "quarantine",
    "restore",
    "remove",
    "set",
    "close",
    "register",
    "rotate",
    "disable",
    "enable",
    "recover",
]
"""What a caller can ask for, in the contract's words."""

OnExit = Literal["none", "restart"]
"""What is done when a container ends by itself: nothing, or it is started again."""

OnGpuLost = Literal["none", "restart"]
"""What is done when a running container may not use its GPUs any more: nothing, or it is stopped
and started again, which gives them back to it."""

Expiry = Literal["count", "age", "space"]
"""Why a kept system disk is given up: there are newer ones enough, it is too old, or the disk
that it lies on is nearly full."""

DiskSource = Literal["container", "image", "directory"]
"""What a copy of a system disk is made of: a container's layer, a kept image or directory."""

Kind = Literal["replica_set", "volume", "gpu", "orphan", "price", "month", "webhook"]
"""What can be asked for by name."""

OrphanKind = Literal["container", "volume", "image", "system_disk", "volume_disk"]
"""What can be there in our name without a record: the engine's objects, a kept directory with a
system disk in it, and the disk below a sized volume."""

Phase = Literal["running", "paused", "stopped", "deleted"]
"""What a replica set is meant to be."""


def is_name(text: str) -> bool:
    """Is this a name for a replica set or a volume? (letters, digits, `_`; at most 63)"""
    return _NAME.fullmatch(text) is not None


def is_image(text: str) -> bool:
    """Is this an image reference, with or without registry, tag and digest?"""
    return len(text) <= 512 and _IMAGE.fullmatch(text) is not None


def parse_size(text: str) -> int | None:
    """Bytes of a size such as "20GB" or "1.5TB"; None when it is no size or has no known unit."""
    match = _SIZE.fullmatch(text)
    if match is None or (unit := SIZE_UNITS.get(match[3].upper())) is None:
        return None
    fraction = match[2] or "0"
    size = int(match[1]) * unit + int(fraction) * unit // 10 ** len(fraction)
    return size if size <= SIZE_BYTES_MAX else None


def size_unit(text: str) -> str | None:
    """The unit that a size text ends with, known or not; None when it ends with none."""
    match = re.search(r"[A-Za-z]+$", text.strip())
    return match[0].upper() if match else None


def show_size(size_bytes: int) -> str:
    """A size for people in the contract's units: 21474836480 is "20GB"."""
    for unit in ("TB", "GB", "MB", "KB"):
        if size_bytes >= SIZE_UNITS[unit]:
            return f"{round(size_bytes / SIZE_UNITS[unit], 2):g}{unit}"
    return f"{size_bytes}B"


def versioned(name: str, version: int) -> str:
    """The Docker name of a version: foo, 2 is "foo-2"."""
    return f"{name}-{version}"


def split_versioned(text: str) -> tuple[str, int] | None:
    """The name and version of "foo-2"; None when the text is not of that form."""
    name, dash, version = text.rpartition("-")
    if not dash or not is_name(name) or not re.fullmatch(r"[1-9][0-9]{0,8}", version):
        return None
    return name, int(version)


def at_version(name: str, version: int) -> str:
    """A version as people name it: foo, 2 is "foo@2"."""
    return f"{name}@{version}"


def split_at_version(text: str) -> tuple[str, int] | None:
    """The name and version of "foo@2"; None when the text is not of that form."""
    name, at, version = text.partition("@")
    return split_versioned(f"{name}-{version}") if at else None


class Nfs(Struct, frozen=True, omit_defaults=True):
    """An NFS export, mounted by the engine's local driver."""

    server: str
    path: str
    options: str = ""


class Bind(Struct, frozen=True, omit_defaults=True):
    """Something mounted in a container at `target`.

    `source` is an absolute host path, or a volume with its version ("bar-1"), or empty when
    `nfs` says where it comes from.
    """

    source: str
    target: str
    nfs: Nfs | None = None
    read_only: bool = False


class PortBinding(Struct, frozen=True):
    """A container's port ("22/tcp") and the host port that leads to it."""

    container_port: str
    host_port: int


class ContainerSpec(Struct, frozen=True, omit_defaults=True):
    """What a caller asked a container to be; host ports and GPUs are decided, not asked for."""

    image: str
    gpu_count: int = 0
    binds: tuple[Bind, ...] = ()
    env: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    container_ports: tuple[str, ...] = ()
    nano_cpus: int | None = None
    memory_bytes: int | None = None
    shm_bytes: int | None = None
    pids_limit: int | None = None
    on_exit: OnExit = "none"
    max_retries: int = 0
    """So many times in a row it is started again; 0 is without a limit."""
    secret_env: tuple[str, ...] = ()
    """Keys of `env` that were marked: their values are shown to nobody but admins. In order."""
    on_gpu_lost: OnGpuLost = "none"
    labels: dict[str, str] = {}


class Gpu(Struct, frozen=True):
    """One GPU (or MIG instance) as the driver shows it."""

    uuid: str
    index: int
    name: str
    memory_bytes: int
    pci_bus_id: str
    parent_uuid: str | None = None
    """For a MIG instance, the GPU it is a part of."""
