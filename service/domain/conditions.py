"""Where a replay is to stop: a small language of comparisons over a record and the state after it.

    gpus_free == 0 and tenant == 'lab'
    has('container.exited.v1') or (seq >= 4000 and not name == 'foo')

The words are Python's and are parsed by Python, but nothing of Python is run: only what is listed
here is understood, and it is understood here.
"""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import get_args

from msgspec import Struct

from events.record import Event
from service.domain.replaying import Step
from service.domain.tally import Counts

LENGTH_MAX = 500
"""A longer condition is none that a person wrote, and nesting cannot go deeper than Python can."""

EVENT_TYPES = frozenset(str(event.__struct_config__.tag) for event in get_args(Event))

OF_RECORD: Mapping[str, tuple[type, str]] = {
    "seq": (int, "its place in the log"),
    "kind": (str, "what it is about: 'replica_set', 'volume', 'gpu', 'node', …"),
    "name": (str, "which one"),
    "verb": (str, "'run', 'patch', …, 'outcome', 'progress', 'observe', 'retry', 'expire', …"),
    "actor": (str, "who sent the command; 'executor' for an outcome"),
    "tenant": (str, "whose token it was"),
    "operation": (str, "the id of the operation that it is part of"),
    "decided": (str, "'same', 'otherwise' or 'undecidable': what today's code says to it"),
}
"""What can be asked of a record, and what it is."""

OF_STATE: Mapping[str, str] = {
    "gpus": "GPUs that the driver shows",
    "gpus_free": "those that may be lent",
    "gpus_leased": "those that a replica set holds",
    "gpus_withheld": "those that nobody holds and that are not lent",
    "ports_leased": "host ports",
    "replica_sets": "those that are there",
    "running": "replica sets that are to run",
    "paused": "replica sets that are paused",
    "stopped": "replica sets that are stopped",
    "containers_running": "containers last seen running",
    "volumes": "those that are there",
    "operations_running": "operations that have not ended",
}
"""What can be asked of the state after a record: numbers, each a field of `Counts`."""


class NoCondition(Exception):
    """A text that is no condition. It says where, and what there is."""


class Moment(Struct, frozen=True):
    """A record, and the numbers of the state after it."""

    step: Step
    counts: Counts


class Condition(Struct, frozen=True):
    """A condition that was understood."""

    holds: Callable[[Moment], bool]
    of_record: bool
    """It asks something of the record itself, and so is about each of them; one that asks about
    the state only is about when that becomes so."""


_Value = tuple[type, Callable[[Moment], int | str | bool]]

_COMPARISONS: Mapping[type[ast.cmpop], Callable[[int | str, int | str], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_WORDS = {bool: "a condition", int: "a number", str: "a text"}


def read_condition(text: str) -> Condition:
    """A condition from its text. Raises NoCondition, naming the position (from 1)."""
    if len(text) > LENGTH_MAX:
        raise NoCondition(f"it has {len(text)} characters; {LENGTH_MAX} are allowed")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        place = error.offset or 1
        raise NoCondition(f"position {place}: it cannot be read ({error.msg})") from None
    except (ValueError, RecursionError, MemoryError):
        raise NoCondition("it cannot be read: a character or the nesting is too odd") from None
    reader = _Reader(text.strip())
    kind, value = reader.read(tree)
    if kind is not bool:
        raise reader.error(tree, f"{_WORDS[kind]} alone is no condition; compare it, as in seq > 5")
    return Condition(lambda moment: bool(value(moment)), reader.of_record)


class _Reader:
    """Takes a parsed text apart, and knows where in it a part stands."""

    def __init__(self, text: str) -> None:
        self._bytes = text.encode()
        self.of_record = False

    def error(self, node: ast.expr, words: str) -> NoCondition:
        # Python counts bytes, and people count characters.
        place = len(self._bytes[: node.col_offset].decode(errors="ignore")) + 1
        return NoCondition(f"position {place}: {words}")

    def read(self, node: ast.expr) -> _Value:
        """What a part is, and how to find it out of a moment."""
        match node:
            case ast.BoolOp():
                return self._both(node)
            case ast.UnaryOp(op=ast.Not()):
                negated = self._condition(node.operand)
                return bool, lambda moment: not negated(moment)
            case ast.Compare():
                return self._compared(node)
            case ast.Name():
                return self._named(node)
            case ast.Call():
                return self._has(node)
            case ast.Constant(value=str() | int() as constant) if not isinstance(constant, bool):
                return type(constant), lambda moment: constant
        raise self.error(
            node,
            "this is not understood; there are names, numbers, 'texts', has('type'),"
            " == != < <= > >=, and, or, not, and parentheses",
        )

    def _condition(self, node: ast.expr) -> Callable[[Moment], int | str | bool]:
        kind, value = self.read(node)
        if kind is not bool:
            raise self.error(node, f"{_WORDS[kind]} stands where a condition should; compare it")
        return value

    def _both(self, node: ast.BoolOp) -> _Value:
        parts = [self._condition(part) for part in node.values]
        if isinstance(node.op, ast.And):
            return bool, lambda moment: all(part(moment) for part in parts)
        return bool, lambda moment: any(part(moment) for part in parts)

    def _compared(self, node: ast.Compare) -> _Value:
        """Also a chain, such as 5 < seq <= 9."""
        operands = [node.left, *node.comparators]
        values = [self.read(operand) for operand in operands]
        kind = values[0][0]
        for operand, (other, _) in zip(operands, values, strict=True):
            if other is bool:
                raise self.error(operand, "a condition cannot be compared; use and, or, not")
            if other is not kind:
                raise self.error(
                    operand, f"{_WORDS[other]} is compared with {_WORDS[kind]}, which it never is"
                )
        pairs = []
        for place, sign in enumerate(node.ops):
            if (compare := _COMPARISONS.get(type(sign))) is None:
                raise self.error(operands[place + 1], "before this stands none of == != < <= > >=")
            pairs.append((compare, values[place][1], values[place + 1][1]))
        return bool, lambda m: all(compare(one(m), other(m)) for compare, one, other in pairs)

    def _named(self, node: ast.Name) -> _Value:
        name = node.id
        if name in OF_STATE:
            return int, lambda moment: getattr(moment.counts, name)
        if name not in OF_RECORD:
            there = ", ".join([*OF_RECORD, *OF_STATE])
            raise self.error(node, f"there is no {name}; there are {there}, and has('type')")
        self.of_record = True
        if name == "seq":
            return int, lambda moment: moment.step.seq
        if name == "decided":
            return str, lambda moment: moment.step.verdict
        field = "operation_id" if name == "operation" else name
        return str, lambda moment: getattr(moment.step.record, field)

    def _has(self, node: ast.Call) -> _Value:
        match node:
            case ast.Call(
                func=ast.Name(id="has"), args=[ast.Constant(value=str() as tag)], keywords=[]
            ):
                pass
            case _:
                raise self.error(node, "the only call is has('type of an event')")
        if tag not in EVENT_TYPES:
            near = sorted(t for t in EVENT_TYPES if t.partition(".")[0] == tag.partition(".")[0])
            words = ", ".join(near) or "those of docs/events.md"
            raise self.error(node.args[0], f"no event has the type {tag}; there are {words}")
        self.of_record = True
        return bool, lambda moment: any(
            event.__struct_config__.tag == tag for event in moment.step.record.events
        )
