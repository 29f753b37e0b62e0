"""A NATS server that is not there: said once, in words, and never with a password."""

import logging

import pytest

from service.adapters import jetstream_connection
from service.adapters.jetstream_connection import NatsAddress, NatsConnection
from service.errors import LedgerUnavailable
from tests.kit.command_line import nobody


async def test_nobody_there_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jetstream_connection, "_CONNECT_TIMEOUT_S", 0.7)
    host = nobody().removeprefix("http://")
    with caplog.at_level(logging.INFO), pytest.raises(LedgerUnavailable) as refused:
        async with NatsConnection.open(NatsAddress((f"nats://ann:hush@{host}",))):
            raise AssertionError
    # Tried every tenth of a second.
    ours = [one for one in caplog.records if one.name == jetstream_connection.__name__]
    (told,) = [one.getMessage() for one in ours]
    assert told.startswith(f"the NATS server at {host}: ")
    assert str(refused.value).startswith(f"the NATS server at {host}: cannot connect: ")
    assert "hush" not in told + str(refused.value)
