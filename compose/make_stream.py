"""Make the streams of the ledger and of refusals on a NATS server, as the one user who may; end.

The service's user cannot create or delete streams (see nats.conf), so compose.yaml runs this once
before the service. When they are there already, it only looks whether the ledger's is as it must.
"""

import asyncio
import os
import sys

from service.adapters.jetstream import JetStreamLedger
from service.adapters.jetstream_connection import NatsAddress
from service.adapters.jetstream_refusals import JetStreamRefusals
from service.errors import GpuledgerError


async def main(url: str) -> int:
    admin = NatsAddress((url,), "admin", os.getenv("NATS_ADMIN_PASSWORD"))
    try:
        async with JetStreamLedger(admin) as ledger:
            async with JetStreamRefusals(admin) as refusals:
                await refusals.before(None, 1)
            print(f"the ledger on {url} is there: {await ledger.last_seq()} records")
    except GpuledgerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1])))
