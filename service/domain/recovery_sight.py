"""What a host has of an installation, as data: what a recovery is planned on."""

from collections.abc import Mapping

from msgspec import Struct


class SeenOwner(Struct, frozen=True):
    """Whose container has a name, as its labels say."""

    owner: str
    name: str
    """The replica set."""


class HostSight(Struct, frozen=True):
    """What a host has of an installation."""

    containers: Mapping[str, SeenOwner]
    """By name: all of ours, and whoever has a name that one of ours needs."""
    volumes: frozenset[str]
    """The engine's, with their versions."""
    disks: frozenset[str]
    """Of volumes."""
    kept: frozenset[str]
    """Kept system disks: directories and images."""
    images: Mapping[str, str]
    """Of those asked for that are here: the id, by what they were asked for as."""
    unfetchable: Mapping[str, str]
    """Of those that are not: why they cannot be fetched either."""
    unmountable: Mapping[str, str] = {}
    """Of the host's directories that containers mount: why they cannot be mounted here."""
