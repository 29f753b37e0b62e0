"""Commands that change a replica set, and `exec`, which runs something in one."""

from typing import Annotated, Any

import typer

from service.cli import arguments
from service.cli.addresses import path_of
from service.cli.session import Session, command, replica_set_names

PANEL = "Replica sets"

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="Name of the replica set", autocompletion=replica_set_names
    ),
]
Version = Annotated[
    int, typer.Argument(metavar="VERSION", help="One of its versions; see 'history'")
]
Detach = Annotated[
    bool,
    typer.Option("--detach", "-d", help="Print the operation's id at once; see it with 'op ID'"),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the app, in the order that --help shows."""
    command(app, "exec", panel=PANEL)(execute)
    command(app, "commit", panel=PANEL)(commit)
    command(app, "rollback", panel=PANEL)(rollback)
    command(app, "pin", panel=PANEL)(pin)
    command(app, "unpin", panel=PANEL)(unpin)
    command(app, "stop", panel=PANEL)(stop)
    command(app, "restart", panel=PANEL)(restart)
    command(app, "pause", panel=PANEL)(pause)
    command(app, "continue", panel=PANEL)(resume)
    command(app, "rm", panel=PANEL)(remove)


def execute(
    session: Session,
    name: Name,
    cmd: Annotated[list[str], typer.Argument(metavar="-- CMD", help="What to run")],
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
    version: Version,
    detach: Detach = False,
) -> None:
    """Go back to what a version was; this makes a new version."""
    session.change(
        "PATCH",
        path_of("replicaSet", name, "rollback"),
        {"version": version},
        done=new_container,
        detach=detach,
    )


def pin(session: Session, name: Name, version: Version) -> None:
    """Keep the system disk of a version until it is unpinned."""
    _act_on_version(session, name, "pin", version, f"{name}-{version} is pinned")


def unpin(session: Session, name: Name, version: Version) -> None:
    """Keep the system disk of a version as long as any other."""
    _act_on_version(session, name, "unpin", version, f"{name}-{version} is pinned no more")


def stop(session: Session, name: Name, detach: Detach = False) -> None:
    """Stop it and give its GPUs and ports back."""
    _act(session, name, "stop", detach, done=lambda _: f"{name} is stopped")


def restart(session: Session, name: Name, detach: Detach = False) -> None:
    """Apply for GPUs and ports again and start a new version."""
    _act(session, name, "restart", detach, done=new_container)


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


def _act_on_version(session: Session, name: str, verb: str, version: int, done: str) -> None:
    path = path_of("replicaSet", name, verb)
    session.change("PATCH", path, {"version": version}, done=lambda _: done)


def new_container(result: dict[str, Any]) -> str:
    """What to say of a version that took the place of the one before."""
    return f"{result['containerName']} is running"
