"""Which host ports a test process may lend: all test runs and engines share those of this host."""

import errno
import socket
from functools import cache

PORT_FIRST, PORTS_EACH, SHARES = 32_000, 50, 15
"""Below the kernel's range for outgoing connections (32768), above those of `free_port`."""

_claims: list[socket.socket] = []


@cache
def own_ports() -> tuple[int, int]:
    """First and last of the host ports that this process has, and no other test process.

    Held for as long as this process lives, by a socket whose name the kernel gives out once.
    """
    for share in range(SHARES):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0gpuledger-tests-ports-{share}")
        except OSError as error:
            claim.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            _claims.append(claim)
            first = PORT_FIRST + PORTS_EACH * share
            return first, first + PORTS_EACH - 1
    raise AssertionError(f"{SHARES} test processes hold all host ports of tests")
