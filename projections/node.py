"""The installation in the state."""

from msgspec import Struct

from events.values import OrphanKind


class RestingPort(Struct, frozen=True, gc=False):
    """A host port that another process was found to have; it is not lent for a while."""

    host_port: int
    until_us: int


class ExpiredOrphan(Struct, frozen=True, gc=False):
    """Something of ours in no record that is being removed."""

    id: str
    kind: OrphanKind
    name: str
    object_id: str
    of: str
    """The replica set or volume that it says it belongs to."""
    seq: int
    """The record that said so."""
    operation_id: str
    """Of the caller who asked for it; empty when nobody did."""


class Node(Struct, frozen=True, gc=False):
    """This installation. `port_cursor` is the host port leased last."""

    node: str
    owner: str
    port_cursor: int = 0
    resting: tuple[RestingPort, ...] = ()
    expiring: tuple[ExpiredOrphan, ...] = ()
    """What is in no record and is being removed."""
