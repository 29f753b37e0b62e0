"""The command that runs a copy of a version beside its replica set: debug."""

from typing import Annotated, Any

import typer

from events.values import split_at_version
from service.cli import arguments
from service.cli.addresses import path_of
from service.cli.replica_sets import PANEL, Detach
from service.cli.session import Session, command, replica_set_names


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    command(app, "debug", panel=PANEL)(debug)


def debug(
    session: Session,
    version: Annotated[
        str,
        typer.Argument(
            metavar="NAME@VERSION",
            help="The version to look into, such as foo@3; see 'history'",
            autocompletion=replica_set_names,
        ),
    ],
    copy_name: Annotated[
        str, typer.Option("--as", metavar="NAME", help="A new name, for the copy")
    ],
    cmd: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="-- CMD",
            help="What to run in place of the version's own command, such as sleep infinity",
        ),
    ] = None,
    gpus: Annotated[int, typer.Option("--gpus", "-g", metavar="N", help="How many GPUs")] = 0,
    detach: Detach = False,
) -> None:
    """Run a copy of a version, with its system disk, as a replica set of its own.

    It has no ports, cannot write to what it mounts, and is not started again when it ends.
    'rm' leaves nothing of it.
    """
    named = split_at_version(version)
    if named is None:
        raise typer.BadParameter(f"{version!r} names no version; write which one, such as foo@3")
    name, number = named
    body = {"version": number, "as": copy_name, **arguments.given(gpuCount=gpus or None, cmd=cmd)}
    session.change(
        "POST", path_of("replicaSet", name, "debug"), body, done=_running, detach=detach
    )


def _running(result: dict[str, Any]) -> str:
    return f"{result['name']} is running, a debug copy of {result['debugOf']}"
