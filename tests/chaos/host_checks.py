"""What Docker and the host hold at the end, against the ledger: no more, and no less.

The engine is the run's own, so whatever is found on it came from the service.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from events.outcomes import ImageCommitted
from events.record import Record
from events.values import versioned
from projections.state import Revision, State
from service.adapters.upper_store import STORE_FOLDER
from service.domain.reconcile import SNAPSHOT_REPOSITORY
from tests.chaos.asking import IMAGE, OTHER_IMAGE
from tests.chaos.faults import Fault, FaultKind
from tests.chaos.place import loop_devices
from tests.chaos.scene import Scene
from tests.chaos.watch import gpus_of
from tests.kit.engine_remains import mounts_below

THERE = {"created": ("created",), "running": ("running",), "exited": ("exited", "dead")}
"""What Docker may say of a container that the ledger says is so."""

_TABLES = ("tcp", "tcp6", "udp", "udp6")
_LISTENS = ("0A", "07")
"""TCP's LISTEN, and what a bound UDP socket shows (/proc/net/tcp, tcp_states.h)."""


def containers_of(state: State) -> dict[str, Revision]:
    """The containers that there are to be, by name."""
    revisions = (
        state.revisions.get((one.name, one.current)) for one in state.replica_sets.values()
    )
    return {
        versioned(one.name, one.number): one
        for one in revisions
        if one is not None and one.container in THERE
    }


def disks_of(state: State) -> dict[str, set[str]]:
    """The volumes that there are, and the versions of each, as Docker knows them."""
    live = (v for v in state.volumes.values() if v.current and not v.deleted)
    return {v.name: {versioned(v.name, n.number) for n in v.versions if n.made} for v in live}


def check_containers(state: State, inspected: Mapping[str, dict[str, Any]]) -> Iterator[Fault]:
    """Those of the ledger and no others, each as the ledger says, with what it leases."""
    expected = containers_of(state)
    yield from _compare("container", expected, inspected)
    for name in expected.keys() & inspected.keys():
        status = inspected[name]["State"]["Status"]
        if status not in THERE[expected[name].container]:
            text = f"container {name} is {status}, the ledger says {expected[name].container}"
            yield Fault("other", text)
    yield from _check_gpus(state, inspected)
    for lease in state.ports.values():
        holders = {versioned(lease.holder, number) for number in lease.revisions}
        if not holders & inspected.keys():
            text = f"port {lease.host_port} is leased by {lease.holder}, which has no container"
            yield Fault("leak", text)


def _check_gpus(state: State, inspected: Mapping[str, dict[str, Any]]) -> Iterator[Fault]:
    running = {n: gpus_of(one) for n, one in inspected.items() if one["State"]["Running"]}
    leased: dict[str, set[str]] = {}
    for gpu in state.gpus.values():
        holders = {versioned(gpu.holder or "", number) for number in gpu.revisions}
        for name in holders:
            leased.setdefault(name, set()).add(gpu.uuid)
        if gpu.holder and not any(gpu.uuid in gpus_of(inspected.get(n, _NONE)) for n in holders):
            yield Fault("leak", f"{gpu.uuid} is leased by {gpu.holder}, which has no container")
    taken: dict[str, str] = {}
    for name, uuids in running.items():
        for uuid in sorted(uuids):
            if uuid not in leased.get(name, ()):
                yield Fault("double lease", f"container {name} has {uuid} without a lease")
            if uuid in taken:
                yield Fault("double lease", f"{name} and {taken[uuid]} both have {uuid}")
            taken[uuid] = name


_NONE: dict[str, Any] = {"HostConfig": {"DeviceRequests": []}}


def check_shown(scene: Scene, state: State) -> Iterator[Fault]:
    """What the API shows of leases is what the ledger says."""
    gpus = scene.service.get("/resources/gpus").ok()["gpus"]
    shown = {uuid for uuid, used in gpus.items() if used}
    if shown != (leased := {g.uuid for g in state.gpus.values() if g.holder}):
        text = f"/resources/gpus shows {sorted(shown)}, the ledger {sorted(leased)}"
        yield Fault("other", text)
    ports = scene.service.get("/resources/ports").ok()["ports"]["UsedPortSet"]
    if set(ports) != {str(port) for port in state.ports}:
        text = f"/resources/ports shows {sorted(ports)}, the ledger {sorted(state.ports)}"
        yield Fault("other", text)


def check_ports(
    scene: Scene, state: State, inspected: Mapping[str, dict[str, Any]]
) -> Iterator[Fault]:
    """The host ports that are bound are those of the containers that run.

    One that is bound and that no running container publishes is what a killed dockerd left
    behind in its own books: there is nothing that the service could do about it, but to lend
    another (PortRefused).
    """
    wanted = {
        port.host_port
        for revision in containers_of(state).values()
        if revision.container == "running"
        for port in revision.ports
    }
    published = {
        int(binding["HostPort"])
        for one in inspected.values()
        if one["State"]["Running"]
        for bindings in one["NetworkSettings"]["Ports"].values()
        for binding in bindings or ()
    }
    yield from _compare("published port", wanted, published)
    first, last = scene.ports
    found = {port for table in _TABLES for port in _bound(Path("/proc/net") / table)}
    bound = {port for port in found if first <= port <= last}
    for port in sorted(wanted - bound):
        yield Fault("lost", f"port {port} is published and nothing listens on it")
    for port in sorted(bound - published):
        yield Fault("of Docker", f"port {port} is bound, and no running container has it")


