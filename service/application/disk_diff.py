"""DiskDiff: which files are other in one version's system disk than in another's."""

from collections.abc import Awaitable, Callable

from projections.lineage import disk_holder
from projections.state import Revision, State
from service.disk_ports import DiskRef, FileChanges
from service.errors import SystemDiskError

Compare = Callable[[DiskRef, DiskRef, int], Awaitable[FileChanges]]

FILES_LISTED_MAX = 10_000


class DiskDiff:
    """`directories` compares layers and kept directories, `images` what was kept by commit."""

    def __init__(
        self, state: Callable[[], State], directories: Compare, images: Compare
    ) -> None:
        self._state = state
        self._directories = directories
        self._images = images

    async def changes(self, name: str, old: int, new: int) -> FileChanges:
        """What is other in version `new`, the first FILES_LISTED_MAX files listed.

        Both versions are known. Raises SystemDiskError when one's disk is not kept any more, or
        the two lie on different images; EngineUnavailable.
        """
        state = self._state()
        refs = [disk_ref(state, state.revisions[name, number]) for number in (old, new)]
        if refs[0] == refs[1]:
            return FileChanges((), 0, 0, 0)
        by_image = any(ref.kind == "image" for ref in refs)
        compare = self._images if by_image else self._directories
        return await compare(refs[0], refs[1], FILES_LISTED_MAX)


def disk_ref(state: State, revision: Revision) -> DiskRef:
    """Where the system disk of a revision is now. Raises SystemDiskError when it is gone."""
    holder = disk_holder(state, revision)
    if holder.snapshot is not None:
        kept_as_image = holder.snapshot_carry == "commit"
        return DiskRef("image" if kept_as_image else "directory", holder.snapshot)
    if holder.container in ("created", "running", "exited"):
        return DiskRef("container", f"{holder.name}-{holder.number}")
    why = f" ({holder.gone})" if holder.gone else ""
    raise SystemDiskError(
        f"the system disk of {revision.name}-{revision.number} is not kept any more{why}"
    )
