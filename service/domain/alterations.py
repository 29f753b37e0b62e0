"""What may be altered of a history to ask what would have been, and how it is applied. Pure."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from events.values import Gpu
from projections.state import State
from service.domain.commands import Command, Facts, ObserveGpus
from service.domain.placement_orders import Order

ADDED_GPU = "GPU-added-"
"""The UUID of a GPU that is only there in the altered history begins so."""


class NoSuchHistory(Exception):
    """What was asked to be altered cannot be. The text says what, and what there is."""


class AlterRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """Record `seq` was never there, or its command had other fields."""

    seq: int
    drop: bool = False
    command: dict[str, Any] = {}


class InsertCommand(Struct, frozen=True, forbid_unknown_fields=True):
    """A command that comes behind record `after`; its `type` is the name of its class."""

    after: int
    command: dict[str, Any]
    actor: str = "what-if"
    tenant: str = ""


class AlterGpus(Struct, frozen=True, forbid_unknown_fields=True):
    """From behind record `after` on there are more GPUs, or some are not there."""

    after: int
    add: int = 0
    remove: tuple[str, ...] = ()
    """UUIDs."""


class Alterations(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that is altered of a history."""

    placement: Order = "lowest"
    facts: dict[str, Any] = {}
    """Of the host and the settings, as `Facts` has them."""
    after: int = 0
    """Placement and facts hold from behind this record on."""
    records: tuple[AlterRecord, ...] = field(default=(), name="record")
    inserts: tuple[InsertCommand, ...] = field(default=(), name="insert")
    gpus: tuple[AlterGpus, ...] = ()

    @property
    def shared(self) -> int:
        """The last record before which nothing is altered."""
        ends = [*(one.seq - 1 for one in self.records), *self._afters]
        if self.facts or self.placement != "lowest":
            ends.append(self.after)
        return min(ends, default=0)

    @property
    def last(self) -> int:
        """The last record that is named: the log must have it."""
        return max(self.after, *(one.seq for one in self.records), *self._afters, 0)

    @property
    def _afters(self) -> list[int]:
        return [*(one.after for one in self.inserts), *(one.after for one in self.gpus)]


def see_that_it_makes_sense(altered: Alterations) -> None:
    """Raise NoSuchHistory for what would be wrong with any log."""
    if altered == Alterations(after=altered.after):
        raise NoSuchHistory("nothing is altered")
    for one in altered.records:
        if one.drop == bool(one.command):
            raise NoSuchHistory(f"record {one.seq}: give either drop = true or command = {{…}}")
    seqs = [one.seq for one in altered.records]
    if len(set(seqs)) != len(seqs):
        raise NoSuchHistory("a record is altered twice")
    afters = [*(one.after for one in altered.inserts), *(one.after for one in altered.gpus)]
    if min((*seqs, *afters), default=1) < 1 or altered.after < 0:
        raise NoSuchHistory("the first record has seq 1: something is altered before it")
    for gpus in altered.gpus:
        if gpus.add < 0 or not (gpus.add or gpus.remove):
            raise NoSuchHistory(f"gpus after {gpus.after}: give add = COUNT or remove = [UUIDs]")
    for insert in altered.inserts:
        inserted(insert)
    altered_facts(Facts(""), altered.facts)


def altered_command(command: Command, fields: dict[str, Any], seq: int) -> Command:
    """A command with some fields otherwise. Raises NoSuchHistory."""
    there = msgspec.to_builtins(command)
    _see_that_there_are(fields, command, f"record {seq} is a {type(command).__name__}, which")
    found: Command = _read({**there, **fields}, Command, f"record {seq}")
    return found


def inserted(insert: InsertCommand) -> Command:
    """The command of an insertion. Raises NoSuchHistory."""
    where = f"the insertion after {insert.after}"
    found: Command = _read(insert.command, Command, where)
    given = {key: value for key, value in insert.command.items() if key != "type"}
    _see_that_there_are(given, found, f"{where} is a {type(found).__name__}, which")
    return found


def altered_facts(facts: Facts, fields: dict[str, Any]) -> Facts:
    """Facts with some otherwise. Raises NoSuchHistory."""
    if not fields:
        return facts
    _see_that_there_are(fields, facts, "a host")
    found: Facts = _read({**msgspec.to_builtins(facts), **fields}, Facts, "facts")
    return found


def sighting(state: State, alterations: Sequence[AlterGpus]) -> tuple[ObserveGpus, frozenset[str]]:
    """What the driver would show now, and which GPUs of it are other than they are known."""
    present = [gpu for gpu in state.gpus.values() if gpu.present]
    known = ObserveGpus(
        tuple(
            Gpu(g.uuid, g.index, g.name, g.memory_bytes, g.pci_bus_id, g.parent_uuid)
            for g in present
        )
    )
    seen = altered_sighting(known, alterations)
    shown, there = ({gpu.uuid for gpu in one.gpus} for one in (seen, known))
    return seen, frozenset(shown ^ there)


def altered_sighting(command: ObserveGpus, alterations: Sequence[AlterGpus]) -> ObserveGpus:
    """A sighting with the GPUs that are there in the altered history.

    One that is added is like the one with the lowest index.
    """
    removed = {uuid for one in alterations for uuid in one.remove}
    shown = [gpu for gpu in command.gpus if gpu.uuid not in removed]
    uuids = {gpu.uuid for gpu in shown}
    like = min(command.gpus, key=lambda gpu: gpu.index, default=Gpu("", 0, "GPU", 80 << 30, ""))
    index = max((gpu.index for gpu in command.gpus), default=-1)
    for number in range(1, sum(one.add for one in alterations) + 1):
        uuid = f"{ADDED_GPU}{number}"
        if uuid not in uuids | removed:
            index += 1
            shown.append(replace(like, uuid=uuid, index=index, pci_bus_id="", parent_uuid=None))
    return replace(command, gpus=tuple(shown))


def _see_that_there_are(fields: dict[str, Any], of: Struct, whose: str) -> None:
    there = of.__struct_fields__
    if unknown := sorted(set(fields) - set(there)):
        raise NoSuchHistory(f"{whose} has no {', '.join(unknown)}; it has {', '.join(there)}")


def _read(value: dict[str, Any], kind: Any, where: str) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise NoSuchHistory(f"{where}: {error}") from None
