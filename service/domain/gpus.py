"""The rules for GPUs: which are there, how they fare, which are not lent, and why.

A fault that the hardware is to blame for puts a GPU in quarantine by itself; when the last of its
faults is gone it is lent again. What was put there by hand stays there until it is restored by
hand, and what was restored by hand while it was ill goes back only when it gets worse. Whoever
has a GPU that falls ill keeps it: the service ends nobody's work.
"""

from collections.abc import Iterator, Mapping

from events.gpu_health import GpuCause, GpuError, GpuReport, MissingGpu
from events.operations import OperationSucceeded
from events.record import Event
from events.resources import (
    GpuAppeared,
    GpuDisappeared,
    GpuErrorReported,
    GpuFellIll,
    GpuOccupied,
    GpuQuarantined,
    GpuRecovered,
    GpuRestored,
    GpuVacated,
)
from events.values import Gpu, versioned
from projections.gpu_unit import Ailment, GpuUnit
from projections.state import State
from service.domain.commands import (
    DebugReplicaSet,
    Envelope,
    ObserveGpus,
    PatchReplicaSet,
    QuarantineGpu,
    ReportGpuErrors,
    Request,
    RestartReplicaSet,
    RestoreGpu,
    RollBackReplicaSet,
    RunReplicaSet,
)
from service.domain.guards import Decision, accepted
from service.domain.rejections import Reason, Rejected

APPLICATION_XIDS = frozenset({13, 31, 43, 45, 68, 109})
"""Errors that a program makes, not the hardware: those that NVIDIA's Kubernetes device plugin
leaves out of account (k8s-device-plugin, internal/rm/health.go). All others quarantine."""

XID_MEANINGS: Mapping[int, str] = {
    48: "double-bit memory error",
    63: "memory row or page to be replaced at the next reset",
    64: "memory row or page could not be replaced",
    74: "NVLink error",
    79: "the GPU fell off the bus",
    92: "many single-bit memory errors",
    94: "contained memory error",
    95: "uncontained memory error",
    119: "the GPU's system processor does not answer",
    120: "error of the GPU's system processor",
}
"""In a few words, after NVIDIA's catalogue of XIDs."""

SAME_ERROR_US = 60_000_000
"""An error of the same number on the same GPU is recorded once in this time."""

PIDS_MAX = 16
"""So many processes are named in a record."""

Condition = tuple[GpuCause, int, str]
"""A cause, its number, and words for people."""


def observe(state: State, command: ObserveGpus) -> Decision:
    """What the driver shows now that the ledger does not know, and what follows from it."""
    shown = {gpu.uuid: gpu for gpu in command.gpus}
    reports = {report.uuid: report for report in command.reports}
    missing = {gpu.index: gpu for gpu in command.missing}
    events: list[Event] = [
        GpuDisappeared(uuid)
        for uuid, known in sorted(state.gpus.items())
        if known.present and uuid not in shown
    ]
    by_index = sorted(command.gpus, key=lambda gpu: (gpu.index, gpu.uuid))
    events += [_appeared(gpu) for gpu in by_index if _is_news(state.gpus.get(gpu.uuid), gpu)]
    for gpu in by_index:
        known = state.gpus.get(gpu.uuid) or _not_seen_before(gpu)
        report = reports.get(gpu.uuid) or GpuReport(gpu.uuid)
        events += _health(known, list(_conditions(report)), command.boot)
        events += _occupation(known, report.pids)
    for uuid, known in sorted(state.gpus.items()):
        if uuid not in shown:
            events += _absent(known, missing.get(known.index), command.boot)
    if not events:
        return Rejected(Reason.NOTHING_NEW, "the GPUs are as they were")
    return tuple(events)


