"""The bodies of all requests, as clients send them. The OpenAPI document is made from these types.

A field that may be left out may also be null: clients written in Go send null for an empty list.
"""

from typing import Annotated

from msgspec import Struct, field

from service.web.schemas_fields import (
    BINDS_MAX,
    CMD_COUNT_MAX,
    CPUS_MAX,
    ENV_COUNT_MAX,
    IMAGE_LENGTH_MAX,
    LABELS_MAX,
    PATH_BYTES_MAX,
    PIDS_MAX,
    PORTS_MAX,
    VERSION_MAX,
    WHY_LENGTH_MAX,
    Cmd,
    ContainerPorts,
    Cpus,
    Env,
    GpuCount,
    ImageName,
    MaxRetries,
    Memory,
    Name,
    OnExit,
    OnGpuLost,
    PidsLimit,
    SecretEnv,
    ShmSize,
    Size,
    about,
)


class BindBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Something to mount in a container."""

    src: Annotated[
        str,
        about(
            "With a `/` in front a host path, else a Docker volume with its version.",
            "bar-1",
            "/mnt/data",
            minLength=1,
            maxLength=PATH_BYTES_MAX,
        ),
    ]
    dest: Annotated[
        str,
        about("Absolute path in the container.", "/root/data", maxLength=PATH_BYTES_MAX),
    ]


class DataDiskBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A sized volume made with the container and mounted where data disks go."""

    size: Size


class NfsBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """An NFS export."""

    server: Annotated[str, about("Host name or address.", "10.0.0.7", minLength=1)]
    path: Annotated[str, about("The exported path.", "/export/shared")]
    options: Annotated[str, about("Mount options.", "nfsvers=4.2,ro")] = ""


class FileStorageBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Storage shared between containers: exactly one of `hostPath` and `nfs`."""

    host_path: Annotated[str, about("A directory of the host.", "/srv/shared")] | None = None
    nfs: NfsBody | None = None


class RunBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Run a container: the first version of a replica set."""

    image_name: ImageName
    replica_set_name: Name
    gpu_count: GpuCount = 0
    binds: (
        Annotated[
            list[BindBody],
            about("What to mount; no two at one path.", maxItems=BINDS_MAX),
        ]
        | None
    ) = None
    env: Env | None = None
    secret_env: SecretEnv | None = None
    cmd: Cmd | None = None
    container_ports: ContainerPorts | None = None
    cpus: Cpus | None = None
    memory: Memory | None = None
    shm_size: ShmSize | None = None
    pids_limit: PidsLimit | None = None
    labels: (
        Annotated[
            dict[str, str],
            about(
                "Docker labels of your own; keys that begin with `gpuledger.` are ours.",
                {"team": "vision"},
                maxProperties=LABELS_MAX,
            ),
        ]
        | None
    ) = None
    on_exit: OnExit | None = None
    max_retries: MaxRetries | None = None
    on_gpu_lost: OnGpuLost | None = None
    data_disk: DataDiskBody | None = None
    file_storage: FileStorageBody | None = None


class GpuPatchBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Another number of GPUs."""

    gpu_count: GpuCount


class VolumePatchBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Mount `newBind` where `oldBind` was mounted."""

    old_bind: BindBody
    new_bind: BindBody


class BindAtBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What is to be mounted at `dest`, in place of what is there."""

    src: Annotated[
        str,
        about(
            "As in a run; empty mounts nothing there any more.",
            "bar-1",
            "",
            maxLength=PATH_BYTES_MAX,
        ),
    ]
    dest: Annotated[
        str,
        about("Absolute path in the container.", "/root/data", maxLength=PATH_BYTES_MAX),
    ]


class PatchBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What is to differ in the next version, all of it at once; `{}` re-creates as is."""

    gpu_patch: GpuPatchBody | None = None
    volume_patch: VolumePatchBody | None = None
    image_name: (
        Annotated[
            str,
            about(
                "Another image; the system disk begins anew with it.",
                "ubuntu:24.04",
                minLength=1,
                maxLength=IMAGE_LENGTH_MAX,
            ),
        ]
        | None
    ) = None
    env: (
        Annotated[
            list[str],
            about(
                "K=V sets a variable, a bare K takes it away, the others stay; no K twice.",
                ["LANG=C.UTF-8", "DEBUG"],
                maxItems=ENV_COUNT_MAX,
            ),
        ]
        | None
    ) = None
    secret_env: SecretEnv | None = None
    cmd: (
        Annotated[
            list[str],
            about(
                "The whole command; an empty list is the image's own.",
                ["sleep", "infinity"],
                maxItems=CMD_COUNT_MAX,
            ),
        ]
        | None
    ) = None
    container_ports: (
        Annotated[
            list[str | int],
            about(
                "All ports that it is to have; those it had keep their host ports.",
                ["22", "8080"],
                maxItems=PORTS_MAX,
            ),
        ]
        | None
    ) = None
    binds: (
        Annotated[
            list[BindAtBody],
            about("What to mount where; other mounts stay. No `dest` twice.", maxItems=BINDS_MAX),
        ]
        | None
    ) = None
    cpus: (
        Annotated[
            float,
            about("CPU limit in cores; 0 takes it away.", 1.5, 0, minimum=0, maximum=CPUS_MAX),
        ]
        | None
    ) = None
    memory: (
        Annotated[str, about('Memory limit, at least 6MB; "0" takes it away.', "4GB", "0")] | None
    ) = None
    shm_size: (
        Annotated[str, about('Size of /dev/shm; "0" is Docker\'s default.', "1GB", "0")] | None
    ) = None
    pids_limit: (
        Annotated[
            int,
            about(
                "How many processes it may have; 0 takes the limit away.",
                *(512, 0),
                minimum=0,
                maximum=PIDS_MAX,
            ),
        ]
        | None
    ) = None
    on_exit: OnExit | None = None
    max_retries: MaxRetries | None = None
    on_gpu_lost: OnGpuLost | None = None


class RollbackBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Go back to what a version was; that makes a new version."""

    version: Annotated[int, about("The version to go back to.", 1, minimum=0, maximum=VERSION_MAX)]


class DebugBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Run a copy of a version beside its replica set, to look into it."""

    version: Annotated[int, about("The version to copy.", 3, minimum=0, maximum=VERSION_MAX)]
    copy_name: Name = field(name="as")
    gpu_count: GpuCount = 0
    cmd: (
        Annotated[
            list[str],
            about(
                "In place of the version's own command; an empty list is the image's own.",
                ["sleep", "infinity"],
                maxItems=CMD_COUNT_MAX,
            ),
        ]
        | None
    ) = None


class PinBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The version whose system disk is meant."""

    version: Annotated[
        int, about("A version of the replica set.", 2, minimum=0, maximum=VERSION_MAX)
    ]


class CommitBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Save the system disk as an image."""

    new_image_name: ImageName


class ExecuteBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Run a command in the running container and wait for it."""

    cmd: Cmd
    work_dir: (
        Annotated[
            str,
            about("Absolute path in the container; without it the image's own.", "/root"),
        ]
        | None
    ) = None


class CreateVolumeBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Make a sized volume."""

    name: Name
    size: Size


class ResizeVolumeBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Give a volume another size; the data stays."""

    size: Size


class QuarantineBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Do not lend a GPU."""

    why: Annotated[str, about("For people.", "fan noise", minLength=1, maxLength=WHY_LENGTH_MAX)]
