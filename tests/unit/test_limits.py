"""How many requests a caller may send, and have waiting."""

from service.web import limits
from service.web.limits import BURST_S, CallerLimits


class Watch:
    """A time that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def let_in(rate: CallerLimits, caller: str, times: int) -> int:
    return sum(rate.take(caller) == 0 for _ in range(times))


def test_what_was_not_used_can_be_used_at_once() -> None:
    watch = Watch()
    rate = CallerLimits(100, 0, watch)
    assert let_in(rate, "a", 300) == 200
    watch.now_s += 0.1
    assert let_in(rate, "a", 300) == 10
    watch.now_s += 3600
    assert let_in(rate, "a", 300) == 200
    assert let_in(rate, "b", 300) == 200


def test_who_comes_too_early_is_told_when_to_come_and_loses_nothing_by_it() -> None:
    watch = Watch()
    rate = CallerLimits(1, 0, watch)
    assert let_in(rate, "a", 2) == 2
    assert [rate.take("a") for _ in range(3)] == [1.0, 1.0, 1.0]
    watch.now_s += rate.take("a")
    assert rate.take("a") == 0


def test_in_the_long_run_it_is_the_rate() -> None:
    watch = Watch()
    rate = CallerLimits(7, 0, watch)
    passed = 0
    for _ in range(1000):
        watch.now_s += 0.01
        passed += let_in(rate, "a", 5)
    assert abs(passed - 7 * (10 + BURST_S)) <= 1


def test_without_a_limit_all_are_let_in() -> None:
    rate = CallerLimits(0, 0, Watch())
    assert let_in(rate, "a", 10_000) == 10_000
    with rate.waiting("a") as first, rate.waiting("a") as second:
        assert first
        assert second


def test_callers_that_came_and_went_are_forgotten() -> None:
    watch = Watch()
    rate = CallerLimits(1, 0, watch)
    for number in range(5 * limits._CALLERS_MAX):
        rate.take(str(number))
        watch.now_s += 0.01
    assert len(rate._full_at_s) <= limits._CALLERS_MAX
