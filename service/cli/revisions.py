"""Commands that show replica sets and their versions: ps, info, history."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from events.values import show_size
from service.cli import show
from service.cli.addresses import path_of
from service.cli.answers import (
    History,
    Port,
    ReplicaSetRow,
    ReplicaSets,
    SpecChange,
    VersionRow,
    read,
)
from service.cli.failures import NotFound
from service.cli.replica_sets import PANEL, Name
from service.cli.resources import show_service
from service.cli.session import Session, command, replica_set_names

if TYPE_CHECKING:
    from service.cli.client import Api

VALUE_LENGTH_MAX = 30
"""A longer value is cut in a table; `diff` shows it whole."""

_NAMED_ONLY = ("cmd", "containerPorts", "env.", "labels.")
"""What changed of these is too long for a table, or nobody else's business."""


def register(app: typer.Typer) -> None:
    """Add the commands to the app, in the order that --help shows."""
    command(app, "ps", panel=PANEL, past=True)(ps)
    command(app, "info", panel=PANEL, past=True)(info)
    command(app, "history", panel=PANEL, past=True)(history)


def ps(
    session: Session,
    debug_of: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[@VERSION]",
            help="Only debug copies of this replica set, or of this version",
            show_default=False,
        ),
    ] = None,
) -> None:
    """List the replica sets."""
    data = _all_replica_sets(session.api, {} if debug_of is None else {"debugOf": debug_of})
    rows = [
        (
            row.name,
            str(row.version),
            f"{_phase(row)}, copy of {row.debug_of}" if row.debug_of else _phase(row),
            "0" if _gave_back(row.phase, row.container) else str(len(row.gpus)),
            "" if _gave_back(row.phase, row.container) else _ports(row.ports),
            row.image_name,
            session.made(row.create_time),
        )
        for row in read(data, ReplicaSets).replica_sets
    ]
    headings = ("NAME", "VER", "PHASE", "GPUS", "PORTS", "IMAGE", session.made_heading)
    session.print(data, show.table(headings, rows))


def info(
    session: Session,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Name of the replica set; without it the service itself is shown",
            autocompletion=replica_set_names,
        ),
    ] = None,
) -> None:
    """Show the current version: what runs, and what it holds. Without a name, the service."""
    if name is None:
        show_service(session)
        return
    data = session.api.get(path_of("replicaSet", name))
    found = data["info"]
    config, host = found["config"], found["hostConfig"]
    gone = _gave_back(found.get("phase", ""), found.get("container", ""))
    pairs = [
        ("container", found["containerName"]),
        ("version", str(found["version"])),
        ("phase", found.get("phase", "") + (", GPUs and ports given back" if gone else "")),
        *([("debug copy", f"of {found['debugOf']}")] if "debugOf" in found else []),
        *_end(found),
        ("created", show.moment(found["createTime"])),
        ("image", config.get("Image", "")),
        ("cmd", " ".join(config.get("Cmd") or [])),
        ("GPUs", "" if gone else "\n".join(_gpus(found))),
        ("ports", "" if gone else "\n".join(_port_lines(host))),
        ("binds", "\n".join(_binds(host))),
        ("env", "\n".join(config.get("Env") or [])),
        ("CPUs", f"{host['NanoCpus'] / 1e9:g}" if host.get("NanoCpus") else ""),
        ("memory", _size(host.get("Memory"))),
        ("/dev/shm", _size(host.get("ShmSize"))),
        ("processes", f"{host['PidsLimit']} at most" if host.get("PidsLimit") else ""),
        *_policies(found),
    ]
    session.print(data, show.details(pairs))


def _gave_back(phase: str, container: str) -> bool:
    """Has it given back its GPUs and ports? While its container still runs it has them."""
    return phase == "stopped" and container != "running"


