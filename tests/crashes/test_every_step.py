"""The service dies before and after every call that does something, and starts again.

The points are counted in a run without a crash; then each is died at, in a history of its own:
nothing arrives after it, and of a call that was made the reply is lost. The caller asks again with
the same key. In the end all is as the log says, and as it is without a crash.

Some recoveries are crashed too; `--pairs` does it at each step of each of them.
"""

import logging
from random import Random
from typing import get_args

import pytest

from service.domain.commands import Command, Request
from service.domain.decide import VERBS
from service.domain.effects import Effect
from tests.crashes.play import CONVERGED_S_MAX, Play, Played
from tests.crashes.scenarios import SCENARIOS, Scenario
from tests.kit.crash_points import (
    ASKING,
    Point,
    all_ports,
    doing_calls,
    methods_of,
    points,
)
from tests.kit.virtual_time import run_virtually

TWICE_EVERY = 10
"""Of so many points one is followed by a crash in its recovery, at a step chosen by the seed."""

SEED = 4

OWN_COMMANDS = {
    "RecordOutcome": "outcome",
    "RecordProgress": "progress",
    "ObserveGpus": "observe",
    "ReportGpuErrors": "report",
    "ObserveContainer": "observe",
    "ObserveGpuAccess": "observe",
    "RetryReplicaSet": "retry",
    "ExpireSnapshots": "expire",
    "ExpireOrphan": "expire",
    "RegisterNode": "register",
}
"""The commands of the service to itself, and the verbs of their records."""


def play(scenario: Scenario, *at: Point) -> Played:
    """One history; what goes wrong in it names the points."""
    try:
        return run_virtually(Play(scenario).run(*at))
    except BaseException as error:
        error.add_note(f"{scenario.name}: {', then '.join(map(str, at)) or 'without a crash'}")
        raise


def crash(scenario: Scenario, free: Played, *at: Point) -> Played:
    """Die there; it has to come to the same in time."""
    played = play(scenario, *at)
    where = f"{scenario.name}: {', then '.join(map(str, at))}"
    assert played.converged_s <= CONVERGED_S_MAX + scenario.grace_s, where
    if scenario.same_end:
        assert played.end == free.end, where
    return played


@pytest.fixture(scope="module")
def free_runs() -> dict[str, Played]:
    """Every scenario without a crash, by its name."""
    return {scenario.name: play(scenario) for scenario in SCENARIOS}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_crash_at_every_step(
    scenario: Scenario, all_pairs: bool, caplog: pytest.LogCaptureFixture
) -> None:
    chance = Random(f"{SEED} {scenario.name}")
    with caplog.at_level(logging.ERROR):
        free = play(scenario)
        steps = points(free.lives[0])
        assert steps, "there is nothing to die at"
        for number, at in enumerate(steps):
            again = points(crash(scenario, free, at).lives[1])
            if not all_pairs:
                again = [chance.choice(again)] if again and number % TWICE_EVERY == 0 else []
            for second in again:
                crash(scenario, free, at, second)
    assert caplog.messages == []


def test_every_command_is_crashed(free_runs: dict[str, Played]) -> None:
    crashed = {type(scenario.deed) for scenario in SCENARIOS}
    assert set(get_args(Request)) - crashed == set()
    own = {command.__name__ for command in get_args(Command)} - {c.__name__ for c in VERBS}
    assert own == OWN_COMMANDS.keys()
    recorded = {verb for played in free_runs.values() for verb in played.verbs}
    assert {verb for _, verb in VERBS.values()} | set(OWN_COMMANDS.values()) == recorded


def test_every_effect_is_crashed(free_runs: dict[str, Played]) -> None:
    carried_out = {effect for played in free_runs.values() for effect in played.effects}
    assert {effect.__name__ for effect in get_args(Effect)} == carried_out


def test_every_call_that_does_something_is_a_point(free_runs: dict[str, Played]) -> None:
    assert ASKING.keys() == all_ports(), "a port is not in ASKING, or is no port any more"
    for port, asking in ASKING.items():
        assert asking <= set(methods_of(port)), f"{port.__name__} has no such method any more"
    reached = {call for played in free_runs.values() for call, _ in played.lives[0]}
    assert doing_calls() == reached
