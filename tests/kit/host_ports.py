"""Which host ports a test process may use: all test runs and engines share those of this host."""

import errno
import socket
from functools import cache
from itertools import count

PORT_FIRST, PORTS_EACH, SHARES = 32_000, 50, 15
"""Lent by services: below the kernel's range for outgoing connections (32768)."""

FREE_FIRST, FREE_EACH = 20_000, 800
"""Of `free_port`, below those that services lend."""

_claims: list[socket.socket] = []
_given = count()


@cache
def _share() -> int:
    """A number that this process has, and no other test process.

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
            return share
    raise AssertionError(f"{SHARES} test processes hold all host ports of tests")


def own_ports() -> tuple[int, int]:
    """First and last of the host ports that services of this process lend."""
    first = PORT_FIRST + PORTS_EACH * _share()
    return first, first + PORTS_EACH - 1


def free_port() -> int:
    """A TCP port that nobody listens on, which no other test process is given.

    So nobody takes it between our look at it and its use: another test process has other ports,
    and the kernel gives it to no outgoing connection.
    """
    first = FREE_FIRST + FREE_EACH * _share()
    for _ in range(FREE_EACH):
        port = first + next(_given) % FREE_EACH
        with socket.socket() as listener:
            try:
                listener.bind(("0.0.0.0", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port in {first}-{first + FREE_EACH - 1}")
