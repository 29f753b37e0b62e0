"""What must be complete: folds, the catalogue of events, codes for refusals, words for settings."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from msgspec.structs import fields

from events.record import Event
from projections.evolve import FOLDS
from service.domain.decide import VERBS
from service.domain.rejections import Reason
from service.settings_table import SETTINGS
from service.web.problems import OWN_CODES, Code, code_of_reason

ROOT = Path(__file__).parents[2]
SOURCES = ("events", "projections", "service", "tests")
EVENTS: tuple[type[Any], ...] = get_args(Event)

TAG = re.compile(r"[a-z_]+\.[a-z_]+\.v[1-9]\d*")
HEADING = re.compile(r"^### `([^`]+)`$", re.MULTILINE)
FIELD = re.compile(r"^\| `([a-z_]+)` \| [^|]*?(, optional)? \|", re.MULTILINE)

FORBIDDEN_WORDS = ("TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK")
"""Put together, so that this file may name them. What is left to do is an issue, not a comment."""

FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "manager", "managers", "misc", "common"}
"""A file called that says nothing of what is in it."""


def tag_of(event: type[Any]) -> str:
    """The type tag that an event is stored with."""
    return str(event.__struct_config__.tag)


def catalogued() -> dict[str, str]:
    """The sections of the catalogue by their tags."""
    page = (ROOT / "docs" / "events.md").read_text()
    found = list(HEADING.finditer(page))
    ends = [one.start() for one in found[1:]] + [len(page)]
    tags = [one[1] for one in found]
    assert len(set(tags)) == len(tags), "an event stands in the catalogue twice"
    return {one[1]: page[one.end() : end] for one, end in zip(found, ends, strict=True)}


def python_files() -> Iterator[Path]:
    """Every Python file of ours."""
    for folder in SOURCES:
        yield from (ROOT / folder).rglob("*.py")


def test_every_event_has_a_fold_and_every_fold_an_event() -> None:
    assert set(FOLDS) == set(EVENTS)


def test_tags_are_written_by_hand_with_a_version_and_are_unique() -> None:
    tags = [tag_of(event) for event in EVENTS]
    assert len(set(tags)) == len(tags)
    assert [tag for tag in tags if not TAG.fullmatch(tag)] == []


def test_every_event_is_in_the_catalogue_and_nothing_else_is() -> None:
    assert sorted(catalogued()) == sorted(tag_of(event) for event in EVENTS)


@pytest.mark.parametrize("event", EVENTS, ids=tag_of)
def test_the_catalogue_tells_all_of_an_event(event: type[Any]) -> None:
    section = catalogued()[tag_of(event)]
    told = [(name, bool(optional)) for name, optional in FIELD.findall(section)]
    assert told == [(field.name, not field.required) for field in fields(event)]
    assert "Decided by: " in section
    assert re.search(r"Since\sv\d+\.\d+\.\d+\.", section)
    meaning = " ".join((event.__doc__ or "").split())
    assert meaning in " ".join(section.split()), "the catalogue says something else than the code"


def test_every_event_is_decided_somewhere() -> None:
    """One that nobody decides is a leftover, or a rule that was forgotten."""
    named: set[str] = set()
    for path in (ROOT / "service" / "domain").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                named.add(node.func.id)
    assert [event.__name__ for event in EVENTS if event.__name__ not in named] == []


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_code_for_every_action(reason: Reason) -> None:
    for action in OWN_CODES:
        code, status = code_of_reason(action, reason)
        assert isinstance(code, Code)
        assert 400 <= status < 600


def test_every_command_has_a_code_of_its_own() -> None:
    assert set(OWN_CODES) == set(VERBS.values())


def test_every_reason_is_given_by_a_rule() -> None:
    given: set[str] = set()
    for path in (ROOT / "service").rglob("*.py"):
        if path.name in ("rejections.py", "problems.py", "explaining_refusals.py"):
            continue
        given |= set(re.findall(r"\bReason\.([A-Z_]+)", path.read_text()))
    assert {reason.name for reason in Reason} - given == set()


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_explained_to_people(name: str) -> None:
    pages = (ROOT / "README.md", ROOT / "docs" / "operations.md")
    text = "\n".join(page.read_text() for page in pages if page.exists())
    flag = SETTINGS[name].flags[0]
    assert re.search(rf"{re.escape(flag)}(?![\w-])", text), f"{flag} stands on no page"


def test_nothing_is_left_for_later() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in python_files()
        for word in FORBIDDEN_WORDS
        if re.search(rf"\b{word}\b", path.read_text())
    ]
    assert found == []


def test_files_are_named_after_what_is_in_them() -> None:
    found = [
        str(path.relative_to(ROOT))
        for path in python_files()
        if FORBIDDEN_NAMES & {path.stem, path.parent.name}
    ]
    assert found == []


def test_no_test_pretends() -> None:
    """Doubles are full implementations of a port: a mock only repeats what the test believes."""
    found = [
        str(path.relative_to(ROOT))
        for path in python_files()
        if re.search(r"^\s*(from unittest|import unittest)", path.read_text(), re.MULTILINE)
    ]
    assert found == []
