"""`gpuledger replay` on a backup and on an installation's log: what it prints, and how it ends."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner, Result

from events.codec import read, record_of
from events.record import Event
from events.resources import GpusLeased
from service.application.chain import Chain
from service.cli.app import build_app
from service.cli.surroundings import Surroundings
from service.domain.basis import command_of, envelope_of, facts_of
from service.ports import Entry, StoredEntry
from tests.kit.backups import run as run_loop
from tests.kit.backups import settings
from tests.kit.replayed import lay_down, story

RUN_FOO, PATCH_FOO, RUN_BAR, RESTART_FOO, BAR_ENDS = 3, 8, 21, 26, 35


@pytest.fixture(scope="module")
def entries() -> list[StoredEntry]:
    """The story of foo and bar, as it is stored."""
    return story()


@pytest.fixture(scope="module")
def backup(entries: list[StoredEntry], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of it; tests only read it."""
    return lay_down(entries, tmp_path_factory.mktemp("backup") / "b")


def replay(*args: object, stdin: str = "") -> Result:
    surroundings = Surroundings({}, "rig", False, lambda: 0.0, lambda: "key")
    words = ["replay", *map(str, args)]
    return CliRunner().invoke(build_app(), words, obj=surroundings, input=stdin)


def lines_of(*args: object, code: int = 0) -> list[dict[str, Any]]:
    result = replay(*args, "--json")
    assert result.exit_code == code, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def rewritten(
    entries: Sequence[StoredEntry], seq: int, old: Event, new: Event
) -> list[StoredEntry]:
    """The same log with one event otherwise, chained as if it had always been so."""
    chain, facts, found = Chain(""), None, []
    for entry in entries:
        event = read(entry.body)
        record, facts, command = record_of(event), facts_of(event, facts), command_of(event)
        assert facts is not None
        assert command is not None
        if entry.seq == seq:
            events = tuple(new if one == old else one for one in record.events)
            record = replace(record, events=events)
        linked = chain.link(entry.seq, record, envelope_of(event, command, facts))
        found.append(StoredEntry(entry.seq, linked.subject, linked.message_id, linked.body))
    return found


def test_every_record_is_shown_with_what_became_of_it(backup: Path) -> None:
    result = replay("--file", backup, "--to", PATCH_FOO)
    assert result.exit_code == 0
    text = result.stdout
    assert text.count("\n#") + text.startswith("#") == PATCH_FOO
    assert max(len(line) for line in text.splitlines()) <= 100
    block = text.split("\n\n")[PATCH_FOO - 1]
    for words in (
        "#8  2026-01-01T00:00:00.000000Z  patch replica_set foo by anonymous",
        "  command   PatchReplicaSet name=foo gpu_count=2",
        'gpus.leased.v1 name=foo revision=2 uuids=["gpu-0", "gpu-1"]',
        "  decided   as it is stored",
        "  state     gpus_free 3 → 2, gpus_leased 1 → 2, operations_running 0 → 1",
        "  due       StopContainer foo-1 [id-000005/stop-foo-1]",
    ):
        assert words in block
    started = text.split("\n\n")[5]
    assert "  asked     StartContainer foo-1 [id-000003/start-foo-1]" in started
    assert "  answered  succeeded started_at=" in started


def test_no_value_of_an_environment_is_shown(backup: Path, tmp_path: Path) -> None:
    what_if = tmp_path / "w.toml"
    what_if.write_text("[[record]]\nseq = 3\ncommand = {spec = {image = 'a:1', env = ['A=mine']}}")
    for args in ((), ("--json",), ("--what-if", what_if), ("--what-if", what_if, "--json")):
        output = replay("--file", backup, *args).output
        assert "API_TOKEN=***" in output
        assert not any(secret in output for secret in ("hush", "MODE=train", "mine"))


def test_the_same_for_programs(backup: Path) -> None:
    found = lines_of("--file", backup)
    assert [line["seq"] for line in found] == list(range(1, len(found) + 1))
    patch = found[PATCH_FOO - 1]
    assert (patch["verb"], patch["name"], patch["decided"]) == ("patch", "foo", "same")
    assert (patch["before"]["gpus_free"], patch["after"]["gpus_free"]) == (3, 2)
    assert patch["facts"]["keep_revisions"] == 10
    assert [effect["type"] for effect in patch["due"]] == ["StopContainer"]
    stopped = found[PATCH_FOO]
    assert stopped["asked"]["type"] == "StopContainer"
    assert stopped["answer"]["outcome"] == "succeeded"


@pytest.mark.parametrize(
    ("name", "seqs"),
    [("bar", {21, 22, 23, 24, 25, 32, 33, 34, 35}), ("v", {15, 16, 17}), ("bar@1", {21, 22, 23})],
)
def test_one_name(backup: Path, name: str, seqs: set[int]) -> None:
    found = lines_of("--file", backup, "--name", name)
    assert {line["name"] for line in found} == {name.partition("@")[0]}
    assert seqs <= {line["seq"] for line in found}


