"""What the web layer is given: everything it needs from the layers below, in one typed value."""

from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import Protocol

from aiohttp import web
from msgspec import Struct, field

from events.values import GpuRuntime
from projections.price_book import Month, Price
from projections.state import GpuUnit, Operation, PortLease, ReplicaSet, Revision, Volume
from projections.webhook_book import Webhook
from service.application.audit import Audit
from service.application.disk_diff import DiskDiff
from service.application.event_feed import EventFeed
from service.application.explainer import Explainer
from service.application.health import Health
from service.application.intake import Intake
from service.application.orphans import Found
from service.application.past import Past
from service.application.refusals import Refusals
from service.application.usage_reader import UsageReads
from service.application.webhooks import Webhooks
from service.ports import Ids
from service.telemetry import Metrics
from service.web.access import Access
from service.web.schemas import DiskPaths


class Reads(Protocol):
    """The questions that pages ask the read store."""

    async def replica_set(self, name: str) -> ReplicaSet | None:
        """The replica set of this name, also when it was deleted."""
        ...

    async def replica_sets(self) -> Sequence[ReplicaSet]:
        """The replica sets that there are, by name."""
        ...

    async def revision(self, name: str, number: int) -> Revision | None: ...

    async def revisions(self, name: str) -> Sequence[Revision]:
        """All versions of a replica set, newest first."""
        ...

    async def volume(self, name: str) -> Volume | None:
        """The volume of this name, also when it was deleted."""
        ...

    async def volumes(self) -> Sequence[Volume]:
        """The volumes that there are, by name."""
        ...

    async def gpus(self) -> Sequence[GpuUnit]:
        """The GPUs that were ever seen, by index."""
        ...

    async def ports(self) -> Sequence[PortLease]:
        """The host ports that are leased, by number."""
        ...

    async def operation(self, operation_id: str) -> Operation | None: ...

    async def operations(
        self, limit: int, before_seq: int | None = None, name: str | None = None
    ) -> Sequence[Operation]:
        """The newest operations (of one name), those accepted before a sequence, newest first."""
        ...

    async def prices(self) -> Sequence[Price]:
        """Every price there ever was, by what it is for and its begin."""
        ...

    async def months(self) -> Sequence[Month]:
        """The months that were closed, in their order."""
        ...

    async def month(self, month: str) -> Month | None:
        """A month, if it was closed."""
        ...

    async def webhooks(self) -> Sequence[Webhook]:
        """The webhooks that there are, by name."""
        ...

    async def webhook(self, name: str) -> Webhook | None:
        """The webhook of this name, if there is one."""
        ...


class PresentReads(Reads, UsageReads, Protocol):
    """Those, and the ones that only the present answers."""


class NodeFacts(Struct, frozen=True):
    """This installation as it is now."""

    node: str
    owner: str
    version: str
    """Of gpuledger."""
    versions: dict[str, str] = field(default_factory=dict)
    """Of what it runs with: docker, nats, ..."""
    gpu_runtime: GpuRuntime = "none"
    gpu_detail: str = ""
    """One line for people about the GPUs."""
    disk_detail: str = ""
    """One line for people: how system disks are carried."""
    volume_detail: str = ""
    """One line for people: how volumes are sized here, or why they cannot be."""


class StreamTimes(Struct, frozen=True):
    """Of the connections on which events are sent."""

    heartbeat_s: float = 15
    """When nothing was sent for so long, it is said that there is nothing."""
    admitted_s: float = 1
    """For so long it is taken for granted that the caller may still read."""
    write_s: float = 30
    """A reader that takes nothing for so long is cut off."""


class WebContext(Struct, frozen=True):
    """Everything the handlers need."""

    intake: Intake
    present: PresentReads
    health: Health
    metrics: Metrics
    ids: Ids
    node: Callable[[], NodeFacts]
    """Asked at every request, because Docker may be there later, or be another one."""
    disk_diff: DiskDiff
    access: Access
    past: Past
    explainer: Explainer
    orphans: Callable[[], Awaitable[Found]]
    """What is there in our name and in no record, looked at anew."""
    now_us: Callable[[], int]
    feed: EventFeed
    webhooks: Webhooks
    refusals: Refusals
    audit: Audit
    port_first: int = 40000
    port_last: int = 65535
    wait_timeout_s: float = 600
    """So long a request waits for its outcome at most; then it is answered 202."""
    disks: DiskPaths = DiskPaths()
    stream_times: StreamTimes = StreamTimes()

    @property
    def reads(self) -> Reads:
        """What this request reads: the present, unless it asked for a point of the past."""
        return CHOSEN.get() or self.present

    @property
    def is_past(self) -> bool:
        """Did this request ask for a point of the past?"""
        return CHOSEN.get() is not None


CHOSEN: ContextVar[Reads | None] = ContextVar("reads", default=None)
"""The past that a request asked for; None is the present."""

CONTEXT = web.AppKey("context", WebContext)
