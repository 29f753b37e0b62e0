"""The file of tokens: kept as hashes, for its owner only, changed while somebody reads it."""

import asyncio
import logging
import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from service.access_ports import Grant, Token
from service.adapters.token_file import FILE, LOOK_EVERY_S, LiveTokens, TokenFile, digest_of
from service.bootstrap.access import RESERVED
from service.errors import TokenFileError
from service.web.access import ANYBODY

APPLICATION = Path(__file__).parents[2] / "service" / "application"
HOUR_US = 3600 * 1_000_000


class HandClock:
    """The port `Clock`; time passes when somebody sleeps, and only then."""

    def __init__(self) -> None:
        self._now_s = 1_000_000.0

    def now_us(self) -> int:
        """As the port says."""
        return round(self._now_s * 1e6)

    def monotonic_s(self) -> float:
        """As the port says."""
        return self._now_s

    async def sleep(self, seconds: float) -> None:
        """As the port says, but at once."""
        self._now_s += seconds


def token(name: str, text: str = "", expires_us: int | None = None) -> Token:
    return Token(name, "operator", "vision", digest_of(text or f"text of {name}"), 5, expires_us)


@pytest.fixture
def file(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path)


def test_what_is_kept_and_forgotten(file: TokenFile) -> None:
    assert file.tokens() == ()
    assert file.mark() is None
    for name in ("ci", "screen"):
        file.add(token(name))
    assert file.tokens() == (token("ci"), token("screen"))
    assert file.remove("ci")
    assert not file.remove("ci")
    assert TokenFile(file.path.parent).tokens() == (token("screen"),)


def test_the_token_itself_is_nowhere_and_only_the_owner_reads_its_hash(file: TokenFile) -> None:
    file.add(token("ci", "the-token-itself"))
    names = sorted(path.name for path in file.path.parent.iterdir())
    assert names == [FILE, "tokens.lock"], "nothing else stays"
    for path in file.path.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert b"the-token-itself" not in path.read_bytes()


def test_no_token_is_named_as_records_name_the_service() -> None:
    """Or what somebody did would look like what the service did of its own accord."""
    sources = [path.read_text() for path in APPLICATION.glob("*.py")]
    naming = re.compile(r'(?:actor(?:: str)? ?= ?|ACTOR = )"(.+?)"')
    named = {name for text in sources for name in naming.findall(text)}
    assert len(named) > 5
    assert named | {ANYBODY.actor} == RESERVED


def test_a_name_is_taken_once(file: TokenFile) -> None:
    file.add(token("ci"))
    with pytest.raises(TokenFileError, match="there is a token ci already; revoke it first"):
        file.add(token("ci", "other"))
    assert file.tokens() == (token("ci"),)


def test_it_belongs_to_whom_the_data_directory_belongs(file: TokenFile) -> None:
    os.chown(file.path.parent, 1234, 1234)
    file.add(token("ci"))
    assert {path.stat().st_uid for path in file.path.parent.iterdir()} == {1234}


ADD = """
import sys
from pathlib import Path
from service.access_ports import Token
from service.adapters.token_file import TokenFile
for number in range(20):
    token = Token(f"{sys.argv[2]}-{number}", "viewer", "", "0", 0)
    TokenFile(Path(sys.argv[1])).add(token)
"""


def test_two_that_write_at_the_same_time_lose_nothing(file: TokenFile) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", ADD, str(file.path.parent), name])
        for name in ("a", "b")
    ]
    assert [writer.wait(120) for writer in writers] == [0, 0]
    assert len(file.tokens()) == 40


def test_what_cannot_be_read_is_said(file: TokenFile) -> None:
    for body in (b"", b"[]", b'{"tokens": [{}]}', b'{"tokens": [], "version": 2}'):
        file.path.write_bytes(body)
        with pytest.raises(TokenFileError, match="is damaged"):
            file.tokens()
    file.path.unlink()
    file.path.mkdir()
    with pytest.raises(TokenFileError, match="cannot be read"):
        file.tokens()
    with pytest.raises(TokenFileError, match="cannot be read"):
        file.remove("x")
    with pytest.raises(TokenFileError, match="cannot be written"):
        TokenFile(file.path / "no-such").add(token("ci"))


async def test_a_new_token_is_known_at_once_and_a_revoked_one_soon_is_not(file: TokenFile) -> None:
    clock = HandClock()
    live = LiveTokens(file, clock)
    assert not await live.any()
    assert await live.find("secret") is None
    await asyncio.to_thread(file.add, token("ci", "secret"))
    assert await live.find("secret") == Grant("ci", "vision", "operator")
    assert await live.any()
    assert await live.find("Secret") is None
    await asyncio.to_thread(file.remove, "ci")
    await clock.sleep(LOOK_EVERY_S)
    assert await live.find("secret") is None
    assert not await live.any()


class PausedFile(TokenFile):
    """Stops once between having read the file and saying what is in it."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)
        self.pauses = False
        self.paused, self.go_on = threading.Event(), threading.Event()

    def tokens(self) -> tuple[Token, ...]:
        found = super().tokens()
        if self.pauses:
            self.pauses = False
            self.paused.set()
            assert self.go_on.wait(10)
        return found


async def test_a_slow_look_does_not_bring_back_what_was_revoked_since(tmp_path: Path) -> None:
    """Whoever presents what is no token has the file looked at, by as many threads as he likes."""
    file = PausedFile(tmp_path)
    file.add(token("ci", "secret"))
    live = LiveTokens(file, HandClock())
    file.add(token("screen"))
    file.pauses = True
    slow = asyncio.create_task(live.find("nothing"))
    await asyncio.to_thread(file.paused.wait, 10)
    await asyncio.to_thread(TokenFile(tmp_path).remove, "ci")
    quick = asyncio.create_task(live.find("nothing"))
    await asyncio.wait([quick], timeout=0.2)  # it must wait for the slow one, which is let go now
    file.go_on.set()
    await asyncio.gather(slow, quick)
    assert await live.find("secret") is None


async def test_the_first_token_closes_the_door_soon(file: TokenFile) -> None:
    clock = HandClock()
    live = LiveTokens(file, clock)
    await asyncio.to_thread(file.add, token("ci"))
    await clock.sleep(LOOK_EVERY_S)
    assert await live.any()


async def test_an_expired_token_grants_nothing_and_still_keeps_the_door_closed(
    file: TokenFile,
) -> None:
    clock = HandClock()
    file.add(token("ci", "secret", clock.now_us() + HOUR_US))
    live = LiveTokens(file, clock)
    assert await live.find("secret") is not None
    await clock.sleep(3600)
    assert await live.find("secret") is None
    assert await live.any()


@pytest.mark.parametrize("damage", ["damaged", "gone"])
async def test_what_cannot_be_read_opens_no_door_and_shuts_nobody_out(
    file: TokenFile, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = HandClock()
    file.add(token("ci", "secret"))
    live = LiveTokens(file, clock)
    with caplog.at_level(logging.ERROR):
        if damage == "gone":
            file.path.unlink()
        else:
            file.path.write_text("{")
        for _ in range(3):
            await clock.sleep(LOOK_EVERY_S)
            assert await live.any()
            assert await live.find("secret") is not None
            assert await live.find("other") is None
    assert len(caplog.records) == 1
    assert "the tokens that were known go on" in caplog.text


def test_a_damaged_file_is_not_taken_for_none_at_the_start(file: TokenFile) -> None:
    file.path.write_text("{")
    with pytest.raises(TokenFileError, match="is damaged"):
        LiveTokens(file, HandClock())
