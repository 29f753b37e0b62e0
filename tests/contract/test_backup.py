"""A log as files and back: byte for byte, and nothing of it when anything is not as it was."""

import gzip
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from events.codec import encode
from events.subjects import subject_of
from service.adapters.backup_lines import BadLine, decode_line, encode_line
from service.adapters.ledger_backup import BackupFolder, read_parts
from service.bootstrap import back_up, check, restore, verify_backup
from service.bootstrap.ledger import open_ledger
from service.errors import LedgerDamaged, SettingsError
from service.ports import Entry, StoredEntry
from tests.kit import histories
from tests.kit.backups import append, entries_of, run, settings

RECORDS = 1_100
"""More than are read at a stretch, and than two batches of a restore."""

NO_REFUSALS = "refusals-e3b0c44298fc1c14.jsonl.gz"
"""It is called by what is in it: nothing."""

ODD_BODIES = [
    b"",
    b"{}",
    b'{"a": 1}',
    b'{"a":1}\n',
    b' {"a":1}',
    b'{"a":\n1}',
    b'{"a":\r1}',
    b'"\\u2028 \xe2\x80\xa8"',
    b'"\xff"',
    b"\x00\x01",
    b'{"a":1}{"b":2}',
    b"[" * 5_000 + b"]" * 5_000,
    b'{"big":123456789012345678901234567890,"a":1e2,"a":1}',
    b"x" * 900_000,
]


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a log; tests only read it."""
    data_dir = tmp_path_factory.mktemp("origin") / "data"
    run(append(data_dir, RECORDS))
    return data_dir


@pytest.fixture
def backup(origin: Path, tmp_path: Path) -> Path:
    """A backup of it."""
    folder = tmp_path / "backup"
    run(back_up(settings(origin), folder))
    return folder


def part_of(backup: Path) -> Path:
    (part,) = backup.glob("ledger-*")
    return part


@pytest.mark.parametrize("body", ODD_BODIES, ids=range(len(ODD_BODIES)))
def test_any_body_comes_back_byte_for_byte(body: bytes) -> None:
    entry = StoredEntry(7, "ledger.n1.replica_set.foo.run", 'an "id"\n é', body)
    line = encode_line(entry)
    assert b"\n" not in line
    assert decode_line(line) == entry


def test_a_record_stands_in_its_line_as_it_is() -> None:
    body = b'{"z": 1, "a": [1.0,  2]}'
    line = encode_line(StoredEntry(1, "s", "id", body))
    assert body in line
    assert json.loads(line)["body"] == {"z": 1, "a": [1.0, 2]}


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"seq":1', b'"seq":2'), (b"a.b", b"a.c"), (b"ident", b"other"), (b"100", b"900")],
)
def test_a_line_that_was_changed_is_noticed(old: bytes, new: bytes) -> None:
    line = encode_line(StoredEntry(1, "a.b", "ident", b'{"n":100}'))
    assert old in line
    with pytest.raises(BadLine, match="not what was written"):
        decode_line(line.replace(old, new, 1))


def test_a_restored_log_is_the_same_log(origin: Path, backup: Path, tmp_path: Path) -> None:
    assert run(verify_backup(backup)).records == RECORDS
    target = tmp_path / "data"
    done = run(restore(settings(target), backup))
    assert (done.records, done.node, done.fold_compared) == (RECORDS, histories.NODE, True)
    assert [path.name for path in target.iterdir()] == ["ledger"]
    assert run(entries_of(target)) == run(entries_of(origin))
    # It goes on, and its stream is as safe as any.
    run(append(target, RECORDS + 50))
    assert len(run(entries_of(target))) == RECORDS + 50
    assert run(check(settings(target))).records == 0  # no rows yet: the next start makes them


def test_a_long_log_is_cut_into_parts(tmp_path: Path) -> None:
    entries = [StoredEntry(seq, "s", f"id-{seq}", body) for seq, body in enumerate(ODD_BODIES, 1)]

    async def batches() -> AsyncIterator[list[StoredEntry]]:
        for begin, end in ((0, 1), (1, 3), (3, 11), (11, 14)):
            yield entries[begin:end]

    async def there_and_back() -> None:
        async with BackupFolder(tmp_path / "backup", part_records_max=4) as folder:
            parts = await folder.write(batches())
            bounds = [(part.first_seq, part.last_seq) for part in parts]
            assert bounds == [(1, 4), (5, 8), (9, 12), (13, 14)]
            assert [e async for some in read_parts(folder.path, parts) for e in some] == entries

    run(there_and_back())


def test_only_its_owner_may_read_it(backup: Path) -> None:
    assert [path.stat().st_mode & 0o077 for path in (backup, *backup.iterdir())] == 4 * [0]


def test_the_second_backup_adds_what_is_new(tmp_path: Path) -> None:
    data_dir, folder = tmp_path / "data", tmp_path / "backup"
    run(append(data_dir, 300))
    assert run(back_up(settings(data_dir), folder)).new_records == 300
    first = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}
    assert run(back_up(settings(data_dir), folder)).new_records == 0
    run(append(data_dir, 420))
    done = run(back_up(settings(data_dir), folder))
    assert (done.new_records, done.records) == (120, 420)
    names = sorted(path.name for path in folder.iterdir())
    assert names == [
        "ledger-0000000001-0000000300.jsonl.gz",
        "ledger-0000000301-0000000420.jsonl.gz",
        "manifest.json",
        NO_REFUSALS,
    ]
    stat = (folder / names[0]).stat()
    assert (stat.st_ino, stat.st_mtime_ns) == first[names[0]]
    run(restore(settings(tmp_path / "again"), folder))
    assert run(entries_of(tmp_path / "again")) == run(entries_of(data_dir))


def test_what_an_interrupted_backup_left_is_taken_away(origin: Path, backup: Path) -> None:
    whole = part_of(backup).read_bytes()
    (backup / "manifest.json").unlink()
    with pytest.raises(LedgerDamaged, match=r"has no manifest\.json"):
        run(verify_backup(backup))
    (backup / "ledger-0000000001-0000000001.jsonl.gz.partial").write_bytes(whole[:100])
    (backup / "ledger-0000000001-0000000007.jsonl.gz").write_bytes(whole[:100])
    assert run(back_up(settings(origin), backup)).new_records == RECORDS
    assert sorted(p.name for p in backup.iterdir()) == [
        "ledger-0000000001-0000001100.jsonl.gz",
        "manifest.json",
        NO_REFUSALS,
    ]
    assert part_of(backup).read_bytes() == whole


def test_a_folder_with_other_things_is_left_alone(origin: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(SettingsError, match=r"not empty \(thesis.txt\) and no backup"):
        run(back_up(settings(origin), tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_one_backup_at_a_time(origin: Path, backup: Path) -> None:
    async def both() -> None:
        async with BackupFolder(backup):
            with pytest.raises(SettingsError, match="another backup is being written"):
                await back_up(settings(origin), backup)

    run(both())


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="has no log"):
        run(back_up(settings(tmp_path / "none"), tmp_path / "backup"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("records", [200, RECORDS, RECORDS + 300])
def test_another_log_is_not_mixed_into_it(backup: Path, tmp_path: Path, records: int) -> None:
    async def other() -> None:
        async with open_ledger(settings(tmp_path / "data")) as opened:
            history = list(histories.records(records, 7))
            entries = [Entry(subject_of(r), f"x{r.command_id}", encode(r)) for r in history]
            await opened.ledger.append(entries, 0)

    run(other())
    before = {path.name: path.read_bytes() for path in backup.iterdir()}
    with pytest.raises(LedgerDamaged, match="is another, or has lost records"):
        run(back_up(settings(tmp_path / "data"), backup))
    assert {path.name: path.read_bytes() for path in backup.iterdir()} == before


def flip(part: Path) -> None:
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 0x10
    part.write_bytes(content)


def cut(part: Path) -> None:
    part.write_bytes(part.read_bytes()[:-2_000])


def rewrite(part: Path, change: Callable[[list[bytes]], None]) -> None:
    lines = gzip.decompress(part.read_bytes()).splitlines(keepends=True)
    change(lines)
    part.write_bytes(gzip.compress(b"".join(lines)))


def alter(lines: list[bytes]) -> None:
    lines[49] = lines[49].replace(b'"timeus":1', b'"timeus":2')


def swap(lines: list[bytes]) -> None:
    lines[49], lines[50] = lines[50], lines[49]


def lose(lines: list[bytes]) -> None:
    del lines[49]


def cut_last(lines: list[bytes]) -> None:
    lines.pop()


def add(lines: list[bytes]) -> None:
    lines.append(lines[-1])


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a bit": (flip, r"jsonl.gz is damaged at line \d+ \(seq \d+\)"),
    "cut off": (
        cut,
        r"jsonl.gz is damaged at line \d+ \(seq \d+\): .*end-of-stream",
    ),
    "missing": (lambda part: part.unlink(), r"jsonl.gz is missing, with records 1 to 1100"),
    "altered": (lambda part: rewrite(part, alter), r"line 50 \(seq 50\): .*not what was written"),
    "out of order": (lambda part: rewrite(part, swap), r"line 50 \(seq 50\): it holds seq 51"),
    "a line lost": (lambda part: rewrite(part, lose), r"line 50 \(seq 50\): it holds seq 51"),
    "a line more": (lambda part: rewrite(part, add), r"line 1101 \(seq 1101\): it holds seq 1100"),
    "the end lost": (
        lambda part: rewrite(part, cut_last),
        r"ends before line 1100 \(seq 1100\); it should go to seq 1100",
    ),
    "packed again": (
        lambda part: rewrite(part, lambda lines: None),
        r"jsonl.gz is not the file that was written",
    ),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_backup_is_refused_and_named(
    origin: Path, backup: Path, tmp_path: Path, how: str
) -> None:
    damage, said = DAMAGES[how]
    damage(part_of(backup))
    with pytest.raises(LedgerDamaged, match=said):
        run(verify_backup(backup))
    with pytest.raises(LedgerDamaged, match=said):
        run(restore(settings(tmp_path / "data"), backup))
    assert not (tmp_path / "data").exists()
    with pytest.raises(LedgerDamaged):
        run(back_up(settings(origin), backup))


def edit(backup: Path, **fields: object) -> None:
    path = backup / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"fold_sha256": "0" * 64}, "fold to something else than when gpuledger"),
        ({"owner": "somebody"}, r"names node n1 \(owner somebody\), the records node n1"),
        ({"last_seq": 1_099}, "manifest.json is damaged: its parts end at seq 1100"),
        ({"parts": []}, "manifest.json is damaged: its parts end at seq 0"),
        ({"format": 2}, "has format 2, not 1"),
        ({"node": None}, "manifest.json cannot be read"),
    ],
)
def test_a_manifest_that_is_not_of_these_records(
    backup: Path, tmp_path: Path, fields: dict[str, object], said: str
) -> None:
    edit(backup, **fields)
    with pytest.raises(LedgerDamaged, match=said):
        run(verify_backup(backup))
    with pytest.raises(LedgerDamaged, match=said):
        run(restore(settings(tmp_path / "data"), backup))
    # Nothing is left of what was tried; the folder itself may be there.
    assert list((tmp_path / "data").glob("*")) == []


def test_the_digest_of_another_schema_is_not_compared(backup: Path, tmp_path: Path) -> None:
    edit(backup, fold_schema=0, fold_sha256="0" * 64)
    assert run(verify_backup(backup)).fold_compared is False
    assert run(restore(settings(tmp_path / "data"), backup)).fold_compared is False
