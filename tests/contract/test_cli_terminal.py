"""What the command line prints does nothing to the terminal, whoever wrote what is in it: a file's
name, an environment, the words of a registry, a receiver or a log that somebody else had."""

from collections.abc import Iterator

import pytest

from service.cli.replay_text import labelled
from service.cli.show import escaped
from tests.kit.command_line import Rig
from tests.kit.contract_server import ContractServer

EVIL = "\x1b]0;mine\x07\x9b31m\u202egnp\r\t\x7f"
"""Sets a window's title, a colour, and the direction of writing; goes back to a line's begin."""

SHOWN = r"\x1b]0;mine\x07\x9b31m\u202egnp\r\t\x7f"


@pytest.fixture
def rig() -> Iterator[Rig]:
    with ContractServer() as server:
        yield Rig(server)


def acts_on_a_terminal(text: str) -> bool:
    return any(not char.isprintable() for char in text.replace("\n", ""))


def test_lines_stay_and_all_else_is_escaped() -> None:
    assert escaped(f"a {EVIL}\nb é") == f"a {SHOWN}\nb é"
    assert not acts_on_a_terminal("".join(labelled("command", EVIL)))


@pytest.mark.parametrize(
    "command", [("ps",), ("info", "foo"), ("history", "foo"), ("diff", "foo@1"), ("explain", "foo")]
)
def test_what_is_read(rig: Rig, command: tuple[str, ...]) -> None:
    made = rig("run", "foo", "-i", f"i{EVIL}", "-e", f"A={EVIL}", "--", "sh", "-c", EVIL)
    assert made.exit_code == 0, made.output
    rig.world.files = [{"path": f"/{EVIL}", "kind": "added", "sizeBytes": 1}]
    rig.world.explanation = {
        "seq": 1,
        "answer": [{"text": EVIL, "seq": 1}],
        "chain": [],
        "older": False,
    }
    shown = rig(*command)
    assert shown.exit_code == 0, shown.output
    assert SHOWN in shown.stdout
    assert not acts_on_a_terminal(shown.output)


def test_what_went_wrong_and_what_was_not_carried(rig: Rig) -> None:
    rig.world.fails = {"code": 1004, "reason": "image_not_found", "message": EVIL}
    failed = rig("run", "foo", "-i", "busybox")
    rig.world.fails = None
    rig("run", "bar", "-i", "busybox")
    rig.world.not_carried = [EVIL]
    patched = rig("patch", "bar", "-e", "A=1")
    for result in (failed, patched):
        assert SHOWN in result.stderr
        assert not acts_on_a_terminal(result.output)
