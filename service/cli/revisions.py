"""Commands that show replica sets and their versions: ps, info, history."""

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from events.values import show_size
from service.cli import show
from service.cli.answers import Port, ReplicaSets, read
from service.cli.client import Api, path_of
from service.cli.failures import NotFound
from service.cli.replica_sets import PANEL, Name
from service.cli.session import Session, command


def register(app: typer.Typer) -> None:
    """Add the commands to the app, in the order that --help shows."""
    command(app, "ps", panel=PANEL)(ps)
    command(app, "info", panel=PANEL)(info)
    command(app, "history", panel=PANEL)(history)


def ps(session: Session) -> None:
    """List the replica sets."""
    data = _all_replica_sets(session.api)
    now_s = session.surroundings.now_s()
    rows = [
        (
            row.name,
            str(row.version),
            row.phase,
            str(len(row.gpus)),
            _ports(row.ports),
            row.image_name,
            show.age(row.create_time, now_s),
        )
        for row in read(data, ReplicaSets).replica_sets
    ]
    headings = ("NAME", "VER", "PHASE", "GPUS", "PORTS", "IMAGE", "AGE")
    session.print(data, show.table(headings, rows))


def info(session: Session, name: Name) -> None:
    """Show the current version: what runs, and what it holds."""
    data = session.api.get(path_of("replicaSet", name))
    found = data["info"]
    config, host = found["config"], found["hostConfig"]
    pairs = [
        ("container", found["containerName"]),
        ("version", str(found["version"])),
        ("created", show.moment(found["createTime"])),
        ("image", config.get("Image", "")),
        ("cmd", " ".join(config.get("Cmd") or [])),
        ("GPUs", "\n".join(found["gpus"])),
        ("ports", "\n".join(_port_lines(host))),
        ("binds", "\n".join(_binds(host))),
        ("env", "\n".join(config.get("Env") or [])),
        ("CPUs", f"{host['NanoCpus'] / 1e9:g}" if host.get("NanoCpus") else ""),
        ("memory", _size(host.get("Memory"))),
        ("/dev/shm", _size(host.get("ShmSize"))),
    ]
    session.print(data, show.details(pairs))


def history(session: Session, name: Name) -> None:
    """List every version there ever was, newest first; * marks the current one."""
    data = session.api.get(path_of("replicaSet", name, "history"))
    current = _current_version(session.api, name)
    rows = [
        (
            "*" if entry["version"] == current else " ",
            str(entry["version"]),
            show.moment(entry["createTime"]),
            entry["verb"],
            str(len(entry["status"]["gpus"])),
            entry["status"]["config"].get("Image", ""),
            "in use" if entry["version"] == current else "kept" if entry["diskKept"] else "gone",
        )
        for entry in data["history"]
    ]
    headings = ("", "VERSION", "CREATED", "BY", "GPUS", "IMAGE", "DISK")
    session.print(data, show.table(headings, rows))


def _all_replica_sets(api: Api) -> dict[str, Any]:
    """The list with all its pages, as if it were one."""
    page = api.get(path_of("replicaSet"))
    rows = list(page["replicaSets"])
    while page.get("next"):
        page = api.get(path_of("replicaSet"), after=page["next"])
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
    return [f"{_source(mount)} -> {mount['Target']}" for mount in host.get("Mounts") or []]


def _source(mount: Mapping[str, Any]) -> str:
    """A host path, a volume, or SERVER:/export of NFS, which Docker keeps among its options."""
    if "Source" in mount:
        return str(mount["Source"])
    options = mount.get("VolumeOptions", {}).get("DriverConfig", {}).get("Options", {})
    address = options.get("o", "").partition(",")[0].removeprefix("addr=")
    return f"{address}{options.get('device', '')}"


def _current_version(api: Api, name: str) -> int | None:
    """The version that counts; None when the replica set was deleted and only its past is left."""
    try:
        return int(api.get(path_of("replicaSet", name))["info"]["version"])
    except NotFound:
        return None


def _size(size_bytes: int | None) -> str:
    return show_size(size_bytes) if size_bytes else ""