def test_one_version(backup: Path) -> None:
    second = [line["seq"] for line in lines_of("--file", backup, "--name", "foo@2")]
    assert PATCH_FOO in second
    assert not {RUN_FOO, 4, 5, 6} & set(second)
    assert "none is about that name" in replay("--file", backup, "--name", "nobody").output


@pytest.mark.parametrize(
    ("condition", "seq"),
    [
        ("gpus_free == 2", PATCH_FOO),
        ("has('container.removed.v1')", 13),
        ("name == 'bar' and verb == 'run'", RUN_BAR),
        ("stopped == 1", 18),
    ],
)
def test_it_stops_where_a_condition_holds(backup: Path, condition: str, seq: int) -> None:
    (stop,) = lines_of("--file", backup, "--break", condition)
    assert stop["seq"] == seq


def test_a_condition_that_never_holds(backup: Path) -> None:
    result = replay("--file", backup, "--break", "gpus == 9")
    assert result.exit_code == 1
    assert "35 records: the condition held at none of them" in result.output


def test_step_by_step(backup: Path) -> None:
    result = replay("--file", backup, "--step", stdin="\n\ns\nd\nx\nq\n")
    assert result.exit_code == 0
    assert [line[:2] for line in result.stdout.splitlines() if line.startswith("#")] == [
        "#1",
        "#2",
        "#3",
    ]
    assert "0    foo     1         -         gpu-0" in result.stdout
    assert "GPU gpu-0 changed holder - foo-1" in " ".join(result.stdout.split())
    assert "Enter: next   c: go on" in result.stdout


def test_steps_go_on_to_where_the_condition_holds(backup: Path) -> None:
    """A state that stays so is one stop, a record of a kind is one each."""
    for condition, stops in (("gpus_free == 2", ["#8", "#35"]), ("verb == 'run'", ["#3", "#21"])):
        result = replay("--file", backup, "--step", "--break", condition, stdin="c\nc\n")
        heads = [line.split()[0] for line in result.stdout.splitlines() if line.startswith("#")]
        assert heads == stops
    of_volume = replay("--file", backup, "--step", "--break", "name == 'v'", stdin="c\nc\n").stdout
    assert [line.split()[0] for line in of_volume.splitlines() if line[0:1] == "#"] == [
        "#15",
        "#16",
        "#17",
    ]


def test_the_last_stop_is_followed_by_the_end(backup: Path) -> None:
    for condition in ("gpus_free == 2", "verb == 'run'"):
        result = replay("--file", backup, "--step", "--break", condition, stdin="c\nc\n")
        assert result.stdout.endswith("the end of the log\n")


def test_the_end_of_the_input_ends_the_steps(backup: Path) -> None:
    result = replay("--file", backup, "--step", stdin="\n")
    assert (result.exit_code, result.stdout.count("  decided ")) == (0, 2)


def test_a_log_is_verified(backup: Path) -> None:
    result = replay("--file", backup, "--verify")
    assert result.exit_code == 0, result.output
    assert "35 records in " in result.stdout
    assert "35 decided as stored, 0 otherwise" in result.stdout
    (summary,) = lines_of("--file", backup, "--verify")
    assert (summary["same"], summary["otherwise"], summary["undecidable"]) == (35, 0, 0)


def test_what_would_be_decided_otherwise_is_shown(
    entries: list[StoredEntry], tmp_path: Path
) -> None:
    old, new = GpusLeased("bar", 1, ("gpu-0",)), GpusLeased("bar", 1, ("gpu-3",))
    folder = lay_down(rewritten(entries, RUN_BAR, old, new), tmp_path / "b")
    result = replay("--file", folder, "--verify", "--limit", 1)
    assert result.exit_code == 1
    assert f"#{RUN_BAR}  " in result.stdout
    assert '            - gpus.leased.v1  uuids=["gpu-3"]\n' in result.stdout
    assert '            + gpus.leased.v1  uuids=["gpu-0"]\n' in result.stdout
    assert "and 2 more (--limit shows them)" in result.stdout
    assert "32 decided as stored, 3 otherwise" in result.stdout
    *found, summary = lines_of("--file", folder, "--verify", code=1)
    # gpu-0 was free when foo was restarted, and bar had another to give back at its end.
    assert [one["seq"] for one in found] == [RUN_BAR, RESTART_FOO, BAR_ENDS]
    assert ({one["decided"] for one in found}, summary["otherwise"]) == ({"otherwise"}, 3)
    result = replay("--file", folder, "--until-breach")
    assert result.exit_code == 1
    assert f"#{RUN_BAR}  " in result.stdout
    assert "BROKEN    gpu-3: leased by bar-1, which does not have it" in result.stdout
    (breach,) = lines_of("--file", folder, "--until-breach", code=1)
    assert breach["seq"] == RUN_BAR


