"""Facts about the node, its GPUs and ports, and who leases which."""

from msgspec import Struct

from events.gpu_health import GpuCause
from events.values import PortBinding


class NodeRegistered(
    Struct, frozen=True, tag_field="type", tag="node.registered.v1", omit_defaults=True
):
    """The first record of an installation: who owns the containers that it makes."""

    node: str
    owner: str


class GpuAppeared(Struct, frozen=True, tag_field="type", tag="gpu.appeared.v1", omit_defaults=True):
    """The driver shows a GPU (or MIG instance) that it did not show before, or shows it changed."""

    uuid: str
    index: int
    name: str
    memory_bytes: int
    pci_bus_id: str
    parent_uuid: str | None = None


class GpuDisappeared(
    Struct, frozen=True, tag_field="type", tag="gpu.disappeared.v1", omit_defaults=True
):
    """The driver does not show this GPU any more. A lease on it stays with its holder."""

    uuid: str


class GpuErrorReported(
    Struct, frozen=True, tag_field="type", tag="gpu.error_reported.v1", omit_defaults=True
):
    """The driver reported an error of this GPU, by NVIDIA's number (XID). At most one a minute."""

    uuid: str
    xid: int
    pids: tuple[int, ...] = ()
    holder: str = ""


class GpuFellIll(Struct, frozen=True, tag_field="type", tag="gpu.fell_ill.v1", omit_defaults=True):
    """This GPU has a fault that its hardware is to blame for, or the same one got worse."""

    uuid: str
    cause: GpuCause
    message: str
    number: int = 0
    """Of `xid` the XID, of `ecc` how many errors."""
    boot: str = ""
    holder: str = ""


class GpuRecovered(
    Struct, frozen=True, tag_field="type", tag="gpu.recovered.v1", omit_defaults=True
):
    """A fault of this GPU is gone. It may have others."""

    uuid: str
    cause: GpuCause
    number: int = 0


class GpuQuarantined(
    Struct, frozen=True, tag_field="type", tag="gpu.quarantined.v1", omit_defaults=True
):
    """This GPU is not lent from now on. Whoever has it keeps it."""

    uuid: str
    why: str
    by_hand: bool = False


class GpuRestored(Struct, frozen=True, tag_field="type", tag="gpu.restored.v1", omit_defaults=True):
    """This GPU may be lent again, be it healthy or not."""

    uuid: str


class GpuOccupied(Struct, frozen=True, tag_field="type", tag="gpu.occupied.v1", omit_defaults=True):
    """Processes of the host are on this GPU, which nobody leases: it is not lent meanwhile."""

    uuid: str
    pids: tuple[int, ...]


class GpuVacated(Struct, frozen=True, tag_field="type", tag="gpu.vacated.v1", omit_defaults=True):
    """No process is on this GPU any more that has no lease on it."""

    uuid: str


class GpusLeased(Struct, frozen=True, tag_field="type", tag="gpus.leased.v1", omit_defaults=True):
    """These GPUs are lent to a revision; a GPU may be passed on within one replica set."""

    name: str
    revision: int
    uuids: tuple[str, ...]


class GpusReleased(
    Struct, frozen=True, tag_field="type", tag="gpus.released.v1", omit_defaults=True
):
    """A revision's container was seen gone or stopped: it holds these GPUs no more."""

    name: str
    revision: int
    uuids: tuple[str, ...]


class PortsLeased(Struct, frozen=True, tag_field="type", tag="ports.leased.v1", omit_defaults=True):
    """These host ports are lent to a revision."""

    name: str
    revision: int
    ports: tuple[PortBinding, ...]


class PortsReleased(
    Struct, frozen=True, tag_field="type", tag="ports.released.v1", omit_defaults=True
):
    """A revision's container was seen gone or stopped: it holds these host ports no more."""

    name: str
    revision: int
    host_ports: tuple[int, ...]
