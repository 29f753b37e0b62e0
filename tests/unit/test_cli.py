"""The pieces of the command line that need no service: words, tables, progress, flags."""

import io
import re
import sys
from importlib.metadata import version
from typing import get_args

import pytest
import typer
from typer.testing import CliRunner, Result

from service.cli import arguments, show
from service.cli.answers import Operation, StepProgress
from service.cli.app import build_app
from service.cli.failures import CliFailure, NotFound, Unreachable
from service.cli.progress import STEP_WORDS, ProgressLine, result_of, step_of
from service.cli.resources import step_text
from service.cli.surroundings import Surroundings
from service.domain.effects import Effect, Settle
from service.settings_table import SETTINGS

NOW_S = 1_767_323_045.0
CREATED = "2026-01-02T03:04:05Z"


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def invoke(*args: str, **env: str) -> Result:
    surroundings = Surroundings({"HOME": "/nowhere", **env}, "rig", False, lambda: NOW_S, str)
    return CliRunner().invoke(build_app(), list(args), obj=surroundings)


def test_binds() -> None:
    assert arguments.bind("bar-1:/data", "--bind") == {"src": "bar-1", "dest": "/data"}
    assert arguments.bind("/a:b:/data", "--bind") == {"src": "/a:b", "dest": "/data"}


@pytest.mark.parametrize("text", ["", "x", ":/data", "bar:data", "bar:/data:ro"])
def test_a_bad_bind_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="SRC:DEST"):
        arguments.bind(text, "--bind")


def test_file_storage_is_a_path_or_an_export() -> None:
    assert arguments.file_storage("/srv", "") == {"hostPath": "/srv"}
    expected = {"nfs": {"server": "nas", "path": "/export"}}
    assert arguments.file_storage("nas:/export", "") == expected
    with pytest.raises(typer.BadParameter, match="SERVER:/export"):
        arguments.file_storage("srv", "")


def test_what_was_not_given_is_not_sent() -> None:
    assert arguments.given(a=None, b=[], c={}, d=0, e="") == {"d": 0, "e": ""}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59, "59s"), (60, "1m"), (7200, "2h"), (90000, "1d"), (-5, "0s")],
)
def test_ages(seconds: int, text: str) -> None:
    assert show.age(CREATED, NOW_S + seconds) == text
    assert show.age("long ago", NOW_S) == ""


def test_moments() -> None:
    assert show.moment("2026-01-02T04:04:05.123456+01:00") == "2026-01-02 03:04:05Z"
    assert show.moment("long ago") == "long ago"


def test_a_piped_table_is_plain_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    name = "n" * 200
    lines = show.table(("NAME", "IMAGE"), [(name, ""), ("[red]b[/red]", "x")]).splitlines()
    assert [line.split() for line in lines] == [
        ["NAME", "IMAGE"],
        [name, "-"],
        ["[red]b[/red]", "x"],
    ]


def test_a_table_on_a_terminal_folds_and_never_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    text = show.table(("NAME", "IMAGE"), [("n" * 63, "registry.example.org/" + "i" * 60)])
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert max(map(len, plain.splitlines())) <= 80
    assert plain.count("n") == 63
    assert "…" not in plain


def test_prose_stands_below_its_row_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    headings, rows = ("TIME", "WHAT", "WHY"), [("now", "run foo", "why " * 30), ("then", "", "")]
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert len(show.explained_table(headings, rows).splitlines()) == 3, "a row is a line in a pipe"
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    lines = show.explained_table(headings, rows).splitlines()
    assert (lines[:2], lines[-1]) == (["TIME  WHAT", "now   run foo"], "then  -")
    prose = lines[2:-1]
    assert max(map(len, prose)) <= 80
    assert " ".join(prose).split() == ["why"] * 30


def test_what_would_act_on_a_terminal_is_shown_and_not_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", "xterm-256color")
    bell, text = "X=\x1b]0;mine\x07\r\x9b", r"X=\x1b]0;mine\x07\r\x9b"
    shown = (
        show.table(("ENV", "WHY"), [(bell, bell)]),
        show.details([("env", bell)]),
        show.explained_table(("ENV", "WHY"), [(bell, bell)]),
    )
    for one in shown:
        assert text in one
        assert not {"\x07", "\r", "\x9b", "\x1b]"} & set(re.findall(r"\x1b\]|[\x07\r\x9b]", one))


def test_how_long_it_was() -> None:
    assert show.lasted(CREATED, "2026-01-02T03:05:05.5Z") == "1m"
    assert show.lasted(CREATED, "2026-01-02T03:04:05.9Z") == ""
    assert show.lasted(CREATED, "") == ""


def operation(**fields: object) -> Operation:
    return Operation("op1", "run", "replica_set", "foo", **{"state": "running", **fields})  # type: ignore[arg-type]


