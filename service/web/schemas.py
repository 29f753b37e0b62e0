"""Bodies to commands: each `parse_…` turns bytes into a well-formed command, or raises BadRequest.

Whether the command may be done is for `decide`. Beside the command each gives the body as the
caller sent it, for the record.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from events.values import Bind, ContainerSpec, Nfs
from service.domain.commands import (
    BindAt,
    BindChange,
    CommitReplicaSet,
    CreateVolume,
    DebugReplicaSet,
    ExecuteInReplicaSet,
    PatchReplicaSet,
    PinRevision,
    ResizeVolume,
    RollBackReplicaSet,
    RunReplicaSet,
    UnpinRevision,
)
from service.domain.reconcile import SNAPSHOT_REPOSITORY
from service.web import schemas_checks as check
from service.web.schemas_fields import (
    BINDS_MAX,
    MEMORY_BYTES_MIN,
    VOLUME_BYTES_MIN,
)
from service.web.schemas_requests import (
    BindAtBody,
    BindBody,
    CommitBody,
    CreateVolumeBody,
    DebugBody,
    ExecuteBody,
    FileStorageBody,
    PatchBody,
    PinBody,
    ResizeVolumeBody,
    RollbackBody,
    RunBody,
)

Raw = dict[str, Any]
"""A body as the caller sent it."""


class DiskPaths(Struct, frozen=True):
    """Where the standard disks are mounted in a container."""

    data_disk: str = "/root/foo-tmp"
    file_storage: str = "/root/foo-fs"


_KEPT = re.compile(rf"(?:(?:index\.)?docker\.io/)?{SNAPSHOT_REPOSITORY}(?::.*)?")
"""Every spelling of a name in the repository that only the service itself may write to."""

# Built once: building a decoder costs more than using it. `_raw` reads only what another one has
# accepted, so its input is neither malformed nor deep.
_raw = msgspec.json.Decoder(Raw)
_run = msgspec.json.Decoder(RunBody)
_patch = msgspec.json.Decoder(PatchBody)
_pin = msgspec.json.Decoder(PinBody)
_rollback = msgspec.json.Decoder(RollbackBody)
_debug = msgspec.json.Decoder(DebugBody)
_commit = msgspec.json.Decoder(CommitBody)
_execute = msgspec.json.Decoder(ExecuteBody)
_create_volume = msgspec.json.Decoder(CreateVolumeBody)
_resize_volume = msgspec.json.Decoder(ResizeVolumeBody)


def parse_run(body: bytes, disks: DiskPaths) -> tuple[RunReplicaSet, Raw]:
    """The body of POST /replicaSet."""
    asked = check.decode(_run, body)
    name = check.name(asked.replica_set_name, "replicaSetName")
    data_disk_bytes = None
    if asked.data_disk is not None:
        data_disk_bytes = check.size(asked.data_disk.size, "dataDisk.size", VOLUME_BYTES_MIN)
    secret_env = check.env(asked.secret_env or (), "secretEnv")
    spec = ContainerSpec(
        image=check.image(asked.image_name, "imageName"),
        gpu_count=check.gpu_count(asked.gpu_count, "gpuCount"),
        binds=_binds(asked, disks),
        # Once more: they are bounded together.
        env=check.env((*check.env(asked.env or (), "env"), *secret_env), "env"),
        cmd=check.cmd(asked.cmd or (), "cmd"),
        container_ports=check.container_ports(asked.container_ports or (), "containerPorts"),
        nano_cpus=_cpus(asked.cpus),
        memory_bytes=_memory(asked.memory),
        shm_bytes=_shm_size(asked.shm_size),
        pids_limit=_pids(asked.pids_limit),
        on_exit=asked.on_exit or "none",
        on_gpu_lost=asked.on_gpu_lost or "none",
        max_retries=_max_retries(asked.max_retries) or 0,
        secret_env=tuple(sorted(_keys(secret_env))),
        labels=check.labels(asked.labels or {}, "labels"),
    )
    return RunReplicaSet(name, spec, data_disk_bytes), _raw.decode(body)


def parse_patch(name: str, body: bytes) -> tuple[PatchReplicaSet, Raw]:
    """The body of PATCH /replicaSet/{name}."""
    asked = check.decode(_patch, body)
    gpu_count = change = cmd = ports = None
    image = None if asked.image_name is None else check.image(asked.image_name, "imageName")
    if asked.gpu_patch is not None:
        gpu_count = check.gpu_count(asked.gpu_patch.gpu_count, "gpuPatch.gpuCount")
    if asked.volume_patch is not None:
        change = BindChange(
            old=_bind(asked.volume_patch.old_bind, "volumePatch.oldBind"),
            new=_bind(asked.volume_patch.new_bind, "volumePatch.newBind"),
        )
    if asked.cmd is not None:
        cmd = check.cmd(asked.cmd, "cmd")
    if asked.container_ports is not None:
        ports = check.container_ports(asked.container_ports, "containerPorts")
    secret_env = check.env(asked.secret_env or (), "secretEnv")
    command = PatchReplicaSet(
        name=name,
        gpu_count=gpu_count,
        bind=change,
        binds=_binds_at(asked.binds or [], change),
        env=check.env_changes((*check.env_changes(asked.env or (), "env"), *secret_env), "env"),
        secret_env=tuple(sorted(_keys(secret_env))),
        cmd=cmd,
        container_ports=ports,
        image=image,
        # 0 takes a limit away; a run has none to take.
        nano_cpus=0 if asked.cpus == 0 else _cpus(asked.cpus),
        memory_bytes=0 if asked.memory == "0" else _memory(asked.memory),
        shm_bytes=0 if asked.shm_size == "0" else _shm_size(asked.shm_size),
        pids_limit=0 if asked.pids_limit == 0 else _pids(asked.pids_limit),
        on_exit=asked.on_exit,
        on_gpu_lost=asked.on_gpu_lost,
        max_retries=_max_retries(asked.max_retries),
    )
    return command, _raw.decode(body)


def _keys(env: Iterable[str]) -> set[str]:
    return {entry.partition("=")[0] for entry in env}


def parse_rollback(name: str, body: bytes) -> tuple[RollBackReplicaSet, Raw]:
    """The body of PATCH /replicaSet/{name}/rollback."""
    asked = check.decode(_rollback, body)
    version = check.version(asked.version, "version")
    return RollBackReplicaSet(name, version), _raw.decode(body)


def parse_debug(of: str, body: bytes) -> tuple[DebugReplicaSet, Raw]:
    """The body of POST /replicaSet/{name}/debug."""
    asked = check.decode(_debug, body)
    command = DebugReplicaSet(
        name=check.name(asked.copy_name, "as"),
        of=of,
        version=check.version(asked.version, "version"),
        gpu_count=check.gpu_count(asked.gpu_count, "gpuCount"),
        cmd=None if asked.cmd is None else check.cmd(asked.cmd, "cmd"),
    )
    return command, _raw.decode(body)


def parse_pin(name: str, body: bytes) -> tuple[PinRevision, Raw]:
    """The body of PATCH /replicaSet/{name}/pin."""
    asked = check.decode(_pin, body)
    return PinRevision(name, check.version(asked.version, "version")), _raw.decode(body)


def parse_unpin(name: str, body: bytes) -> tuple[UnpinRevision, Raw]:
    """The body of PATCH /replicaSet/{name}/unpin."""
    asked = check.decode(_pin, body)
    return UnpinRevision(name, check.version(asked.version, "version")), _raw.decode(body)


def parse_commit(name: str, body: bytes) -> tuple[CommitReplicaSet, Raw]:
    """The body of POST /replicaSet/{name}/commit."""
    asked = check.decode(_commit, body)
    image = check.image(asked.new_image_name, "newImageName")
    if "@" in image or image.startswith("sha256:"):
        raise check.bad("newImageName", "carries a digest, which cannot be chosen; give a name")
    if _KEPT.fullmatch(image):
        raise check.bad(
            "newImageName",
            f"is in {SNAPSHOT_REPOSITORY}, where system disks are kept: it could take the place of"
            " one; give another name",
        )
    return CommitReplicaSet(name, image), _raw.decode(body)


def parse_execute(name: str, body: bytes) -> tuple[ExecuteInReplicaSet, Raw]:
    """The body of POST /replicaSet/{name}/execute."""
    asked = check.decode(_execute, body)
    if not asked.cmd:
        raise check.bad("cmd", "is empty; give the command and its arguments")
    work_dir = asked.work_dir or ""
    if work_dir not in ("", "/"):
        work_dir = check.path(work_dir, "workDir")
    return ExecuteInReplicaSet(name, check.cmd(asked.cmd, "cmd"), work_dir), _raw.decode(body)


def parse_create_volume(body: bytes) -> tuple[CreateVolume, Raw]:
    """The body of POST /volumes."""
    asked = check.decode(_create_volume, body)
    name = check.name(asked.name, "name", "volume")
    size_bytes = check.size(asked.size, "size", VOLUME_BYTES_MIN)
    return CreateVolume(name, size_bytes), _raw.decode(body)


def parse_resize_volume(name: str, body: bytes) -> tuple[ResizeVolume, Raw]:
    """The body of PATCH /volumes/{name}/size."""
    asked = check.decode(_resize_volume, body)
    size_bytes = check.size(asked.size, "size", VOLUME_BYTES_MIN)
    return ResizeVolume(name, size_bytes), _raw.decode(body)


def _binds(asked: RunBody, disks: DiskPaths) -> tuple[Bind, ...]:
    """The binds asked for and the file storage; the data disk's is added by the domain."""
    _not_too_many(asked.binds or ())
    targets = [("dataDisk", disks.data_disk)] if asked.data_disk is not None else []
    binds: list[Bind] = []
    if asked.file_storage is not None:
        binds.append(_file_storage(asked.file_storage, disks.file_storage))
        targets.append(("fileStorage", disks.file_storage))
    for place, body in enumerate(asked.binds or ()):
        bind = _bind(body, f"binds[{place}]")
        binds.append(bind)
        targets.append((f"binds[{place}].dest", bind.target))
    check.distinct_targets(targets)
    return tuple(binds)


