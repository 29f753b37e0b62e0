"""Commands that say what a container is to be: run, and patch, which changes it."""

from typing import Annotated

import typer

from service.cli import arguments
from service.cli.addresses import path_of
from service.cli.replica_sets import PANEL, Detach, Name, new_container
from service.cli.session import Session, command

Cpus = Annotated[
    float | None,
    typer.Option(
        metavar="N",
        help="CPUs, such as 1.5",
        show_default=False,
        callback=arguments.finite,
    ),
]
Memory = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Memory, such as 4GB", show_default=False)
]
ShmSize = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Size of /dev/shm, such as 1GB", show_default=False),
]
Pids = Annotated[
    int | None,
    typer.Option(metavar="N", help="How many processes it may have", show_default=False),
]
OnExit = Annotated[
    str | None,
    typer.Option(
        metavar="none|restart",
        help="When it ends by itself: give GPUs and ports back, or start it again",
        show_default=False,
    ),
]
OnGpuLost = Annotated[
    str | None,
    typer.Option(
        metavar="none|restart",
        help="When it may not use its GPUs any more: nothing, or start it again",
        show_default=False,
    ),
]
MaxRetries = Annotated[
    int | None,
    typer.Option(metavar="N", help="So often in a row; 0: any number", show_default=False),
]
NewName = Annotated[str, typer.Argument(metavar="NAME", help="A new name: letters, digits and _")]
Image = Annotated[str, typer.Option("--image", "-i", metavar="IMAGE", help="Image to run")]
Binds = Annotated[
    list[str] | None,
    typer.Option("--bind", "-b", metavar="SRC:DEST", help="Mount SRC, a host path or a volume"),
]
Envs = Annotated[list[str] | None, typer.Option("--env", "-e", metavar="K=V", help="Environment")]
SecretEnvs = Annotated[
    list[str] | None,
    typer.Option("--secret-env", metavar="K=V", help="The same, shown to admins only"),
]
Ports = Annotated[
    list[str] | None,
    typer.Option(
        "--port", "-p", metavar="PORT", help="A container port, such as 22; gets a host port"
    ),
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", "-l", metavar="K=V", help="A label of your own"),
]
DataDisk = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE", help="Make a data disk of this size, such as 20GB", show_default=False
    ),
]
FileStorage = Annotated[
    str | None,
    typer.Option(
        metavar="PATH", help="Shared storage: /host/path or SERVER:/export", show_default=False
    ),
]