def test_the_progress_line_is_for_terminals_only() -> None:
    pipe, terminal = io.StringIO(), Terminal()
    for stream in (pipe, terminal):
        with ProgressLine(stream, quiet_s=0) as line:
            line.show(operation(progress=StepProgress("EnsureImage", 50, 100)))
    assert pipe.getvalue() == ""
    assert "run foo: fetching the image" in terminal.getvalue()


@pytest.mark.parametrize("effect", [kind for kind in get_args(Effect) if kind is not Settle])
def test_every_step_has_words(effect: type) -> None:
    assert step_of(StepProgress(effect.__name__)) == STEP_WORDS[effect.__name__]


def test_a_step_that_failed_has_words_too() -> None:
    told = step_text("StartContainer failed: no such file")
    assert told == "starting the container failed: no such file"
    assert step_text("foo-1 created") == "foo-1 created"


def test_a_step_says_what_the_service_adds_to_it() -> None:
    assert step_of(StepProgress("FillDisk", message="again")) == "carrying the system disk again"
    assert step_of(StepProgress("NewStep")) == "NewStep", "of a newer service"


def test_the_progress_line_comes_late() -> None:
    terminal = Terminal()
    with ProgressLine(terminal, quiet_s=60) as line:
        line.show(operation())
    assert terminal.getvalue() == ""


def test_the_end_of_an_operation() -> None:
    assert result_of(operation(state="succeeded", result={"name": "foo-1"})) == {"name": "foo-1"}
    with pytest.raises(CliFailure, match=r"no such image \(code 1004\)"):
        result_of(
            operation(state="failed", code=1004, reason="image_not_found", message="no such image")
        )
    with pytest.raises(Unreachable):
        result_of(operation(state="failed", code=1104, reason="engine_unavailable", message="gone"))


def test_exit_codes() -> None:
    assert (CliFailure.exit_code, Unreachable.exit_code, NotFound.exit_code) == (1, 3, 4)
    help_text = " ".join(invoke("--help").stdout.split())
    assert "1 refused or failed; 2 wrong usage; 3 the service" in help_text


@pytest.mark.parametrize("args", [(), ("run",), ("volume", "ls"), ("gpus",), ("audit", "verify")])
def test_help_is_a_letter_too(args: tuple[str, ...]) -> None:
    short, long = invoke(*args, "-h"), invoke(*args, "--help")
    assert (short.exit_code, short.stdout) == (0, long.stdout)


def test_its_version_is_told_without_a_command() -> None:
    told = invoke("--version")
    assert (told.exit_code, told.stdout) == (0, f"gpuledger {version('gpuledger')}\n")


FLAGS = [
    (name, flag)
    for name, setting in SETTINGS.items()
    for flag in setting.flags
    if name != "insecure"  # which has no value to be refused
]
NONSENSE = "\0"
"""No setting takes it, so a flag that is passed on is a flag that is refused by name."""


@pytest.mark.parametrize(("name", "flag"), FLAGS)
def test_serve_has_a_flag_for_every_setting(name: str, flag: str) -> None:
    result = invoke("serve", flag, NONSENSE)
    assert result.exit_code == 2, result.output
    assert SETTINGS[name].env in result.stderr


@pytest.mark.parametrize("name", SETTINGS)
def test_serve_listens_to_every_variable(name: str) -> None:
    variable = SETTINGS[name].env
    result = invoke("serve", **{variable: NONSENSE})
    assert result.exit_code == 2, result.output
    assert variable in result.stderr


@pytest.mark.parametrize("command", ["rebuild", "check"])
def test_maintenance_reads_the_same_settings(command: str) -> None:
    result = invoke(command, "--nats", "http://x")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --nats (or GPULEDGER_NATS) is 'http://x'")


@pytest.mark.parametrize(
    "args",
    [
        ("run", "foo"),
        ("run", "foo", "--image", "i", "--bind", "nonsense"),
        ("run", "foo", "--image", "i", "--label", "nonsense"),
        ("run", "foo", "--image", "i", "--gpus", "two"),
        ("patch", "foo", "--old-bind", "a-1:/a"),
        ("patch", "foo", "--env", "A"),
        ("patch", "foo", "--unset", "A=1"),
        ("patch", "foo", "--bind", "/data"),
        ("patch", "foo", "--port", "22", "--no-ports"),
        ("patch", "foo", "--no-cmd", "--", "sh"),
        ("patch", "foo", "--pids", "many"),
        ("pin", "foo"),
        ("unpin", "foo", "first"),
        ("rollback", "foo", "first"),
        ("exec", "foo"),
        ("ps", "--server", "ftp://x"),
        ("launch", "foo"),
    ],
)
def test_wrong_usage_ends_with_2(args: tuple[str, ...]) -> None:
    assert invoke(*args).exit_code == 2
