"""The questions of `Queries`, answered as of a record of the past.

The state of then has all but the operations that had ended: those are in the read store, where
the row of an operation changes no more once it has ended.
"""

from collections.abc import Sequence
from heapq import merge
from itertools import islice
from typing import Protocol

from projections.price_book import Month, Price
from projections.queries import SEQ_MAX
from projections.state import GpuUnit, Operation, PortLease, ReplicaSet, Revision, State, Volume
from projections.webhook_book import Webhook


class EndedOperations(Protocol):
    """What the read store says of operations that had ended. Raises ReadStoreError."""

    async def operation_ended_by(self, operation_id: str, seq: int) -> Operation | None:
        """An operation that had ended at a record."""
        ...

    async def operations_ended_by(
        self, seq: int, limit: int, before_seq: int, name: str | None = None
    ) -> Sequence[Operation]:
        """The newest of them (of one name) accepted before a sequence, newest first."""
        ...


class HistoricReads:
    """What the read store answered when `state` was the fold. Nothing here changes the state."""

    def __init__(self, state: State, ended: EndedOperations) -> None:
        self.state = state
        self._ended = ended

    async def replica_set(self, name: str) -> ReplicaSet | None:
        """The replica set of this name, also when it was deleted."""
        return self.state.replica_sets.get(name)

    async def replica_sets(self) -> list[ReplicaSet]:
        """The replica sets that there were, by name."""
        there = (one for one in self.state.replica_sets.values() if one.current > 0)
        return sorted(there, key=lambda one: one.name)

    async def revision(self, name: str, number: int) -> Revision | None:
        """One version of a replica set."""
        return self.state.revisions.get((name, number))

    async def revisions(self, name: str) -> list[Revision]:
        """All versions of a replica set, newest first."""
        numbers = sorted((n for of, n in self.state.revisions if of == name), reverse=True)
        return [self.state.revisions[name, number] for number in numbers]

    async def prices(self) -> list[Price]:
        """Every price there was, by what it is for and its begin."""
        return [self.state.prices[key] for key in sorted(self.state.prices)]

    async def months(self) -> list[Month]:
        """The months that were closed, in their order."""
        return [self.state.months[name] for name in sorted(self.state.months)]

    async def month(self, month: str) -> Month | None:
        """A month, if it was closed."""
        return self.state.months.get(month)

    async def webhooks(self) -> list[Webhook]:
        """The webhooks that there were, by name."""
        return [self.state.webhooks[name] for name in sorted(self.state.webhooks)]

    async def webhook(self, name: str) -> Webhook | None:
        """The webhook of this name, if there was one."""
        return self.state.webhooks.get(name)

    async def volume(self, name: str) -> Volume | None:
        """The volume of this name, also when it was deleted."""
        return self.state.volumes.get(name)

    async def volumes(self) -> list[Volume]:
        """The volumes that there were, by name."""
        volumes = self.state.volumes.values()
        there = (one for one in volumes if one.current > 0 and not one.deleted)
        return sorted(there, key=lambda one: one.name)

    async def gpus(self) -> list[GpuUnit]:
        """The GPUs that were ever seen, by index."""
        return sorted(self.state.gpus.values(), key=lambda one: (one.index, one.uuid))

    async def ports(self) -> list[PortLease]:
        """The host ports that were leased, by number."""
        return sorted(self.state.ports.values(), key=lambda one: one.host_port)

    async def operation(self, operation_id: str) -> Operation | None:
        """An operation, however long before it had ended."""
        known = self.state.operations.get(operation_id)
        if known is not None:
            return known
        return await self._ended.operation_ended_by(operation_id, self.state.seq)

    async def operations(
        self, limit: int, before_seq: int | None = None, name: str | None = None
    ) -> list[Operation]:
        """The newest operations (of one name), those accepted before a sequence, newest first."""
        before = SEQ_MAX if before_seq is None else before_seq
        going_on = sorted(
            (
                one
                for one in self.state.operations.values()
                if one.finished_seq is None and one.seq < before and name in (None, one.name)
            ),
            key=lambda one: -one.seq,
        )
        ended = await self._ended.operations_ended_by(self.state.seq, limit, before, name)
        return list(islice(merge(going_on, ended, key=lambda one: -one.seq), limit))
