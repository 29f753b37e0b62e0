"""Fixtures with a real nats-server: a child in the test's own folder, and a ledger on it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.adapters.jetstream import JetStreamLedger
from service.adapters.nats_child import NatsChild


@pytest.fixture
async def nats_child(tmp_path: Path) -> AsyncIterator[NatsChild]:
    """A ledger server that is up, with an empty store."""
    async with NatsChild(tmp_path / "data") as child:
        yield child


@pytest.fixture
async def nats_ledger(nats_child: NatsChild) -> AsyncIterator[JetStreamLedger]:
    """An empty ledger on `nats_child`."""
    async with JetStreamLedger(nats_child.service, nats_child.admin) as ledger:
        yield ledger
