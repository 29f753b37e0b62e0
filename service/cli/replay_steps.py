"""`gpuledger replay --step`: one record after the other, as the person at the keyboard says."""

import sys
from collections.abc import Callable, Iterable, Iterator

import typer

from projections.state import State
from service.cli import replay_text, show
from service.cli.replay_walk import Visit, Walk
from service.domain.between import changes_between
from service.domain.tally import count

HELP = (
    "Enter: next   c: go on to where the condition holds, or to the end   s: the state"
    "   d: what the last record changed   q: quit"
)


def step_through(walk: Walk, visits: Iterable[Visit], show_visit: Callable[[Visit], None]) -> None:
    """Show one visit, ask, and so on. The end of the input ends it."""
    going_on = any_shown = False
    for visit in visits:
        if going_on and not visit.stops:
            continue
        show_visit(visit)
        any_shown, going_on = True, False
        while (asked := _asked()) not in ("", "c", "q"):
            if asked == "s":
                typer.echo(state_text(walk.state), nl=False)
            elif asked == "d":
                typer.echo(_changed_text(walk, visit), nl=False)
            else:
                typer.echo(HELP)
        if asked == "q":
            return
        going_on = asked == "c"
    typer.echo("the end of the log" if any_shown else "no such record")


def state_text(state: State) -> str:
    """The GPU map, the host ports, the replica sets and the volumes."""
    gpus = sorted(state.gpus.values(), key=lambda gpu: (gpu.index, gpu.uuid))
    parts = [
        "\n".join([f"after record {state.seq}", *replay_text.counts_lines(count(state))]) + "\n",
        _table(
            ("GPU", "HOLDER", "VERSIONS", "NOT LENT", "UUID"),
            ((str(g.index), g.holder or "", _list(g.revisions), g.obstacle, g.uuid) for g in gpus),
        ),
        _table(
            ("PORT", "HOLDER", "VERSIONS", "CONTAINER PORT"),
            (
                (str(port), lease.holder, _list(lease.revisions), lease.container_port)
                for port, lease in sorted(state.ports.items())
            ),
        ),
        _table(
            ("REPLICA SET", "VERSION", "PHASE", "CONTAINER", "KEPT", "OPERATION"), _sets(state)
        ),
        _table(
            ("VOLUME", "VERSION", "OPERATION"),
            (
                (volume.name, str(volume.current), volume.operation or "")
                for name in sorted(state.volumes)
                if (volume := state.live_volume(name)) is not None
            ),
        ),
    ]
    return "".join(part for part in parts if part)


def _sets(state: State) -> Iterator[tuple[str, ...]]:
    for name in sorted(state.replica_sets):
        if (found := state.live(name)) is not None:
            container = state.revisions[name, found.current].container
            operation = found.operation or ""
            kept = _list(found.snapshots)
            yield name, str(found.current), found.phase, container, kept, operation


def _changed_text(walk: Walk, visit: Visit) -> str:
    seq = visit.step.seq
    changed = replay_text.changes_table(
        changes_between(walk.state_before(seq), walk.state), ("BEFORE", "AFTER")
    )
    return changed or f"record {seq} changed nothing of GPUs, ports, replica sets and volumes\n"


def _asked() -> str:
    """What was asked for; the end of the input is to quit."""
    if sys.stdin.isatty():
        typer.echo("(Enter c s d q) ", nl=False, err=True)
    line = sys.stdin.readline()
    return line.strip().lower() if line else "q"


def _table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    listed = list(rows)
    return show.table(headings, listed) if listed else ""


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
