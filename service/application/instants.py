"""Docker's instants as ours."""

from datetime import datetime


def instant_us(text: str) -> int:
    """Microseconds since the epoch of Docker's RFC 3339; 0 of what is none."""
    try:
        return int(datetime.fromisoformat(text[:26].rstrip("Z") + "+00:00").timestamp() * 1e6)
    except ValueError:
        return 0
