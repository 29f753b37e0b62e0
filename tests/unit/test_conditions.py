"""The language of `--break`: what it understands, and what it says to the rest."""

from pathlib import Path

import pytest
from msgspec.structs import fields

from events.codec import read
from service.domain.conditions import (
    LENGTH_MAX,
    OF_RECORD,
    OF_STATE,
    Moment,
    NoCondition,
    read_condition,
)
from service.domain.replaying import Replay, Step
from service.domain.tally import Counts
from tests.kit.builders import run
from tests.kit.decided_log import BasisWorld

COUNTS = Counts(gpus=4, gpus_free=0, gpus_leased=3, running=2, operations_running=1)


@pytest.fixture(scope="module")
def step() -> Step:
    """Record 3: foo is run."""
    world = BasisWorld()
    world.send(run("foo", 1))
    replay = Replay()
    return [replay.step(entry.seq, read(entry.body)) for entry in world.entries][-1]


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("gpus_free == 0", True),
        ("gpus_free==0", True),
        ("gpus_free != 0", False),
        ("gpus > gpus_leased", True),
        ("gpus >= 5", False),
        ("0 < running <= 2", True),
        ("0 < running < 2", False),
        ("5 < seq", False),
        ("seq == 3", True),
        ("name == 'foo' and verb == \"run\"", True),
        ("name == 'foo' and verb == 'patch'", False),
        ("name == 'bar' or kind == 'replica_set'", True),
        ("not name == 'bar'", True),
        ("not (name == 'bar' or seq == 3)", False),
        ("tenant == ''", True),
        ("actor != ''", False),
        ("operation == 'foo.1'", True),
        ("decided == 'same'", True),
        ("has('gpus.leased.v1')", True),
        ("has('container.exited.v1')", False),
        ("not has('container.exited.v1') and gpus_free == 0", True),
        ("  seq == 3  ", True),
        ("name < 'goo'", True),
    ],
)
def test_what_is_understood(step: Step, text: str, holds: bool) -> None:
    assert read_condition(text).holds(Moment(step, COUNTS)) is holds


@pytest.mark.parametrize("name", [*OF_RECORD, *OF_STATE])
def test_every_name_that_is_listed_can_be_asked(step: Step, name: str) -> None:
    value = "'x'" if name in OF_RECORD and OF_RECORD[name][0] is str else "12345"
    condition = read_condition(f"{name} != {value}")
    assert condition.holds(Moment(step, COUNTS))
    assert condition.of_record is (name in OF_RECORD)


@pytest.mark.parametrize("name", [*OF_RECORD, *OF_STATE])
def test_every_name_is_explained_to_people(name: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "replay.md").read_text()
    assert f"`{name}`" in page


def test_every_number_of_a_state_can_be_asked() -> None:
    assert {field.name for field in fields(Counts)} == set(OF_STATE)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "position 1: it cannot be read"),
        ("gpus_free = 0", "it cannot be read"),
        ("gpus_free ==", "it cannot be read"),
        ("(seq == 2", "position 1: it cannot be read"),
        ("gpu_free == 0", "position 1: there is no gpu_free; there are seq, kind,"),
        ("seq == 1 and gpu_free == 0", "position 14: there is no gpu_free"),
        ("'é' == name and x == 1", "position 17: there is no x"),
        ("gpus", "position 1: a number alone is no condition"),
        ("name", "position 1: a text alone is no condition"),
        ("gpus and seq == 1", "position 1: a number stands where a condition should"),
        ("not seq", "position 5: a number stands where a condition should"),
        ("seq == 'a'", "position 8: a text is compared with a number"),
        ("name == 3", "position 9: a number is compared with a text"),
        ("(seq == 1) == (seq == 2)", "position 2: a condition cannot be compared"),
        ("seq in (1, 2)", "position 8: this is not understood"),
        ("seq is 1", "position 8: before this stands none of"),
        ("seq + 1 == 2", "position 1: this is not understood"),
        ("-1 < seq", "position 1: this is not understood"),
        ("True", "position 1: this is not understood"),
        ("1.5 < seq", "position 1: this is not understood"),
        ("name.upper() == 'FOO'", "position 1: the only call is has('type of an event')"),
        ("name.x == 'FOO'", "position 1: this is not understood"),
        ("has(name)", "position 1: the only call"),
        ("has('gpus.leased.v1', 1)", "position 1: the only call"),
        ("__import__('os').system('id')", "position 1: the only call"),
        ("[seq for seq in ()] == 1", "position 1: this is not understood"),
        ("(lambda: 1)() == 1", "position 1: the only call"),
        ("has('container.gone.v1')", "position 5: no event has the type container.gone.v1; there"),
        ("has('x')", "those of docs/events.md"),
        ("not " * 120 + "seq == 1", ""),
        ("seq == 1 or " * 40 + "seq == 2", ""),
        ("(" * 300 + "seq == 1" + ")" * 150, "cannot be read"),
        ("x" * (LENGTH_MAX + 1), f"{LENGTH_MAX} are allowed"),
    ],
)
def test_what_is_not_understood_is_named_with_its_place(text: str, words: str) -> None:
    if not words:
        read_condition(text)
        return
    with pytest.raises(NoCondition) as raised:
        read_condition(text)
    assert words in str(raised.value)
