"""Facts about the node, its GPUs and ports, and who leases which."""

from msgspec import Struct

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
