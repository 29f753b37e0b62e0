"""Commands that change a replica set, and `exec`, which runs something in one."""

from typing import Annotated, Any

import typer

from service.cli import arguments
from service.cli.client import path_of
from service.cli.session import Session, command, replica_set_names

PANEL = "Replica sets"

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="Name of the replica set", autocompletion=replica_set_names
    ),
]
Detach = Annotated[
    bool,
    typer.Option("--detach", "-d", help="Print the operation's id at once; see it with 'op ID'"),
]
Cpus = Annotated[
    float | None, typer.Option(metavar="N", help="CPUs, such as 1.5", show_default=False)
]
Memory = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Memory, such as 4GB", show_default=False)
]
ShmSize = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Size of /dev/shm, such as 1GB", show_default=False),
]
NewName = Annotated[str, typer.Argument(metavar="NAME", help="A new name: letters, digits and _")]
Image = Annotated[str, typer.Option("--image", "-i", metavar="IMAGE", help="Image to run")]
Binds = Annotated[
    list[str] | None,
    typer.Option("--bind", "-b", metavar="SRC:DEST", help="Mount SRC, a host path or a volume"),
]
Envs = Annotated[list[str] | None, typer.Option("--env", "-e", metavar="K=V", help="Environment")]
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


def register(app: typer.Typer) -> None:
    """Add the commands to the app, in the order that --help shows."""
    command(app, "run", panel=PANEL)(run)
    command(app, "patch", panel=PANEL)(patch)
    command(app, "exec", panel=PANEL)(execute)
    command(app, "commit", panel=PANEL)(commit)
    command(app, "rollback", panel=PANEL)(rollback)
    command(app, "stop", panel=PANEL)(stop)
    command(app, "restart", panel=PANEL)(restart)
    command(app, "pause", panel=PANEL)(pause)
    command(app, "continue", panel=PANEL)(resume)
    command(app, "rm", panel=PANEL)(remove)


def run(
    session: Session,
    name: NewName,
    image: Image,
    cmd: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- CMD...]", help="What to run; default: what the image says"),
    ] = None,
    gpus: Annotated[int, typer.Option("--gpus", "-g", metavar="N", help="How many GPUs")] = 0,
    bind: Binds = None,
    env: Envs = None,
    port: Ports = None,
    cpus: Cpus = None,
    memory: Memory = None,
    shm_size: ShmSize = None,
    label: Labels = None,
    data_disk: DataDisk = None,
    file_storage: FileStorage = None,
    detach: Detach = False,
) -> None:
    """Make a replica set and run it."""
    body = arguments.given(
        replicaSetName=name,
        imageName=image,
        gpuCount=gpus,
        binds=[arguments.bind(text, "--bind") for text in bind or []],
        env=env,
        cmd=cmd,
        containerPorts=port,
        cpus=cpus,
        memory=memory,
        shmSize=shm_size,
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
    gpus: Annotated[
        int | None,
        typer.Option("--gpus", "-g", metavar="N", help="How many GPUs", show_default=False),
    ] = None,
    cpus: Cpus = None,
    memory: Memory = None,
    shm_size: ShmSize = None,
    old_bind: Annotated[
        str | None, typer.Option(metavar="SRC:DEST", help="The bind to replace", show_default=False)
    ] = None,
    new_bind: Annotated[
        str | None,
        typer.Option(metavar="SRC:DEST", help="What takes its place", show_default=False),
    ] = None,
    detach: Detach = False,
) -> None:
    """Change what is given and nothing else; with nothing given, re-create as is."""
    if (old_bind is None) != (new_bind is None):
        raise typer.BadParameter("give both or none", param_hint="--old-bind, --new-bind")
    body = arguments.given(
        gpuPatch={"gpuCount": gpus} if gpus is not None else None,
        volumePatch=(
            {
                "oldBind": arguments.bind(old_bind, "--old-bind"),
                "newBind": arguments.bind(new_bind, "--new-bind"),
            }
            if old_bind is not None and new_bind is not None
            else None
        ),
        cpus=cpus,
        memory=memory,
        shmSize=shm_size,
    )
    session.change("PATCH", path_of("replicaSet", name), body, done=_new_container, detach=detach)


def execute(
    session: Session,
    name: Name,
    cmd: Annotated[list[str], typer.Argument(metavar="-- CMD...", help="What to run")],
    workdir: Annotated[
        str, typer.Option("--workdir", "-w", metavar="DIR", help="Where to run it")
    ] = "",
) -> None:
    """Run a command in the running container; ends with the command's exit code."""
    body = arguments.given(cmd=cmd, workDir=workdir or None)
    # Waits in the request, not by asking: the ledger keeps no output, only this answer has it.
    answer = session.api.command("POST", path_of("replicaSet", name, "execute"), body, wait=True)
    result = session.outcome(answer) or {}
    if session.as_json:
        session.print(result, "")
    else:
        typer.echo(result.get("stdout") or "", nl=False)
        typer.echo(result.get("stderr") or "", nl=False, err=True)
    if answer.accepted:
        typer.echo("it took longer than the service waits; the output was not kept", err=True)
    elif answer.message != "success":
        # What the service adds: that the output was cut off, or is no longer kept.
        typer.echo(answer.message, err=True)
    raise typer.Exit(int(result.get("exitCode") or 0))


def commit(
    session: Session,
    name: Name,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Name of the image to make")],
    detach: Detach = False,
) -> None:
    """Save the system disk as an image."""
    session.change(
        "POST",
        path_of("replicaSet", name, "commit"),
        {"newImageName": image},
        done=lambda result: f"saved as {result.get('imageName', image)}",
        detach=detach,
    )


def rollback(
    session: Session,
    name: Name,
    version: Annotated[
        int, typer.Argument(metavar="VERSION", help="Version to go back to; see 'history'")
    ],
    detach: Detach = False,
) -> None:
    """Go back to what a version was; this makes a new version."""
    session.change(
        "PATCH",
        path_of("replicaSet", name, "rollback"),
        {"version": version},
        done=_new_container,
        detach=detach,
    )


def stop(session: Session, name: Name, detach: Detach = False) -> None:
    """Stop it and give its GPUs and ports back."""
    _act(session, name, "stop", detach, done=lambda _: f"{name} is stopped")


def restart(session: Session, name: Name, detach: Detach = False) -> None:
    """Apply for GPUs and ports again and start a new version."""
    _act(session, name, "restart", detach, done=_new_container)


def pause(session: Session, name: Name, detach: Detach = False) -> None:
    """Stop the container but keep its GPUs and ports."""
    _act(session, name, "pause", detach, done=lambda _: f"{name} is paused")


def resume(session: Session, name: Name, detach: Detach = False) -> None:
    """Start the paused container again."""
    _act(session, name, "continue", detach, done=lambda _: f"{name} is running")


def remove(session: Session, name: Name, detach: Detach = False) -> None:
    """Delete it: the container, its system disks, its GPUs and ports."""
    path = path_of("replicaSet", name)
    session.change("DELETE", path, done=lambda _: f"{name} is deleted", detach=detach)


def _act(session: Session, name: str, verb: str, detach: bool, *, done: Any) -> None:
    session.change("PATCH", path_of("replicaSet", name, verb), done=done, detach=detach)


def _new_container(result: dict[str, Any]) -> str:
    return f"{result['containerName']} is running"
