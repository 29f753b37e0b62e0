"""What a private engine leaves on the machine, found and removed (see tests/kit/dockerd.py).

An engine called `glkit7` is recognised by four things that nobody else has: its folder, its bridge,
its cgroup, and the folder's path in the command lines of its programs. Everything here looks at
the machine itself and at no notes of ours, so it also cleans up after a test run that was killed.
"""

import os
import select
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic

ENGINE_PROGRAMS = frozenset({"dockerd", "containerd", "containerd-shim-runc-v2"})
CGROUP_ROOT = Path("/sys/fs/cgroup")


def engine_processes(folder: Path, *programs: str) -> list[int]:
    """The engine's own programs (all, or these) that run on this folder."""
    wanted = frozenset(programs) or ENGINE_PROGRAMS
    found = []
    for pid, argv in _command_lines():
        runs_here = any(f"{folder}/" in word for word in argv[1:])
        if runs_here and os.path.basename(argv[0]) in wanted:
            found.append(pid)
    return found


def container_processes(name: str) -> list[int]:
    """What runs in the engine's containers, exec'd commands included, by their cgroup."""
    found = []
    for pid in _pids():
        try:
            cgroups = Path(f"/proc/{pid}/cgroup").read_text()
        except OSError:
            continue  # gone meanwhile
        if f"/{name}/" in cgroups and _command_line(pid):
            found.append(pid)
    return found


def mounts_below(folder: Path) -> list[str]:
    """Mount points in the folder, the innermost first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4] for line in lines]
    return [point for point in reversed(points) if point.startswith(f"{folder}/")]


def bridge_exists(name: str) -> bool:
    return Path(f"/sys/class/net/{name}").exists()


def cgroups_of(name: str) -> list[Path]:
    """The engine's cgroups: one folder (version 2), or one per controller (version 1)."""
    candidates = [CGROUP_ROOT / name, *CGROUP_ROOT.glob(f"*/{name}")]
    return [path for path in candidates if path.is_dir()]


def end_processes(pids: Iterable[int], number: int, timeout_s: float) -> bool:
    """Signal these and wait until all have ended; False when some are left after the time.

    Signal 0 only waits. By pidfd, so that a pid given to somebody else meanwhile is never hit.
    """
    with ExitStack() as stack:
        poll = select.poll()
        waiting = set()
        for pid in pids:
            try:
                fd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            stack.callback(os.close, fd)
            try:
                signal.pidfd_send_signal(fd, number)
            except ProcessLookupError:
                continue
            poll.register(fd, select.POLLIN)
            waiting.add(fd)
        deadline = monotonic() + timeout_s
        while waiting and (left_s := deadline - monotonic()) > 0:
            for fd, _ in poll.poll(left_s * 1000):
                poll.unregister(fd)
                waiting.discard(fd)
        return not waiting


def thaw(name: str) -> None:
    """Let frozen containers go on, so that they can be killed.

    dockerd freezes a container for a commit; when it is killed then, nobody thaws it again.
    """
    for top in cgroups_of(name):
        for state, running in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            for path in top.glob(f"*/{state}"):
                with suppress(OSError):  # gone meanwhile
                    path.write_text(running)


def end_engine(name: str, folder: Path, timeout_s: float = 20.0) -> None:
    """Let dockerd leave in order, with no container to wait for, then end what is left."""
    dockerd = engine_processes(folder, "dockerd")
    end_processes(dockerd, signal.SIGTERM, 0)
    deadline = monotonic() + timeout_s
    while dockerd and monotonic() < deadline:
        # A restart policy may have started another one before dockerd saw the signal.
        end_processes(container_processes(name), signal.SIGKILL, 1.0)
        if end_processes(dockerd, 0, 0.2):
            break
    thaw(name)  # dockerd may have frozen one meanwhile
    end_processes(container_processes(name), signal.SIGKILL, 5.0)
    # Without dockerd nobody tells the shims to go. In order, so that they remove their sockets.
    end_processes(engine_processes(folder, "containerd-shim-runc-v2"), signal.SIGTERM, 5.0)
    end_processes(engine_processes(folder, "containerd"), signal.SIGTERM, 5.0)
    end_processes(engine_processes(folder), signal.SIGKILL, 5.0)


def remove_remains(name: str, folder: Path) -> None:
    """End the engine and remove its mounts, cgroups, bridge and folder."""
    thaw(name)
    end_engine(name, folder)
    for point in mounts_below(folder):
        subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)
    for top in cgroups_of(name):
        for path in [*sorted(top.rglob("*/"), reverse=True), top]:
            path.rmdir()
    if bridge_exists(name):
        subprocess.run(["ip", "link", "delete", name], check=True)
    shutil.rmtree(folder)


def _pids() -> Iterator[int]:
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())


def _command_line(pid: int) -> list[str]:
    """Empty for a kernel thread, for a zombie and for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def _command_lines() -> Iterator[tuple[int, list[str]]]:
    for pid in _pids():
        if argv := _command_line(pid):
            yield pid, argv
