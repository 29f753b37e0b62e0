"""`gpuledger rebuild` and `gpuledger check`: the read store made anew, and everything compared.

Both read the ledger itself. Beside a running service only `check` may: `rebuild` is refused.
"""

import json
from typing import Annotated, Any

import typer

from service.cli.failures import reported
from service.cli.serve import (
    PANEL,
    DataDir,
    Docker,
    LogLevel,
    Nats,
    NatsCredentials,
    Node,
    settings_of,
)
from service.cli.show import escaped, plural

AsJson = Annotated[bool, typer.Option("--json", help="Print the outcome as JSON")]


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command("rebuild", rich_help_panel=PANEL)(rebuild)
    app.command("check", rich_help_panel=PANEL)(check)


def rebuild(
    ctx: typer.Context,
    data_dir: DataDir = None,
    nats: Nats = None,
    nats_credentials: NatsCredentials = None,
    docker: Docker = None,
    node: Node = None,
    log_level: LogLevel = None,
    as_json: AsJson = False,
) -> None:
    """Drop the read store and fold the ledger into a new one."""
    with reported():
        settings = settings_of(ctx)
        import uvloop

        from service import bootstrap

        summary = uvloop.run(bootstrap.rebuild(settings))
    rate = round(summary.records / summary.seconds) if summary.seconds > 0 else 0
    say(
        as_json,
        {"records": summary.records, "seconds": summary.seconds, "recordsPerSecond": rate},
        f"{plural(summary.records, 'record')} in {summary.seconds:.2f} s ({rate} records/s)",
    )


def check(
    ctx: typer.Context,
    data_dir: DataDir = None,
    nats: Nats = None,
    nats_credentials: NatsCredentials = None,
    docker: Docker = None,
    node: Node = None,
    log_level: LogLevel = None,
    as_json: AsJson = False,
) -> None:
    """Compare the ledger with the read store and with Docker; exit code 1 if they differ."""
    with reported():
        settings = settings_of(ctx)
        import uvloop

        from service import bootstrap

        report = uvloop.run(bootstrap.check(settings))
    count = len(report.differences)
    verdict = plural(count, "difference") if count else "no difference"
    say(
        as_json,
        {"records": report.records, "differences": report.differences},
        "\n".join([*report.differences, f"{plural(report.records, 'record')}: {verdict}"]),
    )
    if count:
        raise typer.Exit(1)


def say(as_json: bool, data: dict[str, Any], text: str) -> None:
    """The outcome as JSON, or as lines for people."""
    typer.echo(json.dumps(data, ensure_ascii=False, indent=2) if as_json else escaped(text))
