"""The command that shows what is other in one version than in another: diff."""

import re
from collections.abc import Iterator
from typing import Annotated

import typer
from msgspec import Struct

from events.values import show_size
from service.cli import show
from service.cli.addresses import path_of
from service.cli.answers import Diff, Files, read
from service.cli.points import is_point, show_changes
from service.cli.replica_sets import PANEL
from service.cli.session import Session, command, replica_set_names

LINES_MAX = 200
"""So many files are shown, unless all are asked for."""

_LETTERS = {"added": "A", "changed": "C", "deleted": "D"}
_VERSION = re.compile(r"[0-9]{1,9}")


class _Named(Struct, frozen=True):
    """A version of a replica set as people write it; no version is the current one."""

    name: str
    version: str


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    command(app, "diff", panel=PANEL, past=True)(diff)


def diff(
    session: Session,
    old: Annotated[
        str,
        typer.Argument(
            metavar="NAME@VERSION|POINT",
            help="What to compare with: a version, or a point of the ledger (a seq or an instant)",
            autocompletion=replica_set_names,
        ),
    ],
    new: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME@VERSION|POINT",
            help="What to compare; default: the current version, or now",
            show_default=False,
        ),
    ] = None,
    no_files: Annotated[
        bool, typer.Option("--no-files", help="Compare the specs, not the system disks")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help=f"Show all files, not the first {LINES_MAX}")
    ] = False,
) -> None:
    """Show what is other in a version than in an older one: its spec, and the files on its disk.

    A file is added (A), changed (C) or deleted (D). Of two points of the ledger: what became
    other of replica sets, volumes, GPUs and host ports.
    """
    if is_point(old):
        _between(session, old, new)
        return
    if session.at is not None and not no_files:
        raise typer.BadParameter("files are compared as they are now: give --no-files with --at")
    before = _named(old, "the first")
    after = _Named(before.name, "") if new is None else _named(new, "the second")
    if not before.version:
        raise typer.BadParameter(
            f"{old!r} names no version; write which one to compare with, such as {before.name}@2"
        )
    if after.name != before.name:
        raise typer.BadParameter(
            f"{before.name} and {after.name} are two replica sets; only versions of one can be"
            " compared"
        )
    query = {"from": before.version}
    if after.version:
        query["to"] = after.version
    if no_files:
        query["files"] = "0"
    data = session.api.get(path_of("replicaSet", before.name, "diff"), patient=True, **query)
    session.print(data, _described(read(data, Diff), None if everything else LINES_MAX))


def _between(session: Session, old: str, new: str | None) -> None:
    if session.at is not None:
        raise typer.BadParameter("two points say when they are: leave --at out")
    if new is not None and not is_point(new):
        raise typer.BadParameter(
            f"{old} is a point of the ledger, and {new!r} is none; write a seq or an instant, such"
            " as 2026-01-02T03:04:05Z"
        )
    show_changes(session, old, new)


def _named(text: str, place: str) -> _Named:
    name, at, version = text.partition("@")
    if not name or (at and not _VERSION.fullmatch(version)):
        raise typer.BadParameter(f"{place} is {text!r}; write it as NAME@VERSION, such as foo@2")
    return _Named(name, version)


def _described(found: Diff, lines_max: int | None) -> str:
    """The spec's changes, the files, and how many they are in all."""
    text = ""
    if found.spec:
        text = show.details(
            (change.field, f"{change.old or '(none)'} → {change.new or '(none)'}")
            for change in found.spec
        )
    else:
        text = "the specs are the same\n"
    if found.files is not None:
        text += "".join(f"{line}\n" for line in _files(found.files, lines_max))
    return text


def _files(files: Files, lines_max: int | None) -> Iterator[str]:
    for file in files.listed[:lines_max]:
        size = "" if file.kind == "deleted" else f"  {show_size(file.size_bytes)}"
        yield f"{_LETTERS[file.kind]} {show.escaped(file.path)}{size}"
    count = files.added + files.changed + files.deleted
    if not count:
        yield "the files are the same"
        return
    summary = f"{files.added} added, {files.changed} changed, {files.deleted} deleted"
    shown = min(len(files.listed), lines_max or len(files.listed))
    if shown < count:
        more = "; --all shows more" if shown < len(files.listed) else ""
        summary = f"{summary}; the first {shown} are shown{more}"
    yield summary
