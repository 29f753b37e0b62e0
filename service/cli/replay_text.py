"""What a replay shows of a record: for people at 100 columns, and for programs as JSON.

Values of environment variables are shown to nobody: they may be secret, and a log may be another
installation's.
"""

import difflib
import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import fields

from events.record import Event
from service.cli import show
from service.domain.between import StateChanges
from service.domain.changes import SpecChange
from service.domain.commands import Command, Failed, RecordOutcome, RecordProgress, Succeeded
from service.domain.effects import Effect
from service.domain.guards import Decision
from service.domain.rejections import Rejected
from service.domain.replaying import Step
from service.domain.tally import Counts

WIDTH = 100
HIDDEN = "***"
_LABEL = 10
_VALUE_MAX = 160
"""A longer value is cut in the text; JSON has all of it."""
_ENVIRONMENTS = ("env", "Env", "secretEnv")


def plain(value: object) -> Any:
    """A value as JSON has it, without what is secret."""
    return _hidden(msgspec.to_builtins(value), "")


def told(thing: Struct) -> dict[str, Any]:
    """The fields of something that are not as they are by default."""
    defaults = {field.name: field.default for field in fields(thing)}
    return {
        name: value
        for name, value in plain(thing).items()
        if name in defaults and getattr(thing, name) != defaults[name]
    }


def headline(step: Step) -> str:
    """Which record it is, from when, about what, by whom."""
    record, event = step.record, step.event
    by = f" by {record.actor}" if record.actor else ""
    of = f" of {record.tenant}" if record.tenant else ""
    what = f"{record.verb} {record.kind} {record.name}"
    return show.escaped(f"#{step.seq}  {event.time}  {what}{by}{of}")


def record_lines(
    step: Step, before: Counts, after: Counts, due: Sequence[Effect]
) -> Iterator[str]:
    """All that is to be said of a record."""
    yield headline(step)
    yield from command_lines(step.command)
    yield from event_lines(step.record.events)
    yield from verdict_lines(step)
    changed = ", ".join(
        f"{word} {old} → {new}" for word, old, new in _numbers(before, after) if old != new
    )
    yield from labelled("state", changed or "as many of everything as before")
    for place, effect in enumerate(due):
        yield from labelled("due" if place == 0 else "", _effect_words(effect))


def event_lines(events: Sequence[Event]) -> Iterator[str]:
    """What was decided, an event a line."""
    for place, event in enumerate(events):
        label = "events" if place == 0 else ""
        yield from labelled(label, f"{tag_of(event)}  {_pairs(told(event))}")


def command_lines(command: Command | None) -> Iterator[str]:
    """What was asked for; of an outcome, what the engine was asked and what it answered."""
    if command is None:
        return
    if not isinstance(command, RecordOutcome | RecordProgress):
        yield from labelled("command", f"{type(command).__name__}  {_pairs(told(command))}")
        return
    yield from labelled("asked", _effect_words(command.effect))
    if isinstance(command, RecordProgress):
        yield from labelled("so far", f"{command.done_bytes} of {command.total_bytes} bytes")
    elif isinstance(command.outcome, Failed):
        failed = command.outcome
        yield from labelled("answered", f"failed  {failed.reason}: {failed.message}")
    else:
        yield from labelled("answered", f"succeeded  {_pairs(plain(command.outcome.facts))}")


def verdict_lines(step: Step) -> Iterator[str]:
    """What today's code says to it; where that is not what is stored, line by line."""
    if step.verdict == "same":
        yield from labelled("decided", "as it is stored")
    elif step.verdict == "undecidable":
        yield from labelled("decided", f"not once more: {step.why}")
    elif step.again is None:
        yield from labelled("decided", f"OTHERWISE: {step.why}")
    else:
        yield from labelled("decided", "OTHERWISE; - is what is stored, + what is decided today")
        yield from diff_lines(step.record.events, step.again)


def diff_lines(old: Decision, new: Decision) -> Iterator[str]:
    """The lines of two decisions that differ, each with the event that it is of."""
    found = difflib.unified_diff(_decision_lines(old), _decision_lines(new), n=0, lineterm="")
    lines = [line for line in list(found)[2:] if not line.startswith("@@")]
    if not lines:
        yield " " * (_LABEL + 2) + "what differs is a value that is not shown"
    for line in lines:
        cut = _cut(show.escaped(f"{line[0]} {line[1:]}"), WIDTH - _LABEL - 2)
        yield f"{' ' * _LABEL}  {cut}"


def record_data(
    step: Step, before: Counts, after: Counts, due: Sequence[Effect]
) -> dict[str, Any]:
    """The same for programs."""
    record = step.record
    return {
        "seq": step.seq,
        "time": step.event.time,
        "kind": record.kind,
        "name": record.name,
        "verb": record.verb,
        "actor": record.actor,
        "tenant": record.tenant,
        "remote": record.remote,
        "operationId": record.operation_id,
        "facts": plain(step.facts),
        **command_data(step.command),
        "events": plain(record.events),
        **verdict_data(step),
        "before": plain(before),
        "after": plain(after),
        "due": plain(due),
    }


