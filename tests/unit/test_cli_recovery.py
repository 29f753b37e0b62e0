"""What people read of a recovery: the plan, what is lost, what is in the way, what came of it."""

from pathlib import Path

from msgspec.structs import replace
from typer.testing import CliRunner

from service.cli.app import build_app
from service.cli.recovery import data_of, end_lines, plan_lines
from service.cli.surroundings import Surroundings
from service.domain.recovery_plan import Outcome, Plan, RecoveryReport, Step

STEPS = (
    Step("volume", "bar-1", "whole", "made again on its disk"),
    Step(
        *("replica_set", "foo-2", "loss", "made again and started"),
        ("its system disk begins as foo-1 left it",),
        ("GPUs b in place of a",),
    ),
)
PLANNED = RecoveryReport("n1", 7, Plan(STEPS, (), ()))
TOLD = [
    "node n1, 7 records",
    "volume bar-1: made again on its disk",
    "container foo-2: made again and started (with a loss)",
    "  lost: its system disk begins as foo-1 left it",
    "  GPUs b in place of a",
]


def test_a_plan_is_told_and_that_nothing_was_done() -> None:
    assert plan_lines(PLANNED) == TOLD
    assert end_lines(PLANNED, held_back=False) == ["nothing was done: this is the plan"]


def test_losses_that_nobody_accepted() -> None:
    last = "nothing was done; with --accept-losses it is, losing what stands above"
    assert end_lines(PLANNED, held_back=True) == [last]
    assert data_of(PLANNED, held_back=True)["heldBack"] is True


def test_what_is_in_the_way() -> None:
    blocked = replace(PLANNED, plan=replace(PLANNED.plan, in_the_way=("container foo-3 is ours",)))
    assert plan_lines(blocked) == [*TOLD, "in the way:", "  container foo-3 is ours"]
    last = "nothing was done; remove what is in the way, or use a newer backup"
    assert end_lines(blocked, held_back=True) == [last]


def test_what_came_of_it() -> None:
    outcomes = (
        Outcome("volume", "bar", "recover", succeeded=True),
        Outcome("replica_set", "foo", "recover", succeeded=False, message="no such image"),
    )
    done = replace(PLANNED, executed=True, outcomes=outcomes)
    assert not done.is_well
    assert end_lines(done, held_back=False) == [
        "recover of bar: done",
        "recover of foo: FAILED: no such image",
        "start the service with --node n1",
    ]
    assert data_of(done, held_back=False)["outcomes"][1] == {
        "kind": "replica_set",
        "name": "foo",
        "verb": "recover",
        "succeeded": False,
        "message": "no such image",
    }
    assert data_of(done, held_back=False)["plan"][0]["verdict"] == "whole"


def test_where_there_is_no_log_nothing_is_made(tmp_path: Path) -> None:
    args = ["restore", "--dry-run", "--data-dir", str(tmp_path / "data")]
    surroundings = Surroundings({"HOME": "/nonexistent"}, "n1", False, lambda: 0.0, lambda: "k")
    done = CliRunner().invoke(build_app(), args, obj=surroundings)
    assert done.exit_code == 2
    assert "has no log; name its folder with --data-dir, or a backup" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_losses_are_accepted_of_a_recovery_only(tmp_path: Path) -> None:
    args = ["restore", str(tmp_path), "--accept-losses", "--data-dir", str(tmp_path / "data")]
    surroundings = Surroundings({"HOME": "/nonexistent"}, "n1", False, lambda: 0.0, lambda: "k")
    done = CliRunner().invoke(build_app(), args, obj=surroundings)
    assert (done.exit_code, "--accept-losses is for --execute" in done.stderr) == (2, True)
