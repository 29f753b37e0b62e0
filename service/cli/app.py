"""The app: every command of every group, and the options that stand before them."""

from typing import Annotated

import typer

from service.cli import (
    audit,
    backup,
    billing,
    debugging,
    differences,
    events,
    explain,
    gpus,
    maintain,
    orphans,
    replay,
    replica_sets,
    resources,
    revisions,
    serve,
    specs,
    tokens,
    volumes,
    webhooks,
)
from service.cli.failures import EXIT_CODES_HELP
from service.cli.session import AsJson, CaCert, Server, Token


def build_app() -> typer.Typer:
    """The whole command line. Run it with `app(obj=Surroundings(...))`."""
    app = typer.Typer(
        name="gpuledger",
        no_args_is_help=True,
        epilog=EXIT_CODES_HELP,
        context_settings={"help_option_names": ["-h", "--help"]},
        # A traceback of ours is for a bug report: whole, and without the values in it.
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    specs.register(app)
    replica_sets.register(app)
    revisions.register(app)
    differences.register(app)
    debugging.register(app)
    explain.register(app)
    volumes.register(app)
    gpus.register(app)
    resources.register(app)
    billing.register(app)
    serve.register(app)
    tokens.register(app)
    maintain.register(app)
    orphans.register(app)
    events.register(app)
    webhooks.register(app)
    backup.register(app)
    audit.register(app)
    replay.register(app)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"gpuledger {version('gpuledger')}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version",
        is_eager=True,
        callback=_print_version,
        help="Print the version of this command, and no more; 'version' asks the service too",
    ),
]


def _options(
    server: Server = None,
    token: Token = None,
    ca_cert: CaCert = None,
    as_json: AsJson = False,
    version: Version = False,
) -> None:
    """GPU containers from an append-only ledger: run, patch, roll back, replay."""
