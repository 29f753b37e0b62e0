"""The bodies of all requests, as clients send them. The OpenAPI document is made from these types.

A field that may be left out may also be null: clients written in Go send null for an empty list.
What a value must be like beyond its type is checked in `schemas` and `schemas_checks`, because
each refusal has its own code; the bounds shown here are the same constants.
"""

from typing import Annotated, Any

from msgspec import Meta, Struct

from events import values
from events.values import GPU_COUNT_MAX, NAME_LENGTH_MAX

IMAGE_LENGTH_MAX = 512
PATH_BYTES_MAX = 512
BINDS_MAX = 64
ENV_COUNT_MAX = 512
ENV_BYTES_MAX = 64 * 1024
CMD_COUNT_MAX = 512
CMD_BYTES_MAX = 64 * 1024
PORTS_MAX = 128
LABELS_MAX = 64
LABEL_KEY_BYTES_MAX = 128
LABEL_VALUE_BYTES_MAX = 512
CPUS_MIN = 0.01
CPUS_MAX = 4096
PIDS_MAX = 4_194_304
"""The largest number of processes that Linux can be told to allow (PID_MAX_LIMIT)."""
VOLUME_BYTES_MIN = 16 << 20
MEMORY_BYTES_MIN = 6 << 20
RETRIES_MAX = 1000
VERSION_MAX = 999_999_999


def _about(description: str, *examples: Any, **schema: Any) -> Meta:
    return Meta(description=description, examples=list(examples), extra_json_schema=schema)


Name = Annotated[
    str,
    _about(
        "Letters, digits and `_`; no dash: `<name>-<version>` is the name that Docker sees.",
        "foo",
        minLength=1,
        maxLength=NAME_LENGTH_MAX,
        pattern="^[A-Za-z0-9][A-Za-z0-9_]*$",
    ),
]
ImageName = Annotated[
    str,
    _about(
        "An image reference, with or without registry, tag and digest.",
        "ubuntu:24.04",
        minLength=1,
        maxLength=IMAGE_LENGTH_MAX,
    ),
]
Size = Annotated[
    str, _about('A size such as "20GB"; KB, MB, GB and TB are powers of 1024.', "20GB", "1.5TB")
]
GpuCount = Annotated[
    int, _about("How many GPUs; 0 is cardless.", 2, minimum=0, maximum=GPU_COUNT_MAX)
]
Cpus = Annotated[float, _about("CPU limit in cores.", 1.5, minimum=CPUS_MIN, maximum=CPUS_MAX)]
Memory = Annotated[str, _about("Memory limit, at least 6MB; units as in `size`.", "4GB")]
ShmSize = Annotated[str, _about("Size of /dev/shm; units as in `size`.", "1GB")]
PidsLimit = Annotated[
    int,
    _about(
        "How many processes it may have; without it any number.", 512, minimum=1, maximum=PIDS_MAX
    ),
]
OnExit = Annotated[
    values.OnExit, _about("When it ends by itself: give GPUs and ports back, or start it again.")
]
OnGpuLost = Annotated[
    values.OnGpuLost, _about("When it may not use its GPUs any more: nothing, or start it again.")
]
MaxRetries = Annotated[
    int, _about("So often in a row it is; 0: any number.", 3, 0, minimum=0, maximum=RETRIES_MAX)
]
Env = Annotated[
    list[str],
    _about(
        f"Environment, K=V an entry; all together at most {ENV_BYTES_MAX} bytes.",
        ["LANG=C.UTF-8"],
        maxItems=ENV_COUNT_MAX,
    ),
]
ContainerPorts = Annotated[
    list[str | int],
    _about(
        'Ports of the container, each gets a host port: "22" (TCP), "53/udp", or a number.',
        ["22", "8080"],
        maxItems=PORTS_MAX,
    ),
]
Cmd = Annotated[
    list[str],
    _about(
        f"The command, one argument an entry; all together at most {CMD_BYTES_MAX} bytes.",
        ["sleep", "infinity"],
        maxItems=CMD_COUNT_MAX,
    ),
]


class BindBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Something to mount in a container."""

    src: Annotated[
        str,
        _about(
            "With a `/` in front a host path, else a Docker volume with its version.",
            "bar-1",
            "/mnt/data",
            minLength=1,
            maxLength=PATH_BYTES_MAX,
        ),
    ]
    dest: Annotated[
        str,
        _about("Absolute path in the container.", "/root/data", maxLength=PATH_BYTES_MAX),
    ]


class DataDiskBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A sized volume made with the container and mounted where data disks go."""

    size: Size


class NfsBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """An NFS export."""

    server: Annotated[str, _about("Host name or address.", "10.0.0.7", minLength=1)]
    path: Annotated[str, _about("The exported path.", "/export/shared")]
    options: Annotated[str, _about("Mount options.", "nfsvers=4.2,ro")] = ""


class FileStorageBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Storage shared between containers: exactly one of `hostPath` and `nfs`."""

    host_path: Annotated[str, _about("A directory of the host.", "/srv/shared")] | None = None
    nfs: NfsBody | None = None


class RunBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Run a container: the first version of a replica set."""

    image_name: ImageName
    replica_set_name: Name
    gpu_count: GpuCount = 0
    binds: (
        Annotated[
            list[BindBody],
            _about("What to mount; no two at one path.", maxItems=BINDS_MAX),
        ]
        | None
    ) = None
    env: Env | None = None
    cmd: Cmd | None = None
    container_ports: ContainerPorts | None = None
    cpus: Cpus | None = None
    memory: Memory | None = None
    shm_size: ShmSize | None = None
    pids_limit: PidsLimit | None = None
    labels: (
        Annotated[
            dict[str, str],
            _about(
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
        _about(
            "As in a run; empty mounts nothing there any more.",
            "bar-1",
            "",
            maxLength=PATH_BYTES_MAX,
        ),
    ]
    dest: Annotated[
        str,
        _about("Absolute path in the container.", "/root/data", maxLength=PATH_BYTES_MAX),
    ]


class PatchBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What is to differ in the next version, all of it at once; `{}` re-creates as is."""

    gpu_patch: GpuPatchBody | None = None
    volume_patch: VolumePatchBody | None = None
    image_name: (
        Annotated[
            str,
            _about(
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
            _about(
                "K=V sets a variable, a bare K takes it away, the others stay; no K twice.",
                ["LANG=C.UTF-8", "DEBUG"],
                maxItems=ENV_COUNT_MAX,
            ),
        ]
        | None
    ) = None
    cmd: (
        Annotated[
            list[str],
            _about(
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
            _about(
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
            _about("What to mount where; other mounts stay. No `dest` twice.", maxItems=BINDS_MAX),
        ]
        | None
    ) = None
    cpus: (
        Annotated[
            float,
            _about("CPU limit in cores; 0 takes it away.", 1.5, 0, minimum=0, maximum=CPUS_MAX),
        ]
        | None
    ) = None
    memory: (
        Annotated[str, _about('Memory limit, at least 6MB; "0" takes it away.', "4GB", "0")] | None
    ) = None
    shm_size: (
        Annotated[str, _about('Size of /dev/shm; "0" is Docker\'s default.', "1GB", "0")] | None
    ) = None
    pids_limit: (
        Annotated[
            int,
            _about(
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

    version: Annotated[int, _about("The version to go back to.", 1, minimum=0, maximum=VERSION_MAX)]


class PinBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The version whose system disk is meant."""

    version: Annotated[
        int, _about("A version of the replica set.", 2, minimum=0, maximum=VERSION_MAX)
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
            _about("Absolute path in the container; without it the image's own.", "/root"),
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
