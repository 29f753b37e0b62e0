"""The entry point: the one place that looks at the process around us."""

import errno
import os
import socket
import sys
import time
import uuid

INTERRUPTED_EXIT_CODE = 130
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""How a write to a standard output that is a file, or was redirected to one, can fail."""


def main() -> None:
    """Run the command line; ends the process with the command's exit code."""
    try:
        _run()
    except KeyboardInterrupt:  # while it is still loading: afterwards each command sees to it
        sys.exit(INTERRUPTED_EXIT_CODE)
    except OSError as error:
        # Adapters map their own. An error without a file is of what was printed.
        if error.errno not in _UNWRITABLE or error.filename is not None:
            raise
        # What is left in the buffer is written at the end of the process: not there again.
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        sys.exit(f"error: the output cannot be written ({error.strerror})")


def _run() -> None:
    # Here and not above: Ctrl-C while it is loaded is no traceback.
    from service.cli.app import build_app
    from service.cli.surroundings import Surroundings

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
