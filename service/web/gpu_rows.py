"""GPUs as they are shown: who has them, how they fare, and why one is not lent."""

from collections.abc import Sequence

from events.codec import show_time
from events.values import versioned
from projections.state import GpuUnit, Revision
from service.web import schemas_responses as responses


def usage(units: Sequence[GpuUnit]) -> dict[str, responses.Usage]:
    """The contract's map: 0 is free, 1 is used.

    One that nobody has and that is not lent all the same counts as used, so that a client that
    knows nothing of quarantine does not count on it. One that is gone and that nobody has is
    nothing to count on.
    """
    return {unit.uuid: 0 if unit.is_free else 1 for unit in units if unit.present or unit.holder}


def details(units: Sequence[GpuUnit], simulated: bool) -> list[responses.GpuDetail]:
    """Everything that is known of them."""
    return [
        responses.GpuDetail(
            uuid=unit.uuid,
            index=unit.index,
            name=unit.name,
            memory_bytes=unit.memory_bytes,
            pci_bus_id=unit.pci_bus_id,
            parent_uuid=unit.parent_uuid,
            present=unit.present,
            holder=holder(unit.holder, unit.revisions),
            simulated=simulated,
            health="sick" if unit.ailments else "healthy",
            ailments=[
                responses.GpuAilment(one.cause, one.message, show_time(one.since_us))
                for one in unit.ailments
            ],
            quarantine=_quarantine(unit),
            why=unit.obstacle or "; ".join(ailment.message for ailment in unit.ailments),
            since=_since(unit),
            occupants=list(unit.occupants),
        )
        for unit in units
    ]


def holder(name: str | None, revisions: tuple[int, ...]) -> str | None:
    """The container that has it; while it is passed on, the one that is to have it."""
    return versioned(name, max(revisions)) if name and revisions else name


def sick_of(units: Sequence[GpuUnit], revision: Revision) -> list[str]:
    """The UUIDs of the GPUs that a revision has and that are ill, or that are not there."""
    held = {unit.uuid: unit for unit in units if unit.holder == revision.name}
    return [
        uuid
        for uuid in revision.gpus
        if uuid in held and (held[uuid].ailments or not held[uuid].present)
    ]


def _quarantine(unit: GpuUnit) -> responses.QuarantinedBy:
    if unit.quarantine is None:
        return "nobody"
    return "hand" if unit.quarantine.by_hand else "policy"


def _since(unit: GpuUnit) -> str | None:
    if unit.quarantine is not None:
        return show_time(unit.quarantine.since_us)
    return show_time(unit.ailments[0].since_us) if unit.ailments else None
