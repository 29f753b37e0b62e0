"""`gpuledger replay --what-if`: the log and the altered history, where they differ."""

from collections import Counter
from collections.abc import Iterator

import typer

from service.cli import replay_text
from service.cli.failures import CliFailure
from service.cli.replay_walk import Log
from service.cli.show import plural
from service.domain.alterations import Alterations, NoSuchHistory
from service.domain.between import changes_between
from service.domain.commands import RecordOutcome
from service.domain.tally import count
from service.domain.what_if import Difference, How, OtherHistory, answered

_TOLD: dict[How, str] = {
    "otherwise": "decided OTHERWISE here; - is the log, + is here",
    "refused": "REFUSED here",
    "only there": "ONLY in the log",
    "only here": "ONLY here",
}


def show_histories(log: Log, altered: Alterations, limit: int, as_json: bool) -> None:
    """Decide the log anew with what is altered, and show what differs. Raises CliFailure."""
    if altered.last > log.last_seq:
        raise CliFailure(f"record {altered.last} is named, and the log ends with {log.last_seq}")
    try:
        history = OtherHistory(altered, answered(log.records(), altered.shared))
        _show(history, _differences(log, history), log.last_seq, limit, as_json)
    except NoSuchHistory as error:
        raise CliFailure(str(error)) from None


def _differences(log: Log, history: OtherHistory) -> Iterator[Difference]:
    for seq, event in log.records():
        yield from history.step(seq, event)


def _show(
    history: OtherHistory,
    differences: Iterator[Difference],
    records: int,
    limit: int,
    as_json: bool,
) -> None:
    met: Counter[str] = Counter()
    parted = 0
    for difference in differences:
        parted = parted or difference.seq
        met[difference.how] += 1
        if met.total() == 1 and not as_json:
            typer.echo(f"the histories part at record {parted}\n")
        if met.total() <= limit:
            data = _data(difference)
            text = "\n".join([*_lines(difference), ""])
            typer.echo(replay_text.as_json(data) if as_json else text)
    changes = changes_between(history.there, history.here)
    if as_json:
        summary = {
            "records": records,
            "partedAt": parted or None,
            "differences": dict(met),
            "there": replay_text.plain(count(history.there)),
            "here": replay_text.plain(count(history.here)),
            "changes": replay_text.changes_data(changes),
        }
        typer.echo(replay_text.as_json(summary))
        return
    if met.total() > limit:
        typer.echo(f"and {met.total() - limit} more (--limit shows them)\n")
    if not parted:
        typer.echo(f"{plural(records, 'record')}: nothing would have been otherwise")
        return
    ways = ", ".join(f"{number} {how}" for how, number in met.items())
    typer.echo(f"{plural(records, 'record')}, {plural(met.total(), 'difference')}: {ways}")
    table = replay_text.changes_table(changes)
    typer.echo(table or "GPUs, ports, replica sets and volumes are the same in the end\n", nl=False)


def _lines(difference: Difference) -> Iterator[str]:
    record, how = difference.record, difference.how
    place = f"behind #{difference.seq}" if not difference.there else f"#{difference.seq}"
    by = f" by {record.actor}" if record.actor else ""
    yield f"{place}  {record.verb} {record.kind} {record.name}{by}: {_TOLD[how]}"
    yield from replay_text.command_lines(difference.command)
    if difference.why:
        yield from replay_text.labelled("why", difference.why)
    if how == "otherwise":
        yield from replay_text.diff_lines(difference.there, difference.here)
    elif not isinstance(difference.command, RecordOutcome):
        yield from replay_text.event_lines(difference.there or difference.here)


def _data(difference: Difference) -> dict[str, object]:
    record = difference.record
    return {
        "seq": difference.seq,
        "how": difference.how,
        "kind": record.kind,
        "name": record.name,
        "verb": record.verb,
        "actor": record.actor,
        "tenant": record.tenant,
        **replay_text.command_data(difference.command),
        "why": difference.why,
        "there": replay_text.plain(difference.there),
        "here": replay_text.plain(difference.here),
    }