def report_errors(state: State, envelope: Envelope, command: ReportGpuErrors) -> Decision:
    """Errors become events, each once in a while; those of the hardware quarantine."""
    events: list[Event] = []
    told: set[tuple[str, int]] = set()
    quarantined: set[str] = set()
    for error in command.errors:
        known = state.gpus.get(error.uuid)
        if known is None or (error.uuid, error.xid) in told:
            continue
        lent = known.quarantine is None and error.uuid not in quarantined
        worse = error.xid not in APPLICATION_XIDS and lent
        if _was_recorded(known, error.xid, envelope.issued_at_us) and not worse:
            continue
        told.add((error.uuid, error.xid))
        events += _error(known, error, command.boot)
        if worse:
            quarantined.add(error.uuid)
            events.append(GpuQuarantined(error.uuid, _xid_words(error.xid)))
    if not events:
        return Rejected(Reason.NOTHING_NEW, "these errors were recorded a moment ago")
    return tuple(events)


def quarantine(state: State, envelope: Envelope, command: QuarantineGpu) -> Decision:
    """Not lent until it is restored by hand; in quarantine already, it stays there for this."""
    if command.name not in state.gpus:
        return _no_gpu(command.name)
    return (
        accepted(envelope, "quarantine", command.name, "gpu"),
        GpuQuarantined(command.name, command.why, by_hand=True),
        OperationSucceeded(envelope.command_id),
    )


def restore(state: State, envelope: Envelope, command: RestoreGpu) -> Decision:
    """Lent again, whoever had put it in quarantine; not in quarantine is success."""
    known = state.gpus.get(command.name)
    if known is None:
        return _no_gpu(command.name)
    restored = () if known.quarantine is None else (GpuRestored(command.name),)
    return (
        accepted(envelope, "restore", command.name, "gpu"),
        *restored,
        OperationSucceeded(envelope.command_id),
    )


def applies_for_gpus(state: State, command: Request) -> bool:
    """Is this a command that GPUs may be chosen for?"""
    if isinstance(command, RunReplicaSet):
        return command.spec.gpu_count > 0
    if isinstance(command, DebugReplicaSet):
        return command.gpu_count > 0
    if not isinstance(command, PatchReplicaSet | RestartReplicaSet | RollBackReplicaSet):
        return False
    replica_set = state.live(command.name)
    if replica_set is None:
        return False
    number = replica_set.current
    if isinstance(command, RollBackReplicaSet):
        number = command.version
    revision = state.revisions.get((command.name, number))
    count = revision.spec.gpu_count if revision is not None else 0
    if isinstance(command, PatchReplicaSet) and command.gpu_count is not None:
        count = command.gpu_count
    return count > 0


def _no_gpu(uuid: str) -> Rejected:
    return Rejected(Reason.GPU_NOT_FOUND, f"there is no GPU {uuid}; see which there are")


def _appeared(gpu: Gpu) -> GpuAppeared:
    return GpuAppeared(
        uuid=gpu.uuid,
        index=gpu.index,
        name=gpu.name,
        memory_bytes=gpu.memory_bytes,
        pci_bus_id=gpu.pci_bus_id,
        parent_uuid=gpu.parent_uuid,
    )


def _is_news(known: GpuUnit | None, gpu: Gpu) -> bool:
    return (
        known is None
        or not known.present
        or (known.index, known.name, known.memory_bytes, known.pci_bus_id)
        != (gpu.index, gpu.name, gpu.memory_bytes, gpu.pci_bus_id)
    )


def _not_seen_before(gpu: Gpu) -> GpuUnit:
    return GpuUnit(
        uuid=gpu.uuid,
        index=gpu.index,
        name=gpu.name,
        memory_bytes=gpu.memory_bytes,
        pci_bus_id=gpu.pci_bus_id,
        parent_uuid=gpu.parent_uuid,
        present=False,
    )


def _conditions(report: GpuReport) -> Iterator[Condition]:
    """What a GPU that answers is sick of."""
    if count := report.ecc_uncorrected:
        plural = "s" * (count > 1)
        yield "ecc", count, f"{count} uncorrected memory error{plural} since it was last reset"
    if report.remap_pending:
        yield "row_remap", 0, "memory rows are to be remapped: reset it"
    if report.remap_failed:
        yield "remap_failed", 0, "memory rows could not be remapped: it is to be replaced"
    if report.retirement_pending:
        yield "page_retirement", 0, "memory pages are to be retired: reset it"


