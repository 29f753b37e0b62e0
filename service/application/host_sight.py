"""host_sight: what a host has of an installation, looked at and left alone."""

from events.labels import LABEL_NAME, LABEL_OWNER
from events.values import versioned
from projections.state import ReplicaSet, State
from service.disk_ports import HostPaths, SystemDisks, VolumeStore
from service.domain.recovery_plan import references
from service.domain.recovery_sight import HostSight, SeenOwner
from service.ports import ContainerEngine, ObservedContainer


async def look(
    engine: ContainerEngine,
    volumes: VolumeStore,
    disks: SystemDisks,
    paths: HostPaths,
    state: State,
) -> HostSight:
    """What is there. Raises EngineError, SystemDiskError and VolumeStoreError."""
    owner = state.node.owner if state.node is not None else ""
    shown = await engine.list_containers({LABEL_OWNER: owner})
    containers = {one.name: _owner_of(one) for one in shown}
    live = [one for one in state.replica_sets.values() if one.current]
    for replica_set in live:
        name = versioned(replica_set.name, replica_set.current)
        if name not in containers and (other := await engine.inspect_container(name)):
            containers[name] = _owner_of(other)
    kept = {disk.name for disk in await disks.list_kept()}
    images, unfetchable = await _images(engine, state, live, containers)
    return HostSight(
        containers,
        volumes=frozenset(await engine.list_volumes({LABEL_OWNER: owner})),
        disks=frozenset(disk.name for disk in await volumes.list_disks()),
        kept=frozenset({*kept, *images}),
        images=images,
        unfetchable=unfetchable,
        unmountable=await _unmountable(paths, state, live),
    )


async def _unmountable(
    paths: HostPaths, state: State, live: list[ReplicaSet]
) -> dict[str, str]:
    """The host's directories that cannot be mounted, and why."""
    binds = (bind for one in live for bind in state.revisions[one.name, one.current].spec.binds)
    sources = sorted({bind.source for bind in binds if bind.source.startswith("/")})
    found = {source: await paths.absence(source) for source in sources}
    return {source: why for source, why in found.items() if why is not None}


async def _images(
    engine: ContainerEngine,
    state: State,
    live: list[ReplicaSet],
    containers: dict[str, SeenOwner],
) -> tuple[dict[str, str], dict[str, str]]:
    """The ids of images that are here, and why others cannot be fetched."""
    images: dict[str, str] = {}
    wanted = dict.fromkeys(image for one in live for image in references(state, one.name))
    for image in wanted:
        if (found := await engine.inspect_image(image)) is not None:
            images[image] = found.id
    current = (state.revisions[one.name, one.current] for one in live)
    missing = dict.fromkeys(
        one.spec.image
        for one in current
        if versioned(one.name, one.number) not in containers and one.spec.image not in images
    )
    refusals = {image: await engine.refusal_of_pull(image) for image in missing}
    return images, {image: why for image, why in refusals.items() if why is not None}


def _owner_of(shown: ObservedContainer) -> SeenOwner:
    return SeenOwner(shown.labels.get(LABEL_OWNER, ""), shown.labels.get(LABEL_NAME, ""))