def _policies(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is done by itself, where that is anything."""
    most = found["maxRetries"]
    again = f"started again, {most} times in a row at most" if most else "started again"
    when = {"it ends": found["onExit"], "GPUs lost": found["onGpuLost"]}
    return [(what, again) for what, done in when.items() if done == "restart"]


def history(session: Session, name: Name) -> None:
    """List every version there ever was, newest first; * marks the current one."""
    data = session.api.get(path_of("replicaSet", name, "history"))
    current = _current_version(session.api, name)
    rows = [
        (
            "*" if row.version == current else " ",
            str(row.version),
            show.moment(row.create_time),
            row.verb,
            str(len(row.status["gpus"])),
            row.status["config"].get("Image", ""),
            _disk(row),
            "" if row.disk_bytes is None or row.disk_with else show_size(row.disk_bytes),
            _changed(row),
        )
        for row in read(data, History).history
    ]
    headings = ("", "VERSION", "CREATED", "BY", "GPUS", "IMAGE", "DISK", "SIZE", "CHANGED")
    session.print(data, show.table(headings, rows))


def _disk(row: VersionRow) -> str:
    """Where the system disk of a version is."""
    if row.disk_gone:
        return "gone"
    if row.disk_with is not None:
        return f"with {row.disk_with}"
    if row.disk_kept:
        return "pinned" if row.pinned else "kept"
    return "in use, pinned" if row.pinned else "in use"


def _changed(row: VersionRow) -> str:
    """What is other in a version than in the one before, in few words."""
    if row.rolled_back_to is not None:
        return f"to {row.rolled_back_to}"
    return ", ".join(_change(change) for change in row.changed)


def _change(change: SpecChange) -> str:
    if change.field.startswith(_NAMED_ONLY):
        return change.field
    return f"{change.field} {_short(change.old)}→{_short(change.new)}"


def _short(value: str) -> str:
    if len(value) > VALUE_LENGTH_MAX:
        return f"{value[: VALUE_LENGTH_MAX - 1]}…"
    return value or "none"


def _phase(row: ReplicaSetRow) -> str:
    """What it is meant to be, or how its container ended though nobody asked for it."""
    if row.container == "removed":
        return "removed by somebody else"
    if row.exit_code is None and row.gpu_access_lost_time is None:
        return row.phase
    if row.exit_code is None:
        ended = f"{row.phase}, no access to its GPUs"
    else:
        why = f"{row.exit_code}, out of memory" if row.oom_killed else str(row.exit_code)
        ended = f"exited ({why})"
    return f"{ended}, retry {row.retry.attempt}" if row.retry is not None else ended


def _end(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Lines about a container that ended, or lost its GPUs, though nobody asked for it."""
    lines = []
    if found.get("exitCode") is not None:
        why = ", out of memory" if found.get("oomKilled") else ""
        when = show.moment(found.get("finishedTime") or "")
        lines.append(("ended", f"{when} with exit code {found['exitCode']}{why}"))
    if lost := found.get("gpuAccessLostTime"):
        lines.append(("GPUs", f"the kernel does not let it use them, since {show.moment(lost)}"))
    if retry := found.get("retry"):
        due = show.moment(retry["dueTime"])
        lines.append(("retry", f"{retry['attempt']}, at {due}"))
    return lines


def _all_replica_sets(api: "Api", asked: Mapping[str, str]) -> dict[str, Any]:
    """The list with all its pages, as if it were one."""
    page = api.get(path_of("replicaSet"), patient=False, **asked)
    rows = list(page["replicaSets"])
    while page.get("next"):
        page = api.get(path_of("replicaSet"), patient=False, after=page["next"], **asked)
        rows += page["replicaSets"]
    return {**page, "replicaSets": rows}


def _ports(ports: Sequence[Port]) -> str:
    """ "40000->22, 40001->53/udp": TCP is not worth a word."""
    return ", ".join(
        f"{port.host_port}->{port.container_port.removesuffix('/tcp')}" for port in ports
    )


def _port_lines(host: Mapping[str, Any]) -> list[str]:
    return [
        f"{binding['HostPort']} -> {container_port}"
        for container_port, bindings in (host.get("PortBindings") or {}).items()
        for binding in bindings or []
    ]


def _binds(host: Mapping[str, Any]) -> list[str]:
    return [
        f"{_source(mount)} -> {mount['Target']}{' (read-only)' if mount.get('ReadOnly') else ''}"
        for mount in host.get("Mounts") or []
    ]


def _source(mount: Mapping[str, Any]) -> str:
    """A host path, a volume, or SERVER:/export of NFS, which Docker keeps among its options."""
    if "Source" in mount:
        return str(mount["Source"])
    options = mount.get("VolumeOptions", {}).get("DriverConfig", {}).get("Options", {})
    address = options.get("o", "").partition(",")[0].removeprefix("addr=")
    return f"{address}{options.get('device', '')}"


def _current_version(api: "Api", name: str) -> int | None:
    """The version that counts; None when the replica set was deleted and only its past is left."""
    try:
        return int(api.get(path_of("replicaSet", name))["info"]["version"])
    except NotFound:
        return None


def _size(size_bytes: int | None) -> str:
    return show_size(size_bytes) if size_bytes else ""


def _gpus(found: Mapping[str, Any]) -> list[str]:
    """The GPUs that it has, those marked that fell ill or are gone."""
    sick = found.get("gpusSick", ())
    return [f"{uuid} (sick)" if uuid in sick else uuid for uuid in found["gpus"]]
