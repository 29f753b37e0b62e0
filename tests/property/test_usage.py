"""Usage and its bill over histories by chance: parts add up, and a second way says the same."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.codec import show_time
from projections.evolve import evolve
from projections.price_book import Price
from projections.state import State
from projections.usage import Interval, Opened, Usage
from projections.usage_folds import meter
from service.domain.billing import Bill, PriceBook, Window
from service.domain.commands import Command, Facts, Succeeded
from service.domain.effects import Effect, StartContainer, StopContainer
from service.domain.guards import Decision
from tests.kit.second_meter import Used, used_between
from tests.kit.usage_left import expect_used
from tests.kit.world import World
from tests.property.test_random_histories import HOSTS, STEPS, play

RECORD_US = 1_000
"""From one command to the next."""


class TimedWorld(World):
    """A world in which time goes on, and Docker tells the instant of the record."""

    def succeed(self, effect: Effect) -> Decision:
        at = show_time(self.now_us + RECORD_US)
        if isinstance(effect, StartContainer):
            return self.report(effect, Succeeded({"started_at": at}))
        if isinstance(effect, StopContainer):
            return self.report(effect, Succeeded({"exit_code": 0, "finished_at": at}))
        return super().succeed(effect)

    def _submit(self, command: Command, command_id: str, ended: str) -> Decision:
        self.now_us += RECORD_US
        decision = super()._submit(command, command_id, ended)
        if self.records:  # a retry comes when it is due, and time has gone on until then
            self.now_us = max(self.now_us, self.records[-1].at_us)
        return decision


def fold(world: World) -> list[Interval]:
    """Every interval of a world's records."""
    state, usage, rows = State(), Usage(), dict[int, Opened]()
    for seq, record in enumerate(world.records, 1):
        evolve(state, seq, record)
        meter(usage, state, seq, record)
        rows |= {row.seq: row for row in usage.take()[0]}
    return [interval for row in rows.values() for interval in row.intervals]


def bill(
    intervals: Sequence[Interval], window: Window, by: tuple[str, ...], prices: Sequence[Price]
) -> Bill:
    made = Bill(window, PriceBook(prices), by)
    for interval in intervals:
        made.add(interval)
    return made


def by_line(made: Bill) -> Counter[tuple[Any, ...]]:
    """Usage, kept usage, priced usage and money of every line."""
    told: Counter[tuple[Any, ...]] = Counter()
    for line in made.lines():
        amounts = (line.usage, line.kept, line.priced, line.money)
        for what, amount in enumerate(amounts):
            told[line.meter, line.keys, what] += amount
    return told


def by_name(made: Bill) -> Used:
    return Counter({(line.meter, line.keys[0]): line.usage for line in made.lines() if line.usage})


CUT = st.integers(0, 200).map(lambda n: n * RECORD_US + n % 7)
CUTS = st.tuples(CUT, CUT, CUT).map(sorted)

PRICES = st.lists(
    st.builds(
        Price,
        meter=st.sampled_from(["gpu", "gpu", "cpu", "memory", "volume", "snapshot"]),
        model=st.sampled_from(["*", "*", "Simulated"]),
        tenant=st.just(""),
        valid_from_us=CUT,
        price=st.sampled_from(["0", "1", "2.5", "0.333333333"]),
        currency=st.just("EUR"),
        seq=st.just(1),
    ),
    max_size=4,
)
BY = st.sampled_from([(), ("tenant",), ("name", "gpu"), ("revision",), ("interval",)])


def played(steps: Sequence[Any], hosts: Sequence[Facts]) -> World:
    return play(steps, hosts, 0, TimedWorld)[0]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
@given(STEPS, st.tuples(HOSTS, HOSTS), CUTS)
def test_a_second_way_to_say_what_was_used_says_the_same(
    steps: Sequence[Any], hosts: Sequence[Facts], cuts: list[int]
) -> None:
    world = played(steps, hosts)
    intervals = fold(world)
    end_us = world.now_us + 5 * RECORD_US
    for window in (Window(0, end_us), Window(cuts[0], cuts[2])):
        told = by_name(bill(intervals, window, ("name",), ()))
        expected = used_between(world.records, window.begin_us, window.end_us)
        assert told == +expected, world.explain(f"{told - expected} {expected - told}")
    expect_used(world.state, intervals)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
@given(STEPS, st.tuples(HOSTS, HOSTS), CUTS, PRICES, BY)
def test_parts_add_up_to_the_whole(
    steps: Sequence[Any],
    hosts: Sequence[Facts],
    cuts: list[int],
    prices: list[Price],
    by: tuple[str, ...],
) -> None:
    intervals = fold(played(steps, hosts))
    a, b, c = cuts
    first, second, both = (
        bill(intervals, Window(begin, end), by, prices) for begin, end in ((a, b), (b, c), (a, c))
    )
    assert by_line(first) + by_line(second) == +by_line(both)
    ungrouped = bill(intervals, Window(a, c), (), prices)
    assert ungrouped.money() == both.money() == first.money() + second.money()
    for line in ungrouped.lines():
        parts = [one for one in both.lines() if one.meter == line.meter]
        assert line.usage == sum(part.usage for part in parts)
        assert len(line.records) == sum(len(part.records) for part in parts)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
@given(STEPS, st.tuples(HOSTS, HOSTS))
def test_no_gpu_is_used_twice_and_no_time_is_negative(
    steps: Sequence[Any], hosts: Sequence[Facts]
) -> None:
    """In a world whose clock of Docker's jumps at will: it tells seconds that mean nothing."""
    world = play(steps, hosts, 0, JumpingWorld)[0]
    by_gpu: dict[str, list[Interval]] = {}
    for one in fold(world):
        assert one.ended_us is None or one.ended_us >= one.begun_us
        assert (one.ended_us is None) == (one.closed_seq is None)
        if one.gpu:
            by_gpu.setdefault(one.gpu, []).append(one)
    for used in by_gpu.values():
        in_order = sorted(used, key=lambda one: (one.opened_seq, one.place))
        for before, after in pairwise(in_order):
            assert before.ended_us is not None
            assert before.ended_us <= after.begun_us


class JumpingWorld(TimedWorld):
    """Docker's clock and ours have nothing to do with each other."""

    def succeed(self, effect: Effect) -> Decision:
        number = len(self.records)
        at = show_time(number * 7_919 % 1_000 * RECORD_US + number)
        if isinstance(effect, StartContainer):
            return self.report(effect, Succeeded({"started_at": at}))
        if isinstance(effect, StopContainer):
            return self.report(effect, Succeeded({"exit_code": 0, "finished_at": at}))
        return World.succeed(self, effect)
