"""What every command that talks to the service has in common.

`command` registers a function on a typer app. The function takes a Session first; the decorator
gives it one, and adds --server, --token, --ca-cert and --json, which may stand before or after
the subcommand.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec

import typer

from service.cli import show
from service.cli.addresses import SERVER_DEFAULT, path_of
from service.cli.answers import Receipt, ReplicaSets, Volumes, read
from service.cli.credentials import token_of, trust
from service.cli.failures import CliFailure, reported
from service.cli.progress import ProgressLine, follow, result_of
from service.cli.show import escaped
from service.cli.surroundings import Surroundings

if TYPE_CHECKING:
    from service.cli.client import Answer, Api

P = ParamSpec("P")

INTERRUPTED_EXIT_CODE = 130

Server = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        help=f"Address of the service (default: {SERVER_DEFAULT}; env GPULEDGER_SERVER)",
        show_default=False,
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="TOKEN",
        help="Who we are. Others on this host see it in the list of processes: rather use env"
        " GPULEDGER_TOKEN or ~/.config/gpuledger/token",
        show_default=False,
    ),
]
CaCert = Annotated[
    str | None,
    typer.Option(
        "--ca-cert",
        metavar="PATH",
        help="Who signs the service's certificate, PEM (env GPULEDGER_CA_CERT)",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer's data as JSON")]
At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="POINT",
        help="As it was then: a seq of the ledger, or an instant such as 2026-01-02T03:04:05Z or"
        " 2026-01-02 (UTC)",
        show_default=False,
    ),
]


class Session:
    """One command's way to the service and to the person who typed it."""

    def __init__(
        self, api: "Api", surroundings: Surroundings, as_json: bool, at: str | None = None
    ) -> None:
        self.at = at
        """The point of the past that was asked for; None is now."""
        self.api = api
        self.surroundings = surroundings
        self.as_json = as_json

    def change(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        done: Callable[[dict[str, Any]], str],
        detach: bool = False,
    ) -> None:
        """Send a command, follow it to its end, and say what came of it.

        `done` makes the line from the result. With `detach` only the operation's id is said.
        """
        answer = self.api.command(method, path, body)
        if answer.accepted and detach:
            data = answer.data or {}
            self.print(data, f"{read(data, Receipt).operation_id}\n")
            return
        result = self.outcome(answer)
        self.print(result, f"{escaped(done(result or {}))}\n")
        if left := (result or {}).get("notCarried"):
            typer.echo(escaped(f"not carried: {'; '.join(left)}"), err=True)

    def outcome(self, answer: "Answer") -> dict[str, Any] | None:
        """The result of a command, once it is there. Raises CliFailure when it failed."""
        if not answer.accepted or answer.data is None:
            return answer.data
        return self.follow(read(answer.data, Receipt).operation_id)

    def follow(self, operation_id: str) -> dict[str, Any] | None:
        """The result of an operation, once it is there. Raises CliFailure when it failed."""
        try:
            with ProgressLine(sys.stderr) as line:
                return result_of(follow(self.api, operation_id, line))
        except KeyboardInterrupt:
            typer.echo(f"the operation goes on: gpuledger op {operation_id}", err=True)
            raise typer.Exit(INTERRUPTED_EXIT_CODE) from None

    @property
    def made_heading(self) -> str:
        """Of the column that `made` fills."""
        return "AGE" if self.at is None else "CREATED"

    def made(self, created: str) -> str:
        """How old something is; of the past, when it was made: its age of today is not of then."""
        if self.at is None:
            return show.age(created, self.surroundings.now_s())
        return show.moment(created)

    def print(self, data: dict[str, Any] | None, text: str) -> None:
        """Print the data for scripts, or the text for people."""
        if self.as_json:
            import json

            text = json.dumps(data, ensure_ascii=False, indent=2) + "\n"
        typer.echo(text, nl=False)


