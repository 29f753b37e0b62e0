"""The server's certificate: what is wrong with the files is said, and a change is served."""

import asyncio
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from service.adapters.tls_files import TlsFiles
from service.errors import SettingsError
from tests.kit.certificates import self_signed


@asynccontextmanager
async def served(tls: TlsFiles) -> AsyncIterator[int]:
    """A TLS server that hangs up on everybody; its port."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=tls.context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def trusts(port: int, cert: Path) -> bool:
    """Does a client that trusts only this certificate get through?"""
    trusted = ssl.create_default_context(cafile=cert)
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusted)
    except ssl.SSLCertVerificationError:
        return False
    writer.close()
    return True


async def test_what_is_in_the_files_is_served_also_after_they_changed(tmp_path: Path) -> None:
    first, second = self_signed(tmp_path, "first"), self_signed(tmp_path, "second")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(first[0].read_bytes())
    key.write_bytes(first[1].read_bytes())
    tls = TlsFiles(cert, key)
    async with served(tls) as port:
        assert await trusts(port, first[0])
        assert not await trusts(port, second[0])
        # Between the two writes they do not fit: what was served goes on.
        cert.write_bytes(second[0].read_bytes())
        await asyncio.to_thread(tls.reload)
        assert await trusts(port, first[0])
        key.write_bytes(second[1].read_bytes())
        await asyncio.to_thread(tls.reload)
        assert await trusts(port, second[0])
        assert not await trusts(port, first[0])
        cert.unlink()
        await asyncio.to_thread(tls.reload)
        assert await trusts(port, second[0])


async def test_nothing_older_than_tls_1_2_is_spoken(tmp_path: Path) -> None:
    tls = TlsFiles(*self_signed(tmp_path, "one"))
    assert tls.context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_what_is_wrong_with_the_files_is_said(tmp_path: Path) -> None:
    cert, key = self_signed(tmp_path, "one")
    _, other_key = self_signed(tmp_path, "other")
    missing = tmp_path / "missing.pem"
    with pytest.raises(SettingsError, match=rf"--tls-cert: {missing} cannot be read \(No such"):
        TlsFiles(missing, key)
    with pytest.raises(SettingsError, match=rf"--tls-key: {missing} cannot be read \(No such"):
        TlsFiles(cert, missing)
    with pytest.raises(SettingsError, match="no certificate with its key"):
        TlsFiles(cert, other_key)
    with pytest.raises(SettingsError, match="no certificate with its key"):
        TlsFiles(key, key)


AT_A_TERMINAL = """
import os, sys
from pathlib import Path
from service.adapters.tls_files import TlsFiles
from service.errors import SettingsError
os.open(os.ttyname(0), os.O_RDWR)  # makes it the terminal of the session
try:
    TlsFiles(Path(sys.argv[1]), Path(sys.argv[2]))
except SettingsError as error:
    print(error)
"""


def test_a_key_with_a_password_does_not_ask_the_terminal_for_it(tmp_path: Path) -> None:
    cert, key = self_signed(tmp_path, "one")
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "ec", "-in", key, "-out", locked, "-aes256", "-passout", "pass:secret"],
        check=True,
        capture_output=True,
    )
    terminal, side_of_process = os.openpty()
    try:
        ended = subprocess.run(
            [sys.executable, "-c", AT_A_TERMINAL, cert, locked],
            stdin=side_of_process,
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
            timeout=120,
        )
    finally:
        os.close(terminal)
        os.close(side_of_process)
    assert "no certificate with its key" in ended.stdout