def _binds_at(bodies: list[BindAtBody], change: BindChange | None) -> tuple[BindAt, ...]:
    """What a patch mounts where, beside a bind that takes the place of another."""
    _not_too_many(bodies)
    targets = [("volumePatch.newBind.dest", change.new.target)] if change is not None else []
    binds: list[BindAt] = []
    for place, body in enumerate(bodies):
        field = f"binds[{place}]"
        source = check.bind_source(body.src, f"{field}.src") if body.src else ""
        binds.append(BindAt(source, check.path(body.dest, f"{field}.dest")))
        targets.append((f"{field}.dest", binds[-1].target))
    check.distinct_targets(targets)
    return tuple(binds)


def _not_too_many(binds: Sequence[object]) -> None:
    if len(binds) > BINDS_MAX:
        raise check.bad("binds", f"has {len(binds)} entries; {BINDS_MAX} are allowed")


def _bind(body: BindBody, field: str) -> Bind:
    source = check.bind_source(body.src, f"{field}.src")
    return Bind(source, check.path(body.dest, f"{field}.dest"))


def _file_storage(body: FileStorageBody, target: str) -> Bind:
    if (body.host_path is None) == (body.nfs is None):
        raise check.bad("fileStorage", "must have exactly one of hostPath and nfs")
    if body.nfs is None:
        return Bind(check.path(body.host_path or "", "fileStorage.hostPath"), target)
    nfs = Nfs(
        server=check.nfs_server(body.nfs.server, "fileStorage.nfs.server"),
        path=check.nfs_path(body.nfs.path, "fileStorage.nfs.path"),
        options=check.nfs_options(body.nfs.options, "fileStorage.nfs.options"),
    )
    return Bind("", target, nfs)


def _cpus(count: float | None) -> int | None:
    return None if count is None else check.cpus(count, "cpus")


def _memory(text: str | None) -> int | None:
    return None if text is None else check.size(text, "memory", MEMORY_BYTES_MIN)


def _shm_size(text: str | None) -> int | None:
    return None if text is None else check.size(text, "shmSize")


def _max_retries(count: int | None) -> int | None:
    return None if count is None else check.max_retries(count, "maxRetries")


def _pids(count: int | None) -> int | None:
    return None if count is None else check.pids_limit(count, "pidsLimit")
