"""The queries on the read store that the API asks. Only SQL here: `store` has the connections."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

from msgspec import Struct

from projections import tables
from projections.record_queries import RecordQueries
from projections.state import GpuUnit, Operation, PortLease, ReplicaSet, Revision, Volume
from projections.tables import Value
from projections.usage_queries import UsageQueries
from projections.webhook_book import Webhook

SEQ_MAX = (1 << 63) - 1
"""Above every sequence."""

_T = TypeVar("_T")


class HistoryLine(Struct, frozen=True):
    """One record in the history of a name."""

    seq: int
    at_us: int
    verb: str
    type: str
    """The type of the record's first event."""
    actor: str
    operation_id: str


class OwnAct(Struct, frozen=True):
    """A record of what the service did or saw of its own accord."""

    seq: int
    at_us: int
    kind: str
    name: str
    verb: str
    actor: str


class Queries(UsageQueries, RecordQueries, ABC):
    """Questions to the rows. A query sees every batch whose `apply` has returned."""

    @abstractmethod
    async def _rows(self, sql: str, *values: Value) -> list[Any]:
        """The rows that a statement gives."""

    async def position(self) -> int:
        """The sequence of the last record in the rows."""
        return int((await self._rows("SELECT seq FROM position"))[0][0])

    async def replica_set(self, name: str) -> ReplicaSet | None:
        """The replica set of this name, also when it was deleted."""
        sql = "SELECT body FROM replica_sets WHERE name = ?"
        return await self._one(tables.read_replica_set, sql, name)

    async def replica_sets(self) -> list[ReplicaSet]:
        """The replica sets that there are, by name."""
        sql = "SELECT body FROM replica_sets WHERE revision > 0 ORDER BY name"
        return await self._all(tables.read_replica_set, sql)

    async def revision(self, name: str, number: int) -> Revision | None:
        """One version of a replica set."""
        sql = "SELECT body FROM revisions WHERE name = ? AND number = ?"
        return await self._one(tables.read_revision, sql, name, number)

    async def revisions(self, name: str) -> list[Revision]:
        """All versions of a replica set, newest first."""
        sql = "SELECT body FROM revisions WHERE name = ? ORDER BY number DESC"
        return await self._all(tables.read_revision, sql, name)

    async def volume(self, name: str) -> Volume | None:
        """The volume of this name, also when it was deleted."""
        sql = "SELECT body FROM volumes WHERE name = ?"
        return await self._one(tables.read_volume, sql, name)

    async def volumes(self) -> list[Volume]:
        """The volumes that there are, by name."""
        sql = "SELECT body FROM volumes WHERE version > 0 AND NOT deleted ORDER BY name"
        return await self._all(tables.read_volume, sql)

    async def gpus(self) -> list[GpuUnit]:
        """The GPUs that were ever seen, by index."""
        return await self._all(tables.read_gpu, "SELECT body FROM gpus ORDER BY idx, uuid")

    async def ports(self) -> list[PortLease]:
        """The host ports that are leased, by number."""
        return await self._all(tables.read_port, "SELECT body FROM ports ORDER BY host_port")

    async def webhooks(self) -> list[Webhook]:
        """The webhooks that there are, by name."""
        return await self._all(tables.read_webhook, "SELECT body FROM webhooks ORDER BY name")

    async def webhook(self, name: str) -> Webhook | None:
        """The webhook of this name, if there is one."""
        sql = "SELECT body FROM webhooks WHERE name = ?"
        return await self._one(tables.read_webhook, sql, name)

    async def operation(self, operation_id: str) -> Operation | None:
        """An operation, however long ago it ended."""
        sql = "SELECT body FROM operations WHERE id = ?"
        return await self._one(tables.read_operation, sql, operation_id)

    async def operations(
        self, limit: int, before_seq: int | None = None, name: str | None = None
    ) -> list[Operation]:
        """The newest operations (of one name), those accepted before a sequence, newest first."""
        before = SEQ_MAX if before_seq is None else before_seq
        rest = "seq < ? ORDER BY seq DESC LIMIT ?"
        if name is None:
            sql = f"SELECT body FROM operations WHERE {rest}"
            return await self._all(tables.read_operation, sql, before, limit)
        sql = f"SELECT body FROM operations WHERE name = ? AND {rest}"
        return await self._all(tables.read_operation, sql, name, before, limit)

    async def history(
        self, kind: str, name: str, limit: int, before_seq: int | None = None
    ) -> list[HistoryLine]:
        """The newest records about a name, those before a sequence, newest first."""
        sql = (
            "SELECT seq, at_us, verb, type, actor, operation_id FROM history"
            " WHERE kind = ? AND name = ? AND seq < ? ORDER BY seq DESC LIMIT ?"
        )
        before = SEQ_MAX if before_seq is None else before_seq
        return [HistoryLine(*row) for row in await self._rows(sql, kind, name, before, limit)]

    async def own_acts(self, limit: int, before_seq: int) -> list[OwnAct]:
        """The newest records that no caller's command led to, those before a sequence."""
        sql = (
            "SELECT seq, at_us, kind, name, verb, actor FROM history"
            " WHERE operation_id = '' AND seq < ? ORDER BY seq DESC LIMIT ?"
        )
        return [OwnAct(*row) for row in await self._rows(sql, before_seq, limit)]

    async def operation_ended_by(self, operation_id: str, seq: int) -> Operation | None:
        """An operation that had ended at a record."""
        sql = "SELECT body FROM operations WHERE id = ? AND finished_seq <= ?"
        return await self._one(tables.read_operation, sql, operation_id, seq)

    async def operations_ended_by(
        self, seq: int, limit: int, before_seq: int, name: str | None = None
    ) -> list[Operation]:
        """As `operations`, of those that had ended at a record."""
        # "+" keeps the index of ends out: it would find all of them, and sort them.
        rest = "+finished_seq <= ? AND seq < ? ORDER BY seq DESC LIMIT ?"
        if name is None:
            sql = f"SELECT body FROM operations WHERE {rest}"
            return await self._all(tables.read_operation, sql, seq, min(before_seq, seq + 1), limit)
        sql = f"SELECT body FROM operations WHERE name = ? AND {rest}"
        before = min(before_seq, seq + 1)
        return await self._all(tables.read_operation, sql, name, seq, before, limit)

    async def latest_times(self, after_seq: int, until_seq: int, block: int) -> list[int]:
        """The latest time, in microseconds, of each so many records of a range."""
        sql = (
            "SELECT MAX(at_us) FROM history WHERE seq > ? AND seq <= ?"
            " GROUP BY (seq - 1) / ? ORDER BY (seq - 1) / ?"
        )
        return [int(row[0]) for row in await self._rows(sql, after_seq, until_seq, block, block)]

    async def first_later(self, after_seq: int, until_seq: int, at_us: int) -> int | None:
        """The first record of a range that is later than an instant."""
        sql = (
            "SELECT seq FROM history WHERE seq > ? AND seq <= ? AND at_us > ?"
            " ORDER BY seq LIMIT 1"
        )
        found = await self._rows(sql, after_seq, until_seq, at_us)
        return int(found[0][0]) if found else None

    async def _one(self, read: Callable[[Any], _T], sql: str, *values: Value) -> _T | None:
        return next(iter(await self._all(read, sql, *values)), None)

    async def _all(self, read: Callable[[Any], _T], sql: str, *values: Value) -> list[_T]:
        rows = await self._rows(sql, *values)
        return self._decoded(read, (row[0] for row in rows))
