"""Is the command of a container that was just started really there?

With `Init: true` Docker starts its own init, which then cannot execute a command that is not
there: `start` succeeds and the container is gone some milliseconds later, with exit code 126 or
127. So a start counts once the command is seen running, or has ended by itself.
"""

import time
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError

from service.errors import EngineRefused
from service.ports import NOT_EXECUTED

LOOK_S_MAX = 2.0
_LOOK_EVERY_S = 0.005

_NO_PS = "executable file not found"
"""What a host without `ps` answers to `docker top`."""

_INIT = ("docker-init", "/dev/init", "tini")


def require_command(client: docker.APIClient, container_id: str) -> dict[str, Any]:
    """Docker's State of the container once its command runs, or ran. Blocks; call in a thread.

    Raises EngineRefused (`bad_command`) with the words of Docker's init.
    """
    deadline = time.monotonic() + LOOK_S_MAX
    while True:
        seen = client.inspect_container(container_id)
        state: dict[str, Any] = seen["State"]
        if not state["Running"]:
            if seen["HostConfig"].get("Init") and state["ExitCode"] in NOT_EXECUTED:
                raise EngineRefused(_last_words(client, container_id, state), "bad_command")
            return state
        if not seen["HostConfig"].get("Init"):
            return state
        runs = _runs_command(client, container_id, state["Pid"])
        if runs or time.monotonic() > deadline:
            return state
        time.sleep(_LOOK_EVERY_S)


def _runs_command(client: docker.APIClient, container_id: str, init_pid: int) -> bool:
    """Has Docker's init (process `init_pid`) a child that is not its own fork any more?

    Where the processes cannot be listed it has just ended, which Docker notices in a moment; or
    the host has no ps, and then running has to be enough.
    """
    children = _children_here(container_id, init_pid)
    if children is not None:
        return any(not child.endswith(_INIT) for child in children)
    try:
        processes = client.top(container_id, ps_args="-eo pid,ppid,args")["Processes"] or ()
    except APIError as error:
        return _NO_PS in str(error.explanation)
    # Only its children: before it runs, its own process is the runtime's. And ps shows in brackets
    # what is on its way out, since that has no command line any more.
    children = [args.partition(" ")[0] for _, parent, args in processes if int(parent) == init_pid]
    return any(not child.strip("[]").endswith(_INIT) for child in children)


def _children_here(container_id: str, init_pid: int) -> list[str] | None:
    """The names of a process's children, when it is one of this host's (proc(5)).

    None when it is not, or cannot be seen. Asked of Docker, which runs `ps`, it takes some
    50 ms, in which a patch's caller waits.
    """
    process = Path(f"/proc/{init_pid}")
    try:
        if container_id not in (process / "cgroup").read_text():
            return None  # that process id is another one's: the engine's host is not this one
        pids = (process / "task" / str(init_pid) / "children").read_text().split()
        return [Path(f"/proc/{pid}/comm").read_text().strip() for pid in pids]
    except OSError:
        return None


def _last_words(client: docker.APIClient, container_id: str, state: dict[str, Any]) -> str:
    try:
        words: bytes = client.logs(container_id, tail=3)
    except APIError:  # a log driver that cannot be read
        words = b""
    text = words.decode("utf-8", "replace").strip()
    return text or f"the container ended at once with exit code {state['ExitCode']}"
