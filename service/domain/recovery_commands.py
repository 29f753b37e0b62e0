"""The commands that make again what was lost with a host. Facts of this host are part of them."""

from msgspec import Struct


class RecoverReplicaSet(Struct, frozen=True, tag=True):
    """Make a replica set's container again, if this host has none, and note what else is gone."""

    name: str
    containers: tuple[int, ...] = ()
    """The versions whose containers are here."""
    kept: tuple[str, ...] = ()
    """Those of its kept system disks, directories and images, that are here."""
    images: tuple[str, ...] = ()
    """Those of the images below its system disks that are here: by content, or kept ones."""


class RecoverVolume(Struct, frozen=True, tag=True):
    """Make a volume mountable again: with its disk where that is here, and with a new one
    where it is not (`disk` False)."""

    name: str
    disk: bool
