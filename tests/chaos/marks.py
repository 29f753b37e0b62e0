"""The data: what acknowledged writes left in system disks and volumes is there at the end.

Every write makes a file of its own with its name in it, so that no later write hides that an
earlier one is missing. What the ledger says was written is followed through every patch, rollback
and resize; a write whose outcome is not known may be there or not.
"""

import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from docker.errors import NotFound
from msgspec import Struct

from events.debug_copies import DebugCopyBegun, DebugImageMade
from events.outcomes import CommandExecuted
from events.record import Record
from events.replica_sets import ExecutionRequested, RevisionDeclared
from events.volumes import VolumeDeleted, VolumeVersionAbandoned
from projections.state import State
from tests.chaos.asking import DATA_DISK, DISK_MARKS, IMAGE, mark_of
from tests.chaos.faults import Fault
from tests.chaos.host_checks import containers_of, disks_of

Files = Mapping[str, str]
"""What is in each file, by its name."""


class Disk(Struct):
    """A system disk or a volume, by what the ledger says was written to it."""

    parent: "Disk | None" = None
    surely: set[str] = set()
    perhaps: set[str] = set()

    def all_surely(self) -> set[str]:
        return self.surely | (self.parent.all_surely() if self.parent else set())

    def all_perhaps(self) -> set[str]:
        return self.perhaps | (self.parent.all_perhaps() if self.parent else set())


class Written(Struct):
    """All disks that there ever were; a volume made anew after its end is another one."""

    disks: dict[tuple[str, int], Disk] = {}
    volumes: dict[str, Disk] = {}
    acknowledged: int = 0


def written(records: Sequence[Record]) -> Written:
    """What the ledger says was written where."""
    found = Written()
    under_way: dict[str, tuple[Disk, str]] = {}
    copied: dict[str, Disk] = {}
    for event in (event for record in records for event in record.events):
        match event:
            case RevisionDeclared(name=name, number=number, disk_from=disk_from):
                parent = found.disks[name, disk_from] if disk_from else None
                found.disks[name, number] = Disk(parent)
            case DebugCopyBegun(of=of, version=version):
                source, copy = found.disks[of, version], found.disks[event.name, event.number]
                copied[event.name] = source
                copy.surely |= source.all_surely()
                copy.perhaps |= source.all_perhaps()
            case DebugImageMade():
                # What was being executed meanwhile in the container that was copied.
                perhaps = copied[event.name].all_perhaps()
                found.disks[event.name, event.number].perhaps |= perhaps
            case VolumeDeleted(name=name) | VolumeVersionAbandoned(name=name, back_to=0):
                found.volumes.pop(name, None)
            case ExecutionRequested() if (mark := mark_of(event.cmd)) is not None:
                if mark.where == DISK_MARKS:
                    disk = found.disks[event.name, event.number]
                else:
                    volume = event.name if mark.where == DATA_DISK else mark.where.split("/")[-1]
                    disk = found.volumes.setdefault(volume, Disk())
                disk.perhaps.add(mark.ticket)
                under_way[event.operation_id] = disk, mark.ticket
            case CommandExecuted(exit_code=0):
                disk, ticket = under_way[event.operation_id]
                disk.surely.add(ticket)
                found.acknowledged += 1
            case _:
                pass
    return found


def check_marks(client: Any, state: State, found: Written) -> Iterator[Fault]:
    """Look into every container, running or not, and every volume. `client`: a DockerClient."""
    for container, revision in containers_of(state).items():
        disk = found.disks[revision.name, revision.number]
        yield from _compare(container, disk, _files_in(client, container, DISK_MARKS))
    for name in disks_of(state):
        volume = f"{name}-{state.volumes[name].current}"
        disk = found.volumes.get(name, Disk())
        yield from _compare(f"volume {volume}", disk, _files_of_volume(client, volume))


def _compare(where: str, disk: Disk, files: Files) -> Iterator[Fault]:
    for ticket in sorted(disk.all_surely()):
        if files.get(ticket) != f"{ticket}\n":
            yield Fault("lost", f"{where}: write {ticket} is {files.get(ticket)!r}")
    if others := sorted(set(files) - disk.all_perhaps()):
        yield Fault("other", f"{where} has what was never written to it: {', '.join(others)}")


def _files_of_volume(client: Any, volume: str) -> Files:
    """By a container of nobody's, which goes again."""
    bind = {volume: {"bind": "/v", "mode": "ro"}}
    container = client.containers.create(IMAGE, ["true"], volumes=bind)
    try:
        container.start()
        container.wait()
        return _files_in(client, container.id, "/v")
    finally:
        container.remove(force=True)


def _files_in(client: Any, container: str, folder: str) -> Files:
    try:
        chunks, _ = client.api.get_archive(container, folder)
    except NotFound:
        return {}  # nobody wrote there
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        names = [one for one in archive.getmembers() if one.isfile()]
        read = {one.name.rpartition("/")[2]: archive.extractfile(one) for one in names}
        return {name: file.read().decode() for name, file in read.items() if file is not None}
