"""Crash points: before and after every call of a port that does something.

They stand in proxies around the ports, made from the Protocols by reflection: a new method is a
point at once, and the service itself knows nothing of them. What only asks changes nothing: to die
around it is to die after the call before it.
"""

import inspect
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any, Literal, Protocol, Self, TypeVar, cast, get_args

from msgspec import Struct

from service import access_ports, disk_ports, ports
from service.disk_ports import HostPaths, SystemDisks, VolumeStore
from service.ports import (
    Clock,
    ContainerEngine,
    DeviceProbe,
    GpuAccessProbe,
    Ids,
    Ledger,
)

P = TypeVar("P")
T = TypeVar("T")

Side = Literal["before", "after"]
SIDES: tuple[Side, ...] = get_args(Side)

ASKING: dict[type[Any], frozenset[str]] = {
    Ledger: frozenset({"read", "last_seq", "find"}),
    ContainerEngine: frozenset(
        {
            *("info", "ping", "inspect_image", "inspect_container", "list_containers"),
            *("changes", "list_volumes", "list_images", "refusal_of_pull"),
        }
    ),
    VolumeStore: frozenset({"probe", "resizes_mounted", "list_disks"}),
    SystemDisks: frozenset({"probe", "size", "free_bytes", "changes", "list_kept", "is_kept"}),
    GpuAccessProbe: frozenset({"look"}),
    HostPaths: frozenset({"refusal", "absence"}),
    DeviceProbe: frozenset({"health", "errors", "describe", "close"}),
    Clock: frozenset({"now_us", "monotonic_s", "sleep"}),
    Ids: frozenset({"new"}),
    access_ports.Tokens: frozenset({"any", "find"}),
}
"""Every port, and the methods of it that change nothing outside of the service."""

COMMIT = "ReadStore.commit"
"""The call that every commit of the read store is."""


class Point(Struct, frozen=True):
    """A place where the service may die: at the `nth` call of its name, counted from 1."""

    call: str
    nth: int
    side: Side

    def __str__(self) -> str:
        return f"{self.side}:{self.call}:{self.nth}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The reverse of `str`. Raises ValueError."""
        side, call, nth = text.split(":")
        return cls(call, int(nth), SIDES[SIDES.index(cast(Side, side))])


class Watch(Protocol):
    """Who stands at the points."""

    async def cross(self, call: str, doing: bool, do: Callable[[], Awaitable[T]]) -> T:
        """Make the call, unless it is never to be made; give its reply, unless that is lost."""
        ...


class Count:
    """The calls of one life that do something, from when it is armed."""

    def __init__(self) -> None:
        self.armed = False
        self.calls: list[tuple[str, int]] = []
        self._numbers: Counter[str] = Counter()

    def next(self, call: str) -> int:
        """The number of a call that is about to be made; 0 before it is armed."""
        if not self.armed:
            return 0
        self._numbers[call] += 1
        self.calls.append((call, self._numbers[call]))
        return self._numbers[call]


def points(calls: list[tuple[str, int]]) -> list[Point]:
    """Before and after each of these calls, in order."""
    return [Point(call, nth, side) for call, nth in calls for side in SIDES]


def ports_of(*modules: ModuleType) -> set[type[Any]]:
    """The Protocols that these modules define."""
    return {
        found
        for module in modules
        for found in vars(module).values()
        if getattr(found, "_is_protocol", False) and found.__module__ == module.__name__
    }


def all_ports() -> set[type[Any]]:
    """Every port that a decision rests on: those of the audit only tell of what was decided."""
    return ports_of(ports, disk_ports, access_ports)


def methods_of(port: type[Any]) -> list[str]:
    """The methods of a port."""
    return [name for name, found in vars(port).items() if name[0] != "_" and callable(found)]


def doing_calls() -> set[str]:
    """Every call that is a point: those of the ports, and the commits of the read store."""
    named = {
        f"{port.__name__}.{name}"
        for port, asking in ASKING.items()
        for name in methods_of(port)
        if name not in asking
    }
    return {*named, COMMIT}


def watched(port: type[Any], real: P, watch: Watch) -> P:
    """The port `real`, with every call of it watched."""
    asking = ASKING[port]
    methods: dict[str, Callable[..., Any]] = {}
    for name in methods_of(port):
        call, method = f"{port.__name__}.{name}", getattr(real, name)
        if inspect.iscoroutinefunction(vars(port)[name]):
            methods[name] = partial(_called, watch, call, name not in asking, method)
        else:
            methods[name] = partial(_followed, watch, call, method)
    return cast(P, SimpleNamespace(**methods))


async def _called(
    watch: Watch,
    call: str,
    doing: bool,
    method: Callable[..., Awaitable[T]],
    /,
    *args: Any,
    **named: Any,
) -> T:
    return await watch.cross(call, doing, lambda: method(*args, **named))


async def _followed(
    watch: Watch,
    call: str,
    method: Callable[..., AsyncGenerator[T, None]],
    /,
    *args: Any,
    **named: Any,
) -> AsyncGenerator[T, None]:
    """A method that yields: each step is a call that asks."""
    async with aclosing(method(*args, **named)) as steps:
        while True:
            try:
                step = await watch.cross(call, False, partial(anext, steps))
            except StopAsyncIteration:
                return
            yield step
