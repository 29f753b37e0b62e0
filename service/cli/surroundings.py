"""What the commands need from the process around them, handed in by `service/__main__.py`."""

from collections.abc import Callable, Mapping

from msgspec import Struct


class Surroundings(Struct, frozen=True):
    """The environment, who we are, the time and a source of keys, as data."""

    env: Mapping[str, str]
    host_name: str
    superuser: bool
    now_s: Callable[[], float]
    """Seconds since the epoch, to say how old things are."""
    new_key: Callable[[], str]
    """An idempotency key that never comes twice."""
