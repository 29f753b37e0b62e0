"""The image's health check: 0 when the service is ready, else 1 and the reason in one line.

It asks /readyz and not /healthz: Docker itself does nothing about an unhealthy container, so the
state is for people and for `depends_on`, who want to know whether commands are accepted now.
"""

import http.client
import json
import os
import sys

TIMEOUT_S = 4.0
EVERY_INTERFACE = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}


def main() -> int:
    host, _, port = os.getenv("GPULEDGER_ADDR", "127.0.0.1:2378").rpartition(":")
    host = EVERY_INTERFACE.get(host, host.strip("[]"))
    connection = http.client.HTTPConnection(host, int(port), timeout=TIMEOUT_S)
    try:
        token = os.getenv("GPULEDGER_TOKEN")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request("GET", "/readyz", headers=headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        print(f"no answer: {error}")
        return 1
    print(answer.get("msg", answer) if isinstance(answer, dict) else answer)
    return int(response.status != 200)


if __name__ == "__main__":
    sys.exit(main())