def command_data(command: Command | None) -> dict[str, Any]:
    """The command; of an outcome, what was asked and what was answered."""
    data: dict[str, Any] = {"command": None if command is None else plain(command)}
    if isinstance(command, RecordOutcome):
        word = "succeeded" if isinstance(command.outcome, Succeeded) else "failed"
        answer = {"outcome": word, **told(command.outcome)}
        data |= {"asked": plain(command.effect), "answer": answer}
    return data


def verdict_data(step: Step) -> dict[str, Any]:
    """What today's code says to it."""
    data: dict[str, Any] = {"decided": step.verdict}
    if step.why:
        data["why"] = step.why
    if step.again is not None:
        data["again"] = decision_data(step.again)
    return data


def decision_data(decision: Decision) -> Any:
    """Events, or why it is refused."""
    if isinstance(decision, Rejected):
        return {"refused": decision.reason, "message": decision.message}
    return plain(decision)


def counts_lines(counts: Counts) -> Iterator[str]:
    """The state in numbers."""
    data = msgspec.to_builtins(counts)
    yield from labelled("all", ", ".join(f"{word} {value}" for word, value in data.items()))


def changes_table(changes: StateChanges, sides: tuple[str, str] = ("THERE", "HERE")) -> str:
    """What is other in one state than in another; empty when nothing is."""
    rows: list[tuple[str, ...]] = []
    for what, things in (
        ("replica set", changes.replica_sets),
        ("volume", changes.volumes),
        ("GPU", changes.gpus),
        ("port", changes.ports),
    ):
        for thing in things:
            head: tuple[str, ...] = (what, thing.name, thing.how)
            for change in map(hidden_change, thing.changes):
                rows.append((*head, change.field, change.old, change.new))
                head = (" ", " ", " ")
    headings = ("WHAT", "NAME", "", "FIELD", *sides)
    return show.table(headings, rows) if rows else ""


def changes_data(changes: StateChanges) -> dict[str, Any]:
    """The same for programs."""
    found: dict[str, Any] = {}
    for what in changes.__struct_fields__:
        found["replicaSets" if what == "replica_sets" else what] = [
            {
                "name": thing.name,
                "how": thing.how,
                "changes": plain([hidden_change(change) for change in thing.changes]),
            }
            for thing in getattr(changes, what)
        ]
    return found


def hidden_change(change: SpecChange) -> SpecChange:
    """A change without values of the environment."""
    if not change.field.startswith("env."):
        return change
    return SpecChange(change.field, change.old and HIDDEN, change.new and HIDDEN)


def tag_of(event: Event) -> str:
    """The type that an event is stored with."""
    return str(event.__struct_config__.tag)


def as_json(data: object) -> str:
    """One line."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def labelled(label: str, text: str) -> Iterable[str]:
    """A label, and the text beside it in as many lines as it takes."""
    lead = f"  {label:<{_LABEL}}"
    return textwrap.wrap(
        show.escaped(" ".join(text.split())),
        WIDTH,
        initial_indent=lead,
        subsequent_indent=" " * len(lead) + "  ",
        break_on_hyphens=False,
    )


def _effect_words(effect: Effect) -> str:
    shown = told(effect)
    whose = ("effect_id", "operation_id", "name", "number", "container_id", "made_by")
    for known in (*whose, "config"):
        shown.pop(known, None)
    thing = f"{effect.name}-{effect.number}" if effect.number else effect.name
    more = {key: value for key, value in shown.items() if value not in ("", thing)}
    return f"{type(effect).__name__} {thing}  {_pairs(more)} [{effect.effect_id}]"


def _decision_lines(decision: Decision) -> list[str]:
    """A line for each field, with its event before it."""
    if isinstance(decision, Rejected):
        return [f"refused  {decision.reason}: {decision.message}"]
    lines: list[str] = []
    for event in decision:
        tag = tag_of(event)
        lines.append(tag)
        for name, value in told(event).items():
            lines += (f"{tag}  {one}" for one in _field_lines(name, value))
    return lines


def _field_lines(name: str, value: Any) -> Iterator[str]:
    """A value in lines that can be compared: what is in a mapping stands in lines of its own."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _field_lines(f"{name}.{key}", inner)
    else:
        yield f"{name}={_word(value)}"


def _numbers(before: Counts, after: Counts) -> Iterator[tuple[str, int, int]]:
    for word in Counts.__struct_fields__:
        yield word, getattr(before, word), getattr(after, word)


def _pairs(data: dict[str, Any]) -> str:
    return " ".join(f"{key}={_cut(_word(value), _VALUE_MAX)}" for key, value in data.items())


def _word(value: Any) -> str:
    if isinstance(value, str) and value and not any(c.isspace() or c in '"=' for c in value):
        return value
    return json.dumps(value, ensure_ascii=False)  # with blanks in it, where a line may end


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _hidden(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return {name: _hidden(inner, name) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(inner, key) for inner in value]
    if key in _ENVIRONMENTS and isinstance(value, str) and "=" in value:
        return f"{value.partition('=')[0]}={HIDDEN}"
    return value
