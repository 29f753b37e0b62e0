"""Schemathesis on the OpenAPI document, against the whole service on the simulated world.

All of its checks but two: `positive_data_acceptance` wants everything taken that the document
allows, and many a rule is none of a schema's (two binds at one path, more GPUs than there are);
`ignored_auth` wants tokens, which have tests of their own.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence

from tests.kit.simulated_site import SimulatedSite

NOT_CHECKED = ("positive_data_acceptance", "ignored_auth")

ENDLESS = "/api/v1/events"
"""What goes on answering for as long as the caller listens: it has tests of its own."""


def fuzz(options: Sequence[str], *, shown: bool = False) -> tuple[int, str]:
    """Run `st run` with these options; its exit code, 1 on any fault of ours, and what it said.

    Afterwards every record that was stored must decode and fold, and nothing that nobody foresaw
    must have been logged. With `shown` the output goes to the terminal and is not returned.
    """
    with SimulatedSite() as site, tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "run"),
            *(f"{site.url}/api/v1/openapi.json", "--url", site.url),
            *("--checks", "all", "--exclude-checks", ",".join(NOT_CHECKED)),
            *("--exclude-path", ENDLESS),
            *("--continue-on-failure", "--no-color", "--generation-database", "none"),
            *options,
        ]
        # In a folder of its own, since it leaves a cache where it runs.
        ended = subprocess.run(command, capture_output=not shown, text=True, cwd=folder)
        said = (ended.stdout or "") + (ended.stderr or "")
        count = site.records_are_read_back()
        # What is no HTTP is answered 400 by aiohttp, and logged by it.
        faults = [fault for fault in site.faults if fault.name != "aiohttp.server"]
    said += "".join(f"\nlogged as an error: {fault.getMessage()}" for fault in faults)
    return ended.returncode or bool(faults), f"{said}\n{count} records were stored and read back"
