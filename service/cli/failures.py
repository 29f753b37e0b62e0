"""How a command can fail, and the exit code of each.

    CliFailure          1   refused, or tried and failed
    ├── Unreachable     3   the service, Docker or the ledger is out of reach
    └── NotFound        4   there is nothing of that name

Wrong usage is 2 (typer's own); Ctrl-C is 130; `exec` ends with the command's own code.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from service.cli.show import escaped
from service.errors import EngineUnavailable, GpuledgerError, LedgerUnavailable, SettingsError

USAGE_EXIT_CODE = 2

EXIT_CODES_HELP = (
    "Exit codes: 0 done; 1 refused or failed; 2 wrong usage; 3 the service, Docker or the ledger "
    "is out of reach; 4 no such name; 130 interrupted. 'exec' ends with the command's own code."
)


class CliFailure(Exception):
    """Base of what ends a command with a message on stderr."""

    exit_code = 1

    def __init__(self, message: str, data: dict[str, Any] | None = None) -> None:
        """`data` is what `--json` prints beside it."""
        super().__init__(message)
        self.data = data


class Unreachable(CliFailure):
    """Nobody there to ask, or what it needs is not there."""

    exit_code = 3


class NotFound(CliFailure):
    """No replica set, volume, version or operation of that name."""

    exit_code = 4


@contextmanager
def reported() -> Iterator[None]:
    """Turn a failure inside into its line on stderr and its exit code."""
    try:
        yield
    except CliFailure as failure:
        raise _ended(str(failure), failure.exit_code) from None
    except SettingsError as error:
        raise _ended(str(error), USAGE_EXIT_CODE) from None
    except (LedgerUnavailable, EngineUnavailable) as error:
        raise _ended(str(error), Unreachable.exit_code) from None
    except GpuledgerError as error:
        raise _ended(str(error), CliFailure.exit_code) from None


def _ended(message: str, exit_code: int) -> typer.Exit:
    typer.echo(f"error: {escaped(message)}", err=True)
    return typer.Exit(exit_code)