def test_a_log_of_before_is_counted_as_not_decided(tmp_path: Path) -> None:
    ledger = Path(__file__).parents[1] / "replay" / "ledgers" / "v0.4.0-upper.jsonl"
    bodies = ledger.read_bytes().splitlines()
    old = [StoredEntry(seq, "s", f"id-{seq}", body) for seq, body in enumerate(bodies, 1)]
    folder = lay_down(old, tmp_path / "b")
    result = replay("--file", folder, "--verify")
    assert result.exit_code == 0
    assert f"{len(bodies)} not decided once more: it was stored before 0.5.0" in result.stdout
    assert "decided   not once more: " in replay("--file", folder, "--to", 3).stdout


def test_no_invariant_is_broken(backup: Path) -> None:
    result = replay("--file", backup, "--until-breach")
    assert (result.exit_code, result.stdout) == (0, "35 records: no invariant is broken\n")


WHAT_IF = """
placement = "highest"

[[gpus]]
after = 20
add = 1

[[record]]
seq = 8
command = { gpu_count = 3 }

[[insert]]
after = 20
command = { type = "RunReplicaSet", name = "baz", spec = { image = "a:1", gpu_count = 1 } }
"""


def test_another_history(backup: Path, tmp_path: Path) -> None:
    file = tmp_path / "what-if.toml"
    file.write_text(WHAT_IF)
    result = replay("--file", backup, "--what-if", file)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("the histories part at record 3\n")
    assert '            - gpus.leased.v1  uuids=["gpu-0", "gpu-1"]\n' in result.stdout
    assert '            + gpus.leased.v1  uuids=["gpu-1", "gpu-2", "gpu-3"]\n' in result.stdout
    assert "behind #20  run replica_set baz by what-if: ONLY here" in result.stdout
    assert "35 records, 13 differences: 7 otherwise, 6 only here" in result.stdout
    assert "replica set  baz          added    version" in result.stdout
    *differences, summary = lines_of("--file", backup, "--what-if", file)
    assert len(differences) == 13
    assert summary["partedAt"] == 3
    assert summary["here"]["replica_sets"] == summary["there"]["replica_sets"] + 1
    assert [thing["name"] for thing in summary["changes"]["replicaSets"]] == ["baz", "foo"]
    assert "and 11 more" in replay("--file", backup, "--what-if", file, "--limit", 2).stdout


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("placement = 'best'", 2, "Invalid enum value 'best'"),
        ("placment = 'highest'", 2, "unknown field `placment`"),
        ("[[record]\n", 2, "what-if.toml: "),
        ("", 2, "nothing is altered"),
        ("[[record]]\nseq = 99\ndrop = true", 1, "record 99 is named, and the log ends with 35"),
        ("[[record]]\nseq = 8\ncommand = {gpus = 1}", 1, "PatchReplicaSet, which has no gpus"),
    ],
)
def test_a_file_that_makes_no_sense(
    backup: Path, tmp_path: Path, text: str, code: int, words: str
) -> None:
    file = tmp_path / "what-if.toml"
    file.write_text(text)
    result = replay("--file", backup, "--what-if", file)
    assert (result.exit_code, words in result.output) == (code, True), result.output


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("--to", "36"), 1, "there is no record 36; the log has 1 to 35"),
        (("--to", "0"), 1, "there is no record 0"),
        (("--verify", "--until-breach"), 2, "each stand alone"),
        (("--verify", "--name", "foo"), 2, "each stand alone"),
        (("--step", "--json"), 2, "leave --json out"),
        (("--break", "gpu == 1"), 2, "there is no gpu"),
        (("--name", "foo@x"), 2, "names no version"),
        (("--what-if", "/nonexistent"), 2, "cannot be read"),
    ],
)
def test_what_is_asked_wrongly(
    backup: Path, args: tuple[str, ...], code: int, words: str
) -> None:
    result = replay("--file", backup, *args)
    assert result.exit_code == code
    assert words in " ".join(result.output.replace("│", "").split())


def test_a_place_without_a_log(tmp_path: Path) -> None:
    result = replay("--data-dir", tmp_path)
    assert (result.exit_code, "has no log" in result.output) == (2, True)
    result = replay("--file", tmp_path)
    assert (result.exit_code, "it is no backup" in result.output) == (1, True)


def test_the_log_of_an_installation(entries: list[StoredEntry], tmp_path: Path) -> None:
    """Read with its own server, which is there no more when it is gone through."""
    from service.bootstrap.ledger import open_ledger

    async def stored() -> None:
        async with open_ledger(settings(tmp_path)) as opened:
            some = [Entry(entry.subject, entry.message_id, entry.body) for entry in entries]
            await opened.ledger.append(some, 0)

    run_loop(stored())
    result = replay("--data-dir", tmp_path, "--verify", "--to", "20")
    assert result.exit_code == 0, result.output
    assert "20 decided as stored, 0 otherwise" in result.stdout
