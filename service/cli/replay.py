"""`gpuledger replay`: the log record by record, decided once more, or as it would have been."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from events.values import split_versioned
from service.cli import show
from service.cli.failures import CliFailure, reported
from service.cli.maintain import AsJson
from service.cli.serve import PANEL, DataDir, LogLevel, Nats, NatsCredentials, Node, settings_of
from service.cli.show import plural

if TYPE_CHECKING:
    from service.cli.replay_walk import Log, Name, Visit
    from service.domain.conditions import Condition

LIMIT = 20

File = Annotated[
    Path | None,
    typer.Option(
        "--file", metavar="DIR", show_default=False, help="The folder of a backup, not this log"
    ),
]
To = Annotated[
    int | None, typer.Option("--to", metavar="SEQ", show_default=False, help="Up to this record")
]
OfName = Annotated[
    str | None,
    typer.Option(
        "--name",
        metavar="NAME[@VERSION]",
        show_default=False,
        help="Show only records about this name, or this version of it",
    ),
]
StepBy = Annotated[bool, typer.Option("--step", help="Show one record, and ask what then")]
Break = Annotated[
    str | None,
    typer.Option(
        "--break",
        metavar="CONDITION",
        show_default=False,
        help="Stop where this holds, such as 'gpus_free == 0'; see docs/replay.md",
    ),
]
UntilBreach = Annotated[
    bool,
    typer.Option("--until-breach", help="Stop where an invariant is broken; exit code 1 then"),
]
Verify = Annotated[
    bool,
    typer.Option(
        "--verify", help="Decide every record once more; exit code 1 if one is not as it is stored"
    ),
]
WhatIf = Annotated[
    Path | None,
    typer.Option(
        "--what-if",
        metavar="FILE",
        show_default=False,
        help="Alter the history as a TOML file says, and show what differs",
    ),
]
Limit = Annotated[
    int, typer.Option("--limit", min=1, help="Show so many differences at most, and count all")
]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("replay", rich_help_panel=PANEL)(replay)


def replay(
    ctx: typer.Context,
    file: File = None,
    to: To = None,
    name: OfName = None,
    step: StepBy = False,
    break_at: Break = None,
    until_breach: UntilBreach = False,
    verify: Verify = False,
    what_if: WhatIf = None,
    limit: Limit = LIMIT,
    data_dir: DataDir = None,
    nats: Nats = None,
    nats_credentials: NatsCredentials = None,
    node: Node = None,
    log_level: LogLevel = None,
    as_json: AsJson = False,
) -> None:
    """Show each record: what was decided on which state, what Docker was asked and answered.

    Nothing is changed by it, and it may run beside the service.
    """
    _see_that_they_go_together(
        walks=step or break_at is not None or name is not None,
        others=(until_breach, verify, what_if is not None),
    )
    if step and as_json:
        raise typer.BadParameter("--step is for people: leave --json out")
    chosen, condition = _name(name), _condition(break_at)
    with reported():
        import uvloop

        from service import bootstrap
        from service.cli.replay_histories import show_histories

        # Read before the log: what is wrong in it is told at once.
        altered = bootstrap.read_alterations(what_if) if what_if is not None else None
        if file is not None:
            log = uvloop.run(bootstrap.copy_backup(file, to))
        else:
            log = uvloop.run(bootstrap.copy_log(settings_of(ctx), to))
        with log:
            if verify:
                _verify(log, limit, as_json)
            elif until_breach:
                _until_breach(log, as_json)
            elif altered is not None:
                show_histories(log, altered, limit, as_json)
            else:
                _walk(log, chosen, condition, step, as_json)


def _walk(
    log: "Log", name: "Name | None", condition: "Condition | None", step: bool, as_json: bool
) -> None:
    """Show the records; with a condition, only the first that it stops at, or from there on."""
    from service.cli import replay_text
    from service.cli.replay_steps import step_through
    from service.cli.replay_walk import Walk

    walk = Walk(log, condition)
    chosen = walk.visits()
    if name is not None:
        chosen = filter(lambda visit: name.chooses(visit.step), chosen)

    def show_visit(visit: "Visit") -> None:
        told = (visit.step, visit.before, visit.after, visit.due)
        if as_json:
            typer.echo(replay_text.as_json(replay_text.record_data(*told)))
        else:
            stands = replay_text.counts_lines(visit.after) if visit.stops else ()
            typer.echo("\n".join([*replay_text.record_lines(*told), *stands, ""]))

    if condition is not None:
        chosen = _from_stop(chosen)
    if step:
        step_through(walk, chosen, show_visit)
        return
    shown = 0
    for visit in chosen:
        show_visit(visit)
        shown += 1
        if condition is not None:
            return
    if not shown:
        what = "the condition held at none of them" if condition else "none is about that name"
        raise CliFailure(f"{plural(log.last_seq, 'record')}: {what}")


def _from_stop(visits: "Iterator[Visit]") -> "Iterator[Visit]":
    """What is before the first stop is passed over."""
    for visit in visits:
        if visit.stops:
            yield visit
            break
    yield from visits


def _verify(log: "Log", limit: int, as_json: bool) -> None:
    from service.cli import replay_text
    from service.domain.replaying import Replay

    walk, begun = Replay(), perf_counter()
    verdicts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for seq, event in log.records():
        step = walk.step(seq, event)
        verdicts[step.verdict] += 1
        if step.verdict == "undecidable":
            reasons[step.why] += 1
        if step.verdict == "otherwise" and verdicts["otherwise"] <= limit:
            head = {"seq": seq, "kind": step.record.kind, "name": step.record.name}
            data = {**head, "verb": step.record.verb, **replay_text.command_data(step.command)}
            stored = {"events": replay_text.plain(step.record.events)}
            text = (
                replay_text.headline(step),
                *replay_text.command_lines(step.command),
                *replay_text.verdict_lines(step),
                "",
            )
            data = {**data, **stored, **replay_text.verdict_data(step)}
            typer.echo(replay_text.as_json(data) if as_json else "\n".join(text))
    seconds = perf_counter() - begun
    rate = round(log.last_seq / seconds)
    same, otherwise = verdicts["same"], verdicts["otherwise"]
    if as_json:
        summary = {
            "records": log.last_seq,
            "same": same,
            "otherwise": otherwise,
            "undecidable": verdicts["undecidable"],
            "why": dict(reasons),
            "seconds": seconds,
            "recordsPerSecond": rate,
        }
        typer.echo(replay_text.as_json(summary))
    else:
        if otherwise > limit:
            typer.echo(f"and {otherwise - limit} more (--limit shows them)")
        typer.echo(f"{plural(log.last_seq, 'record')} in {seconds:.2f} s ({rate} records/s)")
        typer.echo(f"{same} decided as stored, {otherwise} otherwise")
        for why, number in reasons.items():
            typer.echo(f"{number} not decided once more: {why}")
    if otherwise:
        raise typer.Exit(1)


def _until_breach(log: "Log", as_json: bool) -> None:
    from service.cli import replay_text
    from service.cli.replay_walk import first_breach

    found = first_breach(log)
    if found is None:
        data: dict[str, object] = {"records": log.last_seq, "breaches": []}
        text = f"{plural(log.last_seq, 'record')}: no invariant is broken"
        typer.echo(replay_text.as_json(data) if as_json else text)
        return
    step, breaches = found
    if as_json:
        data = {"records": log.last_seq, "seq": step.seq, "breaches": replay_text.plain(breaches)}
        typer.echo(replay_text.as_json(data))
    else:
        lines = [
            replay_text.headline(step),
            *replay_text.command_lines(step.command),
            *replay_text.event_lines(step.record.events),
            *replay_text.verdict_lines(step),
            *(show.escaped(f"BROKEN    {one.subject}: {one.message}") for one in breaches),
        ]
        typer.echo("\n".join(lines))
    raise typer.Exit(1)


def _see_that_they_go_together(*, walks: bool, others: tuple[bool, ...]) -> None:
    if walks + sum(others) > 1:
        raise typer.BadParameter(
            "--verify, --until-breach and --what-if each stand alone; --step, --break and --name go"
            " together"
        )


def _name(text: str | None) -> "Name | None":
    from service.cli.replay_walk import Name

    if text is None:
        return None
    name, at, version = text.rpartition("@")
    if not at:
        return Name(text)
    known = split_versioned(f"{name}-{version}")
    if known is None:
        raise typer.BadParameter(
            f"{text!r} names no version; write it as NAME@VERSION, such as foo@2",
            param_hint="--name",
        )
    return Name(*known)


def _condition(text: str | None) -> "Condition | None":
    from service.domain.conditions import NoCondition, read_condition

    if text is None:
        return None
    try:
        return read_condition(text)
    except NoCondition as error:
        raise typer.BadParameter(f"{text!r}, {error}", param_hint="--break") from None