def _bound(table: Path) -> Iterator[int]:
    for line in table.read_text().splitlines()[1:]:
        columns = line.split()
        if columns[3] in _LISTENS:
            yield int(columns[1].rpartition(":")[2], 16)


def check_volumes(scene: Scene, state: State, docker_volumes: Iterable[str]) -> Iterator[Fault]:
    """Images, links, loop devices and Docker's volumes of the live ones, and nothing half made."""
    disks = disks_of(state)
    folder = scene.data_dir / "volumes"
    wanted = {f"{name}.{kind}" for name in disks for kind in ("img", "dev")}
    yield from _compare("volume file", wanted, {path.name for path in folder.glob("*")})
    devices = sorted(loop_devices(scene.folder).values())
    yield from _compare("loop device of", {str(folder / f"{n}.img") for n in disks}, devices)
    if len(devices) != len(set(devices)):
        yield Fault("leak", f"a file has two loop devices: {devices}")
    made = {version for versions in disks.values() for version in versions}
    yield from _compare("Docker volume", made, docker_volumes)


def check_mounts(scene: Scene, inspected: Mapping[str, dict[str, Any]]) -> Iterator[Fault]:
    """What is mounted is what a running container needs, and nothing of the service's own.

    Below the engine's root only dockerd mounts. What it had mounted when it was killed, and did
    not find again, is its own affair.
    """
    for point in mounts_below(scene.folder):
        yield Fault("leak", f"{point} is mounted")
    running = [one for one in inspected.values() if one["State"]["Running"]]
    wanted = {one["GraphDriver"]["Data"]["MergedDir"] for one in running}
    root = scene.engine.data_root
    wanted |= {
        str(root / "volumes" / mount["Name"] / "_data")
        for one in running
        for mount in one["Mounts"]
        if mount["Type"] == "volume"
    }
    points = [Path(point) for point in mounts_below(root)]
    found = {str(point) for point in points if point.name in ("merged", "_data")}
    for point in sorted(wanted - found):
        yield Fault("lost", f"a running container's {point} is not mounted")
    for point in sorted(found - wanted):
        yield Fault("of Docker", f"{point} is mounted, and no running container has it")


def check_system_disks(scene: Scene, state: State, tags: Iterable[str]) -> Iterator[Fault]:
    """Kept as directories and as images: those of the ledger, whole, and no others."""
    kept: dict[str, set[str]] = {"upper": set(), "commit": set()}
    for revision in state.revisions.values():
        if revision.snapshot:
            kept[revision.snapshot_carry].add(revision.snapshot)
    kept["commit"] |= {one.debug_image for one in state.replica_sets.values() if one.debug_image}
    root = scene.engine.data_root
    store = root / STORE_FOLDER / (state.node.owner if state.node else "")
    entries = {path.name: path for path in store.glob("*")}
    yield from _compare("kept system disk", kept["upper"], entries)
    for name in kept["upper"] & entries.keys():
        odd = {path.name for path in entries[name].iterdir()} - {"diff", "origin.json", "size"}
        if odd:
            yield Fault("leak", f"kept system disk {name} has {sorted(odd)} beside it")
    for part in root.glob("overlay2/*/diff.part"):
        yield Fault("leak", f"a half-made clone is left: {part}")
    images = {tag for tag in tags if tag.startswith(SNAPSHOT_REPOSITORY)}
    yield from _compare("snapshot image", kept["commit"], images)


def check_images(records: Iterable[Record], tags: Iterable[str]) -> Iterator[Fault]:
    """The images that were committed, and those that were there."""
    saved = {e.image for r in records for e in r.events if isinstance(e, ImageCommitted)}
    others = {tag for tag in tags if not tag.startswith(SNAPSHOT_REPOSITORY)}
    yield from _compare("image", saved | {IMAGE, OTHER_IMAGE}, others)


def check_temporary(scene: Scene) -> Iterator[Fault]:
    """The service, once stopped, leaves no temporary files, also those of its killed lives."""
    for path in sorted(scene.temporary.iterdir()):
        yield Fault("leak", f"temporary {'folder' if path.is_dir() else 'file'} {path.name}")


def _compare(what: str, wanted: Iterable[object], found: Iterable[object]) -> Iterator[Fault]:
    """What is there and should not be is a leak; what should be and is not, is lost."""
    wanted, found = set(wanted), set(found)
    rows: tuple[tuple[FaultKind, set[object], str], ...] = (
        ("leak", found - wanted, "is not in the ledger"),
        ("lost", wanted - found, "is not there"),
    )
    for kind, names, words in rows:
        for name in sorted(map(str, names)):
            yield Fault(kind, f"{what} {name} {words}")
