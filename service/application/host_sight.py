"""host_sight: what a host has of an installation, looked at and left alone."""

from events.labels import LABEL_NAME, LABEL_OWNER
from events.values import versioned
from projections.state import State
from service.disk_ports import SystemDisks, VolumeStore
from service.domain.recovery_plan import HostSight, SeenOwner, references
from service.ports import ContainerEngine, ObservedContainer


async def look(
    engine: ContainerEngine, volumes: VolumeStore, disks: SystemDisks, state: State
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
    images: dict[str, str] = {}
    unfetchable: dict[str, str] = {}
    asked: set[str] = set()
    for replica_set in live:
        for image in references(state, replica_set.name):
            if image not in asked and (found := await engine.inspect_image(image)):
                images[image] = found.id
            asked.add(image)
        name, number = replica_set.name, replica_set.current
        wanted = state.revisions[name, number].spec.image
        needed = versioned(name, number) not in containers and wanted not in images
        if needed and wanted not in unfetchable:
            why = await engine.refusal_of_pull(wanted)
            if why is not None:
                unfetchable[wanted] = why
    return HostSight(
        containers,
        volumes=frozenset(await engine.list_volumes({LABEL_OWNER: owner})),
        disks=frozenset(disk.name for disk in await volumes.list_disks()),
        kept=frozenset({*kept, *images}),
        images=images,
        unfetchable=unfetchable,
    )


def _owner_of(shown: ObservedContainer) -> SeenOwner:
    return SeenOwner(shown.labels.get(LABEL_OWNER, ""), shown.labels.get(LABEL_NAME, ""))
