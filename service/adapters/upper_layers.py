"""A container's own layer on overlay2: where it is, and that nothing has it mounted.

    <DockerRootDir>/overlay2/<id>/diff      the upper directory: all that the container changed
    <DockerRootDir>/overlay2/<id>/merged    the overlay, mounted while the container runs

The kernel calls changes to an upper directory under a mounted overlay undefined
(Documentation/filesystems/overlayfs.rst, "Changes to underlying filesystems"), so a layer is
only touched when it is mounted nowhere that counts. Everything here blocks.
"""

import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from events.labels import LABEL_OWNER
from service.errors import SystemDiskError

STORAGE_DRIVER = "overlay2"

UNMOUNT_TIMEOUT_S = 60.0
"""Unmounting writes back what the container left in memory: seconds on a slow disk."""

_RECHECK_S = 0.01
_PEER = struct.Struct("3i")  # struct ucred of SO_PEERCRED: pid, uid, gid


class Layer(Struct, frozen=True):
    """The layer of a container of ours."""

    container: str
    container_id: str
    image_id: str
    status: str
    started: bool
    """True when the container ever ran."""
    upper: Path

    @property
    def folder(self) -> Path:
        """Docker's folder of the layer; it goes, with all that is in it, with the container."""
        return self.upper.parent

    def require_still(self) -> None:
        """Raises SystemDiskError unless the container is stopped or was never started."""
        if self.status not in ("created", "exited", "dead"):
            raise SystemDiskError(f"container {self.container} is {self.status}: stop it first")

    def require_untouched(self) -> None:
        """Raises SystemDiskError unless the container was never started."""
        if self.status != "created" or self.started:
            raise SystemDiskError(
                f"container {self.container} is {self.status}: only one that was never started"
                " can be filled"
            )


def layer_of(seen: Mapping[str, Any], owner: str) -> Layer:
    """From the body of GET /containers/{id}/json. Raises SystemDiskError."""
    name = seen["Name"].lstrip("/")
    if (seen["Config"].get("Labels") or {}).get(LABEL_OWNER) != owner:
        raise SystemDiskError(
            f"container {name} does not belong to this installation: its label {LABEL_OWNER} is"
            f" not {owner!r}. It was left alone."
        )
    driver = seen.get("GraphDriver") or {}
    # The containerd image store hides the paths: GraphDriver.Data is null there.
    upper = (driver.get("Data") or {}).get("UpperDir")
    if driver.get("Name") != STORAGE_DRIVER or not upper:
        raise SystemDiskError(f"container {name} has no upper directory (not on overlay2)")
    state = seen["State"]
    return Layer(
        container=name,
        container_id=seen["Id"],
        image_id=seen["Image"],
        status=state["Status"],
        started=not state["StartedAt"].startswith("0001-"),
        upper=Path(upper),
    )


def engine_pid(socket_path: str) -> int:
    """The process that made the engine's socket; 0 when it is in another pid namespace.

    Under systemd's socket activation that is process 1, which shares the engine's mounts.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(socket_path)
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    pid: int = _PEER.unpack(peer)[0]
    return pid


def follows_mounts(root: Path) -> bool:
    """Does our own mount namespace get the engine's mounts and unmounts below `root`?

    True for a mount that another namespace's is propagated to ("master:", proc(5)), as with
    `-v …:…:rslave`.
    """
    followed = False
    depth = -1
    for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
        fields = line.split(" ")
        point = Path(fields[4])
        if root.is_relative_to(point) and len(point.parts) >= depth:
            depth = len(point.parts)
            followed = any(word.startswith("master:") for word in fields[6 : fields.index("-")])
    return followed


def can_read_mounts(pid: int) -> bool:
    """Whether the mounts that the process sees can be read by us."""
    try:
        return bool(Path(f"/proc/{pid}/mountinfo").read_bytes())
    except OSError:
        return False


def await_unmounted(upper: Path, pid: int, timeout_s: float = UNMOUNT_TIMEOUT_S) -> None:
    """Return when no overlay has this upper directory. Raises SystemDiskError.

    Asked are our own mount namespace, that of process 1 and that of process `pid`, the engine.
    Others may hold copies for as long as they live (a monitoring container that was given `/`
    takes every mount of that moment), but nobody writes through those, and Docker itself mounts
    the layer again regardless of them.
    """
    deadline = time.monotonic() + timeout_s
    while any(_is_mounted(upper, process) for process in ("self", "1", str(pid))):
        if time.monotonic() > deadline:
            raise SystemDiskError(
                f"{upper} is still mounted {timeout_s:g} s after its container stopped: restart the"
                " engine to free it. It loses count of a mount when it is killed, and `docker"
                " export` before 28.0 leaks them (moby 48516)"
            )
        time.sleep(_RECHECK_S)


def _is_mounted(upper: Path, process: str) -> bool:
    """A process that is gone, or whose mounts we may not see, is no evidence of a mount.

    Compared by the layer's own folder: the path in front of it differs when the engine's root
    is mounted elsewhere for us, and Docker mounts by a relative path when there are many layers.
    """
    tail = os.fsencode(f"{upper.parent.name}/{upper.name}")
    try:
        lines = Path(f"/proc/{process}/mountinfo").read_bytes().splitlines()
    except OSError:
        return False
    for line in lines:
        if b" - overlay " in line:
            for option in line.rpartition(b" ")[2].split(b","):
                if option.startswith(b"upperdir=") and option.endswith(tail):
                    return True
    return False
