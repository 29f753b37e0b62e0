"""A log made by hand, with instants in seconds, and its usage as folded beside the state."""

from typing import Any

from events.codec import show_time
from events.operations import OperationAccepted
from events.outcomes import ContainerStarted, ContainerStopped
from events.record import Event, Record
from events.replica_sets import PhaseRequested, RevisionDeclared
from events.resources import GpuAppeared, GpusLeased, GpusReleased, NodeRegistered
from events.values import ContainerSpec, Verb
from projections.evolve import evolve
from projections.price_book import Price
from projections.state import State
from projections.usage import Interval, Opened, Usage
from projections.usage_folds import meter
from service.domain.billing import Bill, PriceBook, Window
from service.domain.months import window_of

MONTH = "2026-11"
GPUS = 4
MODELS = ("A100", "A100", "H100", "H100")
"""Of GPU-0 to GPU-3."""

_window = window_of(MONTH)
assert _window is not None
NOVEMBER = _window


def at_us(second: float) -> int:
    """The instant so many seconds after the begin of the month."""
    return NOVEMBER.begin_us + round(second * 1_000_000)


def docker(second: float) -> str:
    """The same as Docker writes it."""
    return f"{show_time(at_us(second))[:-1]}999Z"


def uuids(*numbers: int) -> tuple[str, ...]:
    """The names of GPUs."""
    return tuple(f"GPU-{number}" for number in numbers)


class UsageLog:
    """Records one after the other; `log(second, event, ...)` adds one."""

    def __init__(self) -> None:
        self.state = State()
        self.usage = Usage()
        self.records: list[Record] = []
        self.rows: dict[tuple[int, int], Interval] = {}
        """Every interval there ever was, as the rows would have it."""
        self.written: list[list[Opened]] = []
        """The rows that were written, after each record that touched some."""
        appeared = (
            GpuAppeared(uuid, index, MODELS[index], 80 << 30, f"0000:0{index}:00.0")
            for index, uuid in enumerate(uuids(*range(GPUS)))
        )
        self(0, NodeRegistered("n1", "owner"), *appeared)

    def __call__(self, second: float, *events: Event, tenant: str = "", name: str = "foo") -> int:
        """Fold one more record; its sequence."""
        seq = self.state.seq + 1
        record = Record(
            f"c-{seq}", "n1", "replica_set", name, "v", at_us(second), events, tenant=tenant
        )
        self.records.append(record)
        evolve(self.state, seq, record)
        meter(self.usage, self.state, seq, record)
        self.take()
        return seq

    def take(self) -> None:
        """Write what changed to the rows."""
        rows = self.usage.take()[0]
        if rows:
            self.written.append(rows)
        for opened in rows:
            for interval in opened.intervals:
                self.rows[opened.seq, interval.place] = interval

    def declare(
        self,
        second: float,
        number: int = 1,
        gpus: tuple[str, ...] = (),
        *,
        name: str = "foo",
        cause: Verb = "run",
        tenant: str = "",
        supersedes: int | None = None,
        in_place: bool = False,
        **spec: Any,
    ) -> int:
        """A revision, and its GPUs."""
        return self(
            second,
            OperationAccepted(f"op-{second}-{name}", cause, "replica_set", name, {}),
            RevisionDeclared(
                name=name,
                number=number,
                cause=cause,
                spec=ContainerSpec("a:1", len(gpus), **spec),
                gpus=gpus,
                ports=(),
                gpu_runtime="simulated",
                supersedes=supersedes,
                in_place=in_place,
            ),
            GpusLeased(name, number, gpus),
            tenant=tenant,
            name=name,
        )

    def start(self, second: float, number: int = 1, started: str = "", name: str = "foo") -> int:
        """Docker started it a tenth of a second before the record, if it says nothing else."""
        at = started or docker(second - 0.1)
        return self(second, ContainerStarted(name, number, at), name=name)

    def stop(self, second: float, number: int = 1, name: str = "foo") -> int:
        """Docker stopped it a tenth of a second before the record."""
        return self(second, ContainerStopped(name, number, 0, docker(second - 0.1)), name=name)

    def pause(self, second: float, number: int = 1) -> int:
        """Its caller pauses it, and it is stopped at once."""
        self(second, PhaseRequested("foo", "paused"))
        return self.stop(second, number)

    def release(
        self, second: float, gpus: tuple[str, ...], number: int = 1, name: str = "foo"
    ) -> int:
        """It holds these GPUs no more."""
        return self(second, GpusReleased(name, number, gpus), name=name)

    def of(self, meter: str) -> list[Interval]:
        """All intervals of a meter, by when they were opened."""
        return [one for _, one in sorted(self.rows.items()) if one.meter == meter]

    def spans(self, meter: str) -> list[tuple[float, float | None]]:
        """Their begins and ends in seconds."""
        return [
            (_seconds(one.begun_us), None if one.ended_us is None else _seconds(one.ended_us))
            for one in self.of(meter)
        ]

    def bill(
        self, group_by: tuple[str, ...] = (), window: Window = NOVEMBER, *prices: Price
    ) -> Bill:
        """The bill of a window."""
        bill = Bill(window, PriceBook(prices), group_by)
        for interval in self.rows.values():
            bill.add(interval)
        return bill


def _seconds(instant_us: int) -> float:
    return (instant_us - NOVEMBER.begin_us) / 1_000_000
