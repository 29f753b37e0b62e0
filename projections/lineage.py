"""Lineage: where a revision's system disk comes from, and what is in it from before."""

from msgspec import Struct

from projections.debug_copy import CopiedDisk
from projections.state import Revision, State


class Base(Struct, frozen=True):
    """What a revision's container is, or will be, made of."""

    image: str
    """An image by its content, or a kept system disk that is an image."""
    origin: str
    origin_env: tuple[str, ...]
    origin_cmd: tuple[str, ...]
    baked_env: tuple[str, ...] = ()
    baked_cmd: bool = False


def disk_holder(state: State, revision: Revision) -> Revision:
    """The revision that has, or had last, the system disk of this one.

    Another one when its container was only given other limits: both had the same disk.
    """
    while revision.continued_as is not None:
        revision = state.revisions[revision.name, revision.continued_as]
    return revision


def kept_before(state: State, name: str, number: int) -> Revision | None:
    """The newest revision before `number` whose disk is a kept directory on the same image."""
    revision = state.revisions[name, number]
    for other in reversed(state.replica_sets[name].snapshots):
        kept = state.revisions[name, other]
        same = kept.snapshot_carry == "upper" and kept.base_image == revision.base_image
        if other < number and same and not kept.expiring:
            return kept
    return None


def base_of(state: State, revision: Revision) -> Base:
    """What the revision's container is made of, as far as that is known now.

    A commit bakes environment and command into the image, for good: the names are remembered
    here, so that what a revision does not have any more can be taken out again.
    """
    if revision.copied is not None:
        return _of_copy(state, revision.copied)
    if revision.disk_from is None:
        image_id = revision.image_id or ""
        image = image_id or revision.spec.image
        return Base(image, image_id, revision.origin_env, revision.origin_cmd)
    source = state.revisions[revision.name, revision.disk_from]
    if source.snapshot is None or source.snapshot_carry == "upper":
        return _below(source, source.base_image)
    return _above(source, source.snapshot)


def _of_copy(state: State, copied: CopiedDisk) -> Base:
    """Its own image is another name of one that is known, or what a commit made."""
    source = state.revisions[copied.of, copied.version]
    if copied.source == "directory":
        return _below(source, copied.image or source.base_image)
    return _above(source, copied.image)


def _below(source: Revision, image: str) -> Base:
    """What the container of `source` was made of, by this name of it."""
    origin = (source.origin, source.origin_env, source.origin_cmd)
    return Base(image, *origin, source.baked_env, source.baked_cmd)


def _above(source: Revision, image: str) -> Base:
    """A commit of the container of `source`."""
    names = {entry.partition("=")[0] for entry in source.spec.env}
    env = tuple(sorted({*source.baked_env, *names}))
    origin = (source.origin, source.origin_env, source.origin_cmd)
    return Base(image, *origin, env, source.baked_cmd or bool(source.spec.cmd))