def _health(known: GpuUnit, conditions: list[Condition], boot: str) -> Iterator[Event]:
    """What changed in how a GPU fares that answers."""
    had = {ailment.cause: ailment for ailment in known.ailments if ailment.cause != "xid"}
    now = {cause for cause, _, _ in conditions}
    gone = [ailment for ailment in known.ailments if _is_gone(known, ailment, now, boot)]
    for ailment in gone:
        yield GpuRecovered(known.uuid, ailment.cause, ailment.number)
    fresh = [c for c in conditions if c[0] not in had or had[c[0]].number != c[1]]
    yield from _fallen_ill(known, fresh, boot)
    healthy = not conditions and len(gone) == len(known.ailments)
    if gone and healthy and known.quarantine is not None and not known.quarantine.by_hand:
        yield GpuRestored(known.uuid)


def _is_gone(known: GpuUnit, ailment: Ailment, now: set[GpuCause], boot: str) -> bool:
    """An XID is gone when the GPU was reset: the host booted since, or it was not there at all.

    One that only did not answer for a while was not reset.
    """
    if ailment.cause != "xid":
        return ailment.cause not in now
    booted = bool(boot and ailment.boot) and boot != ailment.boot
    mute = any(other.cause == "no_answer" for other in known.ailments)
    return booted or (not known.present and not mute)


def _absent(known: GpuUnit, missing: MissingGpu | None, boot: str) -> Iterator[Event]:
    """What is known of a GPU that is not shown; a fault stays until it is seen without it."""
    if known.occupants:
        yield GpuVacated(known.uuid)
    away = [a for a in known.ailments if a.cause in ("lost", "no_answer")]
    if missing is None or not (known.present or away):
        # Not there, and nobody says that it is broken. What it had long ago is not looked at.
        return
    cause: GpuCause = "lost" if missing.lost else "no_answer"
    if any(ailment.cause == cause for ailment in away):
        return
    for ailment in away:
        yield GpuRecovered(known.uuid, ailment.cause)
    words = "it fell off the bus" if missing.lost else "it does not answer the driver"
    yield from _fallen_ill(known, [(cause, 0, f"{words} ({missing.message})")], boot)


def _fallen_ill(known: GpuUnit, conditions: list[Condition], boot: str) -> Iterator[Event]:
    for cause, number, message in conditions:
        yield GpuFellIll(known.uuid, cause, message, number, boot, _container(known))
    if conditions and known.quarantine is None:
        yield GpuQuarantined(known.uuid, "; ".join(message for _, _, message in conditions))


def _occupation(known: GpuUnit, pids: tuple[int, ...]) -> Iterator[Event]:
    """Processes on a GPU that is leased are its holder's business."""
    if known.holder is not None:
        pids = ()
    if not pids:
        if known.occupants:
            yield GpuVacated(known.uuid)
    elif not set(pids) & set(known.occupants):
        # Who comes and goes beside one that stays is no news: it is not lent in any case.
        yield GpuOccupied(known.uuid, pids[:PIDS_MAX])


def _was_recorded(known: GpuUnit, xid: int, now_us: int) -> bool:
    return any(e.xid == xid and now_us - e.at_us < SAME_ERROR_US for e in known.errors)


def _error(known: GpuUnit, error: GpuError, boot: str) -> Iterator[Event]:
    holder = _container(known)
    yield GpuErrorReported(known.uuid, error.xid, error.pids[:PIDS_MAX], holder)
    if error.xid in APPLICATION_XIDS:
        return
    yield GpuFellIll(known.uuid, "xid", _xid_words(error.xid), error.xid, boot, holder)


def _xid_words(xid: int) -> str:
    meaning = XID_MEANINGS.get(xid)
    return f"XID {xid} ({meaning})" if meaning else f"XID {xid}"


def _container(known: GpuUnit) -> str:
    """The container that has it; empty when nobody does."""
    return versioned(known.holder, max(known.revisions)) if known.holder else ""
