"""`gpuledger rebuild` and `gpuledger check`."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from time import perf_counter

from msgspec import Struct

from events.labels import LABEL_NODE, LABEL_OWNER
from projections.projector import rebuild as rebuild_store
from projections.state import State
from projections.store import ReadStore
from service.adapters.docker_engine import DockerEngine
from service.adapters.jetstream_connection import NatsAddress
from service.adapters.read_process import Body, read_beside
from service.adapters.upper_disks import UpperDisks
from service.adapters.volume_choice import choose
from service.application.check import compare_engine, compare_rows, compare_things
from service.application.orphan_work import OrphanWork
from service.bootstrap.ledger import OpenLedger, make_data_dir, open_ledger, visit_ledger
from service.bootstrap.past import timeline_in
from service.bootstrap.told import told
from service.errors import EngineError
from service.ports import Ledger, StoredEntry
from service.settings import Settings

READ_STORE = "read.db"

REBUILT_EACH = 8
"""Between checkpoints so far apart 20,000 records are folded at most, some 0.4 s. To write all of
them made a rebuild take a sixth longer (measured)."""


class RebuildSummary(Struct, frozen=True):
    """What `gpuledger rebuild` did."""

    records: int
    seconds: float


class CheckReport(Struct, frozen=True):
    """What `gpuledger check` found. No differences is how it should be."""

    records: int
    differences: list[str]


async def rebuild(settings: Settings) -> RebuildSummary:
    """Drop the read store and fold the whole ledger into a new one; not beside a service.

    The checkpoints of the past are made anew with it: one of REBUILT_EACH, so that it costs
    nothing much. A service makes the others in the background.
    """
    make_data_dir(settings.data_dir)
    async with open_ledger(settings) as opened:
        with told(settings.data_dir):
            return await _rebuilt(opened, settings.data_dir / READ_STORE)


async def _rebuilt(opened: OpenLedger, path: Path) -> RebuildSummary:
    async with ReadStore(path) as store:
        until = await opened.ledger.last_seq()
        timeline = timeline_in(path.parent, opened.ledger.read)
        await timeline.forget()
        begun = perf_counter()
        async with timeline.writing():
            report = await rebuild_store(
                lambda after: _beside(opened.address, after, until),
                store,
                lambda projector: timeline.follow(projector, REBUILT_EACH),
            )
        return RebuildSummary(report.records, perf_counter() - begun)


async def check(settings: Settings) -> CheckReport:
    """Fold the ledger afresh and compare: every row, every lease, every container.

    Also beside a running service: the rows are compared as of the record they stand at, and
    what is busy is left out of the comparison with Docker.
    """
    make_data_dir(settings.data_dir)
    with (
        told(settings.data_dir),
        tempfile.TemporaryDirectory(prefix="gpuledger-check-") as folder,
    ):
        async with (
            visit_ledger(settings) as ledger,
            ReadStore(settings.data_dir / READ_STORE) as stored,
            ReadStore(Path(folder) / READ_STORE) as folded,
        ):
            rows = await stored.dump()
            until = int(str(rows["position"][0][0]))
            await rebuild_store(lambda after: _until(ledger, after, until), folded)
            fresh = await folded.dump()
            found = [
                difference
                for table, expected in fresh.items()
                for difference in compare_rows(table, rows.get(table, []), expected)
            ]
            state = await folded.load_state()
    return CheckReport(until, [*found, *await _compare_engine(settings, state)])


async def _beside(address: NatsAddress, after: int, until: int) -> AsyncIterator[Sequence[Body]]:
    if after < until:
        async for bodies in read_beside(address, after, until):
            yield bodies


async def _until(ledger: Ledger, after: int, until: int) -> AsyncIterator[Sequence[StoredEntry]]:
    if after >= until:
        return
    async for entries in ledger.read(after, until):
        yield entries


async def _compare_engine(settings: Settings, state: State) -> list[str]:
    if state.node is None:
        return []
    owner = state.node.owner
    engine = DockerEngine(settings.docker, owner=owner)
    disks = UpperDisks(settings.docker, owner=owner)
    labels = {LABEL_OWNER: owner, LABEL_NODE: state.node.node}
    try:
        # One that is named: nothing is tried out for it, as nothing is made.
        volumes = await choose(settings.data_dir / "volumes", "loop")
        seen = await asyncio.wait_for(engine.list_containers(labels), 30)
        ours = await asyncio.wait_for(OrphanWork(engine, volumes, disks, owner).look(), 30)
    except (EngineError, TimeoutError) as error:
        return [f"docker: it does not answer, so nothing could be compared with it: {error}"]
    finally:
        await disks.close()
        await engine.close()
    unseen = [f"{kind}: it could not be looked at: {why}" for kind, why in ours.unseen.items()]
    told = {container.name for container in seen}
    return [*compare_engine(state, seen), *compare_things(state, ours.things, told), *unseen]
