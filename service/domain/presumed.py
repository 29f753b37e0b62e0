"""The answer that is presumed where nobody was asked: the engine did it, and nothing odd came."""

from events.codec import read_time, show_time
from service.domain.commands import Succeeded
from service.domain.effects import (
    CommitImage,
    CompactSnapshot,
    CreateContainer,
    Effect,
    EnsureImage,
    Execute,
    MakeDebugImage,
    PreCopyDisk,
    PutBackDisk,
    StartContainer,
    StopContainer,
    TakeSnapshot,
)

PRESUMED_ID = "presumed"
"""Stands for ids that an engine would have given."""


def presumed_success(effect: Effect, at_us: int) -> Succeeded:
    """Success at an instant, with facts of the right shape; sizes and durations are 0."""
    match effect:
        case EnsureImage():
            return Succeeded({"image_id": effect.image, "env": [], "cmd": []})
        case CreateContainer():
            return Succeeded({"container_id": f"{PRESUMED_ID}-{effect.container}"})
        case StartContainer():
            # It was started anew only if it says another instant than the time before.
            last_us = read_time(effect.last_started_at) or 0
            return Succeeded({"started_at": show_time(max(at_us, last_us + 1))})
        case StopContainer():
            return Succeeded({"exit_code": 0, "finished_at": show_time(at_us)})
        case TakeSnapshot():
            return Succeeded({"size_bytes": 0, "squashed": False})
        case CompactSnapshot():
            return Succeeded({"saved_bytes": 0, "message": ""})
        case PreCopyDisk():
            return Succeeded({"size_bytes": 0, "message": ""})
        case PutBackDisk():
            return Succeeded({"gone": False, "lost": False})
        case MakeDebugImage():
            return Succeeded({"size_bytes": 0})
        case CommitImage():
            return Succeeded({"image_id": PRESUMED_ID, "size_bytes": 0})
        case Execute():
            keys = ("exit_code", "duration_us", "stdout_bytes", "stderr_bytes")
            return Succeeded(dict.fromkeys(keys, 0))
        case _:
            return Succeeded()
