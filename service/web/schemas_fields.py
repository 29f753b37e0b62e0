"""The fields that several request bodies have, and the bounds of all.

What a value must be like beyond its type is checked in `schemas` and `schemas_checks`, because
each refusal has its own code; the bounds shown here are the same constants.
"""

from typing import Annotated, Any

from msgspec import Meta

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
WHY_LENGTH_MAX = 200


def about(description: str, *examples: Any, **schema: Any) -> Meta:
    """What the OpenAPI document says of a field."""
    return Meta(description=description, examples=list(examples), extra_json_schema=schema)


Name = Annotated[
    str,
    about(
        "Letters, digits and `_`; no dash: `<name>-<version>` is the name that Docker sees.",
        "foo",
        minLength=1,
        maxLength=NAME_LENGTH_MAX,
        pattern="^[A-Za-z0-9][A-Za-z0-9_]*$",
    ),
]
ImageName = Annotated[
    str,
    about(
        "An image reference, with or without registry, tag and digest.",
        "ubuntu:24.04",
        minLength=1,
        maxLength=IMAGE_LENGTH_MAX,
    ),
]
Size = Annotated[
    str, about('A size such as "20GB"; KB, MB, GB and TB are powers of 1024.', "20GB", "1.5TB")
]
GpuCount = Annotated[
    int, about("How many GPUs; 0 is cardless.", 2, minimum=0, maximum=GPU_COUNT_MAX)
]
Cpus = Annotated[float, about("CPU limit in cores.", 1.5, minimum=CPUS_MIN, maximum=CPUS_MAX)]
Memory = Annotated[str, about("Memory limit, at least 6MB; units as in `size`.", "4GB")]
ShmSize = Annotated[str, about("Size of /dev/shm; units as in `size`.", "1GB")]
PidsLimit = Annotated[
    int,
    about(
        "How many processes it may have; without it any number.", 512, minimum=1, maximum=PIDS_MAX
    ),
]
OnExit = Annotated[
    values.OnExit, about("When it ends by itself: give GPUs and ports back, or start it again.")
]
OnGpuLost = Annotated[
    values.OnGpuLost, about("When it may not use its GPUs any more: nothing, or start it again.")
]
MaxRetries = Annotated[
    int, about("So often in a row it is; 0: any number.", 3, 0, minimum=0, maximum=RETRIES_MAX)
]
Env = Annotated[
    list[str],
    about(
        f"Environment, K=V an entry; all together at most {ENV_BYTES_MAX} bytes.",
        ["LANG=C.UTF-8"],
        maxItems=ENV_COUNT_MAX,
    ),
]
SecretEnv = Annotated[
    list[str],
    about(
        "More of the environment, K=V an entry, whose values are shown to admins only.",
        ["LICENSE=4711"],
        maxItems=ENV_COUNT_MAX,
    ),
]
ContainerPorts = Annotated[
    list[str | int],
    about(
        'Ports of the container, each gets a host port: "22" (TCP), "53/udp", or a number.',
        ["22", "8080"],
        maxItems=PORTS_MAX,
    ),
]
Cmd = Annotated[
    list[str],
    about(
        f"The command, one argument an entry; all together at most {CMD_BYTES_MAX} bytes.",
        ["sleep", "infinity"],
        maxItems=CMD_COUNT_MAX,
    ),
]
