"""Make the ledger's stream on a NATS server of its own, as the one user who may; then end.

The service's user cannot create or delete streams (see nats.conf), so compose.yaml runs this once
before the service. When the stream is there already, it only looks whether it is as it must be.
"""

import asyncio
import os
import sys

from service.adapters.jetstream import JetStreamLedger
from service.adapters.jetstream_connection import NatsAddress
from service.errors import GpuledgerError


async def main(url: str) -> int:
    admin = NatsAddress((url,), "admin", os.getenv("NATS_ADMIN_PASSWORD"))
    try:
        async with JetStreamLedger(admin) as ledger:
            print(f"the ledger on {url} is there: {await ledger.last_seq()} records")
    except GpuledgerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1])))
