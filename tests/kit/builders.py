"""Values with sensible defaults: an argument that a test sets is one that matters to the test."""

from typing import Any

from msgspec.structs import replace

from events.values import Bind, ContainerSpec, Gpu, Phase, PortBinding
from projections.state import (
    ContainerPhase,
    GpuUnit,
    Node,
    Operation,
    PortLease,
    ReplicaSet,
    Revision,
    State,
    Volume,
    VolumeVersion,
)
from service.domain.commands import (
    BindChange,
    Facts,
    PatchReplicaSet,
    ResizeVolume,
    RunReplicaSet,
)

NODE = "n1"
OWNER = "owner-1"
IMAGE = "train:1"
IMAGE_ID = "sha256:" + "ab" * 32
IMAGE_ENV = ("PATH=/bin", "LANG=C")
IMAGE_CMD = ("sh",)
GIB = 1 << 30
PORT_FIRST = 40000


def gpu(index: int = 0, **changes: Any) -> Gpu:
    """A GPU as the probe shows it; its UUID is "gpu-<index>"."""
    shown = Gpu(f"gpu-{index}", index, "NVIDIA H100", 80 * GIB, f"0000:{index:02x}:00.0")
    return replace(shown, **changes)


def facts(ports: int = 4, **changes: Any) -> Facts:
    """A host with so many ports to lend."""
    return replace(
        Facts(NODE, "nvidia", port_first=PORT_FIRST, port_last=PORT_FIRST + ports - 1), **changes
    )


def spec(
    gpu_count: int = 0, ports: int = 0, mounts: tuple[str, ...] = (), **changes: Any
) -> ContainerSpec:
    """What a container is to be: so many GPUs and ports; each of `mounts` at "/mnt/<source>"."""
    plain = ContainerSpec(
        image=IMAGE,
        gpu_count=gpu_count,
        container_ports=tuple(f"{22 + number}/tcp" for number in range(ports)),
        binds=tuple(mount(source) for source in mounts),
    )
    return replace(plain, **changes)


def mount(source: str, target: str = "") -> Bind:
    """Something mounted; where does not matter unless it is said."""
    return Bind(source, target or f"/mnt/{source.strip('/')}")


def run(
    name: str = "foo",
    gpu_count: int = 0,
    ports: int = 0,
    mounts: tuple[str, ...] = (),
    data_disk_bytes: int | None = None,
    **changes: Any,
) -> RunReplicaSet:
    """The command that makes a replica set."""
    return RunReplicaSet(name, spec(gpu_count, ports, mounts, **changes), data_disk_bytes)


def patch(name: str = "foo", gpu_count: int | None = None, **changes: Any) -> PatchReplicaSet:
    """The command that changes a replica set; given nothing it re-creates as is."""
    return PatchReplicaSet(name, gpu_count, **changes)


def remount(old: Bind, new: Bind, name: str = "foo") -> PatchReplicaSet:
    """The command that mounts `new` in the place of `old`."""
    return PatchReplicaSet(name, bind=BindChange(old, new))


def resize(name: str, gib: int) -> ResizeVolume:
    """The command that gives a volume another size."""
    return ResizeVolume(name, gib * GIB)


def state_of(*parts: GpuUnit | PortLease | ReplicaSet | Revision | Volume | Operation) -> State:
    """A state made by hand of these aggregates, possible or not."""
    state = State()
    state.node = Node(NODE, OWNER)
    for part in parts:
        match part:
            case GpuUnit():
                state.gpus[part.uuid] = part
            case PortLease():
                state.ports[part.host_port] = part
            case ReplicaSet():
                state.replica_sets[part.name] = part
            case Revision():
                state.revisions[part.name, part.number] = part
            case Volume():
                state.volumes[part.name] = part
            case Operation():
                state.operations[part.id] = part
    return state


def unit(index: int = 0, holder: str | None = None, *revisions: int, **changes: Any) -> GpuUnit:
    """A GPU in the state, leased by these revisions of its holder."""
    made = GpuUnit(
        uuid=f"gpu-{index}",
        index=index,
        name="NVIDIA H100",
        memory_bytes=80 * GIB,
        pci_bus_id=f"0000:{index:02x}:00.0",
        parent_uuid=None,
        present=True,
        holder=holder,
        revisions=revisions,
    )
    return replace(made, **changes)


def replica_set(
    current: int = 1, phase: Phase = "running", name: str = "foo", **changes: Any
) -> ReplicaSet:
    """A replica set in the state, with nothing going on."""
    return replace(ReplicaSet(name, phase, current, newest=current), **changes)


def revision(
    number: int = 1,
    gpus: tuple[int, ...] = (),
    ports: tuple[int, ...] = (),
    container: ContainerPhase = "running",
    **changes: Any,
) -> Revision:
    """A revision in the state, with these GPUs (by index) and host ports."""
    bindings = tuple(PortBinding(f"{22 + n}/tcp", port) for n, port in enumerate(ports))
    made = Revision(
        name="foo",
        number=number,
        cause="run",
        spec=spec(len(gpus), len(ports)),
        gpus=tuple(f"gpu-{index}" for index in gpus),
        ports=bindings,
        gpu_runtime="nvidia",
        created_us=0,
        container=container,
    )
    return replace(made, **changes)


def volume(current: int = 1, made: bool = True, name: str = "disk", **changes: Any) -> Volume:
    """A volume in the state, with nothing going on; all its versions are made, or none."""
    versions = tuple(VolumeVersion(n, GIB, "create", 0, made) for n in range(1, current + 1))
    return replace(Volume(name, current, newest=current, versions=versions), **changes)
