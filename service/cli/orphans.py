"""Commands for orphans: what is there in the service's name and in no record."""

from typing import Annotated

import typer
from msgspec import Struct

from events.values import show_size
from service.cli import show
from service.cli.addresses import path_of
from service.cli.answers import read
from service.cli.failures import NotFound
from service.cli.serve import PANEL
from service.cli.session import AsJson, CaCert, Server, Session, Token, command, opened

NO_ORPHANS = "no orphans"


class Orphan(Struct, frozen=True, rename="camel"):
    """One in the list."""

    id: str
    kind: str
    name: str
    why: str
    size_bytes: int | None = None
    since_time: str = ""
    removal_time: str | None = None

    @property
    def title(self) -> str:
        """Kind and name, for people."""
        return f"{self.kind.replace('_', ' ')} {self.name}"


class Unseen(Struct, frozen=True):
    """A kind that could not be looked at."""

    kind: str
    why: str


class Orphans(Struct, frozen=True):
    """GET /orphans."""

    orphans: tuple[Orphan, ...]
    unseen: tuple[Unseen, ...] = ()


def register(app: typer.Typer) -> None:
    """Add the group to the app; without a subcommand it lists."""
    group = typer.Typer(name="orphans", help="List what is ours and in no record; remove it.")
    group.callback(invoke_without_command=True)(_list_or_more)
    command(group, "remove")(remove)
    app.add_typer(group, rich_help_panel=PANEL)


def _list_or_more(
    ctx: typer.Context,
    server: Server = None,
    token: Token = None,
    ca_cert: CaCert = None,
    as_json: AsJson = False,
) -> None:
    """List what is there in the service's name and in no record, and when it will be removed."""
    if ctx.invoked_subcommand is None:
        with opened(ctx) as session:
            listing(session)


def listing(session: Session) -> None:
    """List what is there in the service's name and in no record."""
    data = session.api.get(path_of("orphans"))
    found = read(data, Orphans)
    rows = [
        (
            orphan.kind.replace("_", " "),
            orphan.name,
            "" if orphan.size_bytes is None else show_size(orphan.size_bytes),
            show.moment(orphan.since_time),
            show.moment(orphan.removal_time) if orphan.removal_time else "never",
        )
        for orphan in found.orphans
    ]
    headings = ("KIND", "NAME", "SIZE", "SINCE", "REMOVED AFTER")
    text = show.table(headings, rows, whole=("NAME",)) if rows else f"{NO_ORPHANS}\n"
    unseen = (f"{one.kind}: could not be looked at: {one.why}" for one in found.unseen)
    text += "".join(f"{show.escaped(line)}\n" for line in unseen)
    session.print(data, text)


def remove(
    session: Session,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Names or ids as listed; none means all"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed")
    ] = False,
) -> None:
    """Remove orphans now, with all that is in them."""
    found = _named(session, names or [])
    done: list[str] = []
    for orphan in found:
        if not dry_run:
            session.outcome(session.api.command("DELETE", path_of("orphans", orphan.id), None))
        done.append(show.escaped(f"{orphan.title} {'would be' if dry_run else 'is'} removed"))
        if not session.as_json:
            typer.echo(done[-1])
    ids = [orphan.id for orphan in found]
    outcome = {"wouldBeRemoved": ids} if dry_run else {"removed": ids}
    session.print(outcome, "" if done else f"{NO_ORPHANS}\n")


def _named(session: Session, names: list[str]) -> list[Orphan]:
    """The orphans of these names, in the order of their removal. Raises NotFound."""
    found = read(session.api.get(path_of("orphans")), Orphans).orphans
    for name in names:
        if not any(name in (orphan.id, orphan.name) for orphan in found):
            raise NotFound(
                f"there is no orphan {name} at {session.api.server}; see: gpuledger orphans"
            )
    return [one for one in found if not names or one.id in names or one.name in names]