NewGpus = Annotated[
    int | None,
    typer.Option("--gpus", "-g", metavar="N", help="How many GPUs", show_default=False),
]
NewImage = Annotated[
    str | None,
    typer.Option(
        *("--image", "-i"),
        metavar="IMAGE",
        help="Another image; the system disk begins anew with it",
        show_default=False,
    ),
]
Unset = Annotated[
    list[str] | None, typer.Option(metavar="K", help="A variable of --env to take away")
]
Unbind = Annotated[list[str] | None, typer.Option(metavar="DEST", help="Mount nothing at DEST")]
NoPorts = Annotated[bool, typer.Option("--no-ports", help="Have no container ports")]
NoCmd = Annotated[bool, typer.Option("--no-cmd", help="Run what the image says")]
OldBind = Annotated[
    str | None, typer.Option(metavar="SRC:DEST", help="The bind to replace", show_default=False)
]
NewBind = Annotated[
    str | None,
    typer.Option(metavar="SRC:DEST", help="What takes its place", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the app, in the order that --help shows."""
    command(app, "run", panel=PANEL)(run)
    command(app, "patch", panel=PANEL)(patch)


def run(
    session: Session,
    name: NewName,
    image: Image,
    cmd: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- CMD", help="What to run; default: what the image says"),
    ] = None,
    gpus: Annotated[int, typer.Option("--gpus", "-g", metavar="N", help="How many GPUs")] = 0,
    bind: Binds = None,
    env: Envs = None,
    secret_env: SecretEnvs = None,
    port: Ports = None,
    cpus: Cpus = None,
    memory: Memory = None,
    shm_size: ShmSize = None,
    pids: Pids = None,
    on_exit: OnExit = None,
    max_retries: MaxRetries = None,
    on_gpu_lost: OnGpuLost = None,
    label: Labels = None,
    data_disk: DataDisk = None,
    file_storage: FileStorage = None,
    detach: Detach = False,
) -> None:
    """Make a replica set and run it."""
    arguments.pairs(env or [], "--env")
    arguments.pairs(secret_env or [], "--secret-env")
    body = arguments.given(
        replicaSetName=name,
        imageName=image,
        gpuCount=gpus,
        binds=[arguments.bind(text, "--bind") for text in bind or []],
        env=env,
        secretEnv=secret_env,
        cmd=cmd,
        containerPorts=port,
        cpus=cpus,
        memory=memory,
        shmSize=shm_size,
        pidsLimit=pids,
        onExit=on_exit,
        maxRetries=max_retries,
        onGpuLost=on_gpu_lost,
        labels=arguments.pairs(label or [], "--label"),
        dataDisk={"size": data_disk} if data_disk is not None else None,
        fileStorage=(
            arguments.file_storage(file_storage, "--file-storage")
            if file_storage is not None
            else None
        ),
    )
    session.change(
        "POST",
        path_of("replicaSet"),
        body,
        done=lambda result: f"{result['name']} is running",
        detach=detach,
    )


def patch(
    session: Session,
    name: Name,
    cmd: Annotated[
        list[str] | None, typer.Argument(metavar="-- CMD", help="Another command to run")
    ] = None,
    no_cmd: NoCmd = False,
    gpus: NewGpus = None,
    image: NewImage = None,
    env: Envs = None,
    secret_env: SecretEnvs = None,
    unset: Unset = None,
    port: Ports = None,
    no_ports: NoPorts = False,
    bind: Binds = None,
    unbind: Unbind = None,
    cpus: Cpus = None,
    memory: Memory = None,
    shm_size: ShmSize = None,
    pids: Pids = None,
    on_exit: OnExit = None,
    max_retries: MaxRetries = None,
    on_gpu_lost: OnGpuLost = None,
    old_bind: OldBind = None,
    new_bind: NewBind = None,
    detach: Detach = False,
) -> None:
    """Change what is given and nothing else; with nothing given, re-create as is.

    A limit (--cpus, --memory, --shm-size, --pids) of 0 is none. Give every
    --port that it is to have. --bind takes the place of what is at DEST.
    """
    arguments.pairs(secret_env or [], "--secret-env")
    body = arguments.given(
        gpuPatch={"gpuCount": gpus} if gpus is not None else None,
        volumePatch=_volume_patch(old_bind, new_bind),
        imageName=image,
        env=_env(env or [], unset or []),
        secretEnv=secret_env,
        binds=[
            *(arguments.bind(text, "--bind") for text in bind or []),
            *({"src": "", "dest": target} for target in unbind or []),
        ],
        cpus=cpus,
        memory=memory,
        shmSize=shm_size,
        pidsLimit=pids,
        onExit=on_exit,
        maxRetries=max_retries,
        onGpuLost=on_gpu_lost,
    )
    # An empty list says something here: no ports, and the image's own command.
    if (ports := _all_or_none(port, no_ports, "--port, --no-ports")) is not None:
        body["containerPorts"] = ports
    if (command_ := _all_or_none(cmd, no_cmd, "CMD, --no-cmd")) is not None:
        body["cmd"] = command_
    session.change("PATCH", path_of("replicaSet", name), body, done=new_container, detach=detach)


def _volume_patch(old: str | None, new: str | None) -> dict[str, object] | None:
    if (old is None) != (new is None):
        raise typer.BadParameter("give both or none", param_hint="--old-bind, --new-bind")
    if old is None or new is None:
        return None
    return {
        "oldBind": arguments.bind(old, "--old-bind"),
        "newBind": arguments.bind(new, "--new-bind"),
    }


def _env(set_: list[str], unset: list[str]) -> list[str]:
    """What to set and what to take away: only a "=" tells the one from the other."""
    arguments.pairs(set_, "--env")
    for name in unset:
        if "=" in name:
            raise typer.BadParameter(
                f"{name!r} is no name; to set it use --env", param_hint="--unset"
            )
    return [*set_, *unset]


def _all_or_none(given: list[str] | None, none: bool, flags: str) -> list[str] | None:
    if given and none:
        raise typer.BadParameter("give one or the other", param_hint=flags)
    return [] if none else given or None
