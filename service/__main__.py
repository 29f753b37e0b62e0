"""The entry point: the one place that looks at the process around us."""

import os
import socket
import time
import uuid

from service.cli.app import build_app
from service.cli.surroundings import Surroundings


def main() -> None:
    """Run the command line; ends the process with the command's exit code."""
    build_app()(
        prog_name="gpuledger",
        obj=Surroundings(
            env=os.environ,
            host_name=socket.gethostname(),
            superuser=os.geteuid() == 0,
            now_s=time.time,
            new_key=lambda: str(uuid.uuid4()),
        ),
    )


if __name__ == "__main__":
    main()
