"""What is due for the disk that a debug copy begins with: an image, or a directory to clone."""

from events.values import versioned
from projections.debug_copy import CopiedDisk
from projections.state import State
from service.domain.effects import MakeDebugImage
from service.domain.reconcile_idle import begun_before


def image_to_make(
    state: State, ids: tuple[str, str, str, int], copied: CopiedDisk, *, may_freeze: bool
) -> MakeDebugImage | None:
    """The image that its container is to be made of, unless it needs none or has it.

    `may_freeze`: whether the container that is copied may stand still meanwhile, as it has to
    for what is copied to be of one moment.
    """
    if not copied.image or copied.imaged:
        return None
    source = state.revisions[copied.of, copied.version]
    things = {
        "container": versioned(copied.of, copied.version),
        "image": source.snapshot or "",
        "directory": source.base_image,
    }
    live = copied.source == "container"
    pause = live and may_freeze and source.container == "running"
    return MakeDebugImage(
        *ids, source=things[copied.source], image=copied.image, live=live, pause=pause
    )


def waits_for_source(state: State, copied: CopiedDisk) -> bool:
    """Is the container that is to be copied just being started or stopped?"""
    of = state.replica_sets[copied.of]
    live = copied.source == "container" and not copied.imaged
    return live and begun_before(state, of) is not None


def directory_to_clone(state: State, copied: CopiedDisk) -> str | None:
    """The kept directory that its container is to be filled with, if its disk was kept so."""
    if copied.source != "directory":
        return None
    return state.revisions[copied.of, copied.version].snapshot