@contextmanager
def opened(ctx: typer.Context) -> Iterator[Session]:
    """A session with the service that the command's options name; failures are reported."""
    with reported(), open_api(ctx) as api:
        session = Session(api, ctx.obj, bool(_option(ctx, "as_json")), _at(ctx))
        try:
            yield session
        except CliFailure as failure:
            if session.as_json and failure.data is not None:
                session.print(failure.data, "")
            raise


def command(
    app: typer.Typer, name: str, *, panel: str | None = None, past: bool = False
) -> Callable[[Callable[Concatenate[Session, P], None]], Callable[Concatenate[Session, P], None]]:
    """Register a function as a subcommand that has a Session; with `past`, one that reads, and
    that can be asked how things were `--at` a point of the past."""

    def register(
        function: Callable[Concatenate[Session, P], None],
    ) -> Callable[Concatenate[Session, P], None]:
        @functools.wraps(function)
        def run(
            ctx: typer.Context,
            server: Server,
            token: Token,
            ca_cert: CaCert,
            as_json: AsJson,
            at: At = None,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> None:
            # The options are read from the contexts: they may stand before the subcommand too.
            with opened(ctx) as session:
                function(session, *args, **kwargs)

        _declare(run, function, past)
        app.command(name, rich_help_panel=panel)(run)
        return function

    return register


def group_options(
    server: Server = None, token: Token = None, ca_cert: CaCert = None, as_json: AsJson = False
) -> None:
    """The callback of a group: the options of its commands may stand before them too."""


def open_api(ctx: typer.Context) -> "Api":
    """The service that the options, else the environment, else the defaults name."""
    # Only who asks a service waits until the client is loaded: a sixth of the start of `serve`.
    from service.cli.client import Api

    surroundings: Surroundings = ctx.obj
    env = surroundings.env
    return Api(
        _option(ctx, "server") or env.get("GPULEDGER_SERVER") or SERVER_DEFAULT,
        surroundings.new_key,
        token_of(_option(ctx, "token"), env),
        lambda: trust(_option(ctx, "ca_cert"), env),
        _at(ctx),
    )


def _option(ctx: typer.Context, name: str) -> Any:
    """What was given for an option, nearest to the command first; None when nothing was."""
    return next(filter(None, (node.params.get(name) for node in _chain(ctx))), None)


def _at(ctx: typer.Context) -> str | None:
    """The point that was asked for. An empty one is sent, and refused: it is not now."""
    given = (node.params.get("at") for node in _chain(ctx))
    return next((at for at in given if at is not None), None)


def replica_set_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """The names that a shell offers to complete; none when there is nobody to ask."""
    data = _asked(ctx, "replicaSet")
    names = [row.name for row in read(data, ReplicaSets).replica_sets] if data else []
    return [name for name in names if name.startswith(incomplete)]


def volume_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """The same for volumes."""
    data = _asked(ctx, "volumes")
    names = [row.name for row in read(data, Volumes).volumes] if data else []
    return [name for name in names if name.startswith(incomplete)]


def _asked(ctx: typer.Context, path: str) -> dict[str, Any] | None:
    try:
        with open_api(ctx) as api:
            return api.get(path_of(path))
    except (CliFailure, typer.BadParameter):
        return None


def _chain(ctx: typer.Context) -> list[Any]:
    """The context and those above it: `gpuledger volume ls` has three."""
    nodes: list[Any] = [ctx]
    while nodes[-1].parent is not None:
        nodes.append(nodes[-1].parent)
    return nodes


def _declare(run: Callable[..., None], function: Callable[..., None], past: bool) -> None:
    """Give `run` the signature that typer reads: ctx for the Session, and those options."""
    _session, *own = inspect.signature(function).parameters.values()
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("ctx", keyword, annotation=typer.Context),
        *(parameter.replace(kind=keyword) for parameter in own),
        inspect.Parameter("server", keyword, default=None, annotation=Server),
        inspect.Parameter("token", keyword, default=None, annotation=Token),
        inspect.Parameter("ca_cert", keyword, default=None, annotation=CaCert),
        inspect.Parameter("as_json", keyword, default=False, annotation=AsJson),
    ]
    if past:
        parameters.append(inspect.Parameter("at", keyword, default=None, annotation=At))
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
