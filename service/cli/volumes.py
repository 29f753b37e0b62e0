"""Commands for sized volumes: volume create, resize, ls, info, history, rm."""

from typing import Annotated, Any

import typer

from service.cli import show
from service.cli.addresses import path_of
from service.cli.answers import Volumes, read
from service.cli.replica_sets import Detach
from service.cli.session import Session, command, group_options, volume_names

PANEL = "Volumes and resources"

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the volume", autocompletion=volume_names)
]
Size = Annotated[
    str, typer.Argument(metavar="SIZE", help="Such as 20GB (KB, MB, GB, TB; powers of 1024)")
]


def register(app: typer.Typer) -> None:
    """Add the group to the app, its commands in the order that --help shows."""
    group = typer.Typer(name="volume", help="Sized volumes.", no_args_is_help=True)
    group.callback()(group_options)
    command(group, "create")(create)
    command(group, "resize")(resize)
    command(group, "ls", past=True)(listing)
    command(group, "info", past=True)(info)
    command(group, "history", past=True)(history)
    command(group, "rm")(remove)
    app.add_typer(group, rich_help_panel=PANEL)


def create(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A new name: letters, digits and _")],
    size: Size,
    detach: Detach = False,
) -> None:
    """Make a volume."""
    body = {"name": name, "size": size}
    session.change("POST", path_of("volumes"), body, done=_made, detach=detach)


def resize(session: Session, name: Name, size: Size, detach: Detach = False) -> None:
    """Give a volume another size; the data stays."""
    path = path_of("volumes", name, "size")
    session.change("PATCH", path, {"size": size}, done=_made, detach=detach)


def listing(session: Session) -> None:
    """List the volumes."""
    data = session.api.get(path_of("volumes"))
    rows = [
        (row.name, row.volume_name, row.size, session.made(row.create_time))
        for row in read(data, Volumes).volumes
    ]
    session.print(data, show.table(("NAME", "IN DOCKER", "SIZE", session.made_heading), rows))


def info(session: Session, name: Name) -> None:
    """Show a volume."""
    data = session.api.get(path_of("volumes", name))
    found = data["info"]
    pairs = [
        ("version", str(found["version"])),
        ("in Docker", found["opt"]["Name"]),
        ("size", _size_of(found)),
        ("created", show.moment(found["createTime"])),
    ]
    session.print(data, show.details(pairs))


def history(session: Session, name: Name) -> None:
    """List the versions of a volume, newest first."""
    data = session.api.get(path_of("volumes", name, "history"))
    rows = [
        (str(entry["version"]), show.moment(entry["createTime"]), _size_of(entry["status"]))
        for entry in data["history"]
    ]
    session.print(data, show.table(("VERSION", "CREATED", "SIZE"), rows))


def remove(session: Session, name: Name, detach: Detach = False) -> None:
    """Delete a volume and its data."""
    path = path_of("volumes", name)
    session.change("DELETE", path, done=lambda _: f"{name} is deleted", detach=detach)


def _size_of(found: dict[str, Any]) -> str:
    return str(found["opt"]["DriverOpts"].get("size", ""))


def _made(result: dict[str, Any]) -> str:
    return f"{result['name']} has {result['size']}"
