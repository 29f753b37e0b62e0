"""(a) Accepted commands per second, and how long one takes, beside raw appends.

The command is `execute` of a program that ends at once, in replica sets that run: it is accepted
at any time, so that any number can be under way, and its effect on a Docker in memory is next to
nothing. Each makes two records: that it was accepted, and what came of it. The client is answered
(`Prefer: respond-async`) when the first one is synced to disk and the rows of the read store
show it; the second follows, and the service pays for it while it takes the next commands. So a
command per second here is two records per second, decided, synced, folded twice and written to
SQLite, and one effect; a raw append is one record, stored.
"""

from pathlib import Path

import httpx
import msgspec

from events.codec import encode
from events.operations import OperationAccepted
from events.record import Record
from events.replica_sets import ExecutionRequested
from tests.bench.figures import Figure, ratio
from tests.bench.load import Load
from tests.bench.processes import SIMULATED_SERVICE, ServiceChild, run_child
from tests.bench.served import IMAGE

LETTER = "a"
TITLE = "accepted commands, from HTTP request to acknowledged record, beside raw appends"

SETS = 256
CLIENTS = (1, 64)
SECONDS = 2.5
RATE_GOAL = 0.5
LATENCY_GOAL = 3.0


class _Rounds:
    """The figures of one kind of load, round by round."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._loads: list[Load] = []

    def add(self, load: Load) -> None:
        self._loads.append(load)

    def rate(self) -> Figure:
        return Figure(LETTER, self._what, [load.per_second for load in self._loads], "/s")

    def p50(self) -> Figure:
        return Figure(LETTER, f"{self._what}, p50", [x.p50_ms for x in self._loads], "ms")

    def p99(self) -> Figure:
        return Figure(LETTER, f"{self._what}, p99", [x.p99_ms for x in self._loads], "ms")


def measure(folder: Path, rounds: int) -> list[Figure]:
    """Raw appends and commands in turns, so that both meet the same machine."""
    raw = {n: _Rounds(f"raw appends, {n} in flight") for n in CLIENTS}
    served = {n: _Rounds(f"commands, {_clients(n)}") for n in CLIENTS}
    per_command: list[float] = []
    names = [f"set{number}" for number in range(SETS)]
    with (
        ServiceChild(SIMULATED_SERVICE, folder / "commands", "--log-level", "error") as service,
        httpx.Client(base_url=f"http://127.0.0.1:{service.port}", timeout=60) as http,
    ):
        for name in names:
            _run(http, name)
        for clients in CLIENTS * rounds:
            raw[clients].add(_append(folder / "raw", clients))
            before = _records(http)
            load = _load(service.port, clients, names)
            per_command.append((_records(http) - before) / load.accepted)
            served[clients].add(load)
    one, many = CLIENTS
    rate, records = served[many].rate(), per_command[1 :: len(CLIENTS)]
    return [
        *(raw[one].rate(), raw[one].p50(), raw[one].p99()),
        *(served[one].rate(), served[one].p50(), served[one].p99()),
        ratio(
            *(LETTER, "latency at one client / raw, p50", served[one].p50(), raw[one].p50()),
            goal_max=LATENCY_GOAL,
        ),
        *(raw[many].rate(), raw[many].p50(), raw[many].p99()),
        *(rate, served[many].p50(), served[many].p99()),
        ratio(
            *(LETTER, f"rate at {many} clients / raw", rate, raw[many].rate()),
            goal_min=RATE_GOAL,
        ),
        Figure(LETTER, "records a command", per_command, ""),
        ratio(LETTER, f"records at {many} clients / raw", _scaled(rate, records), raw[many].rate()),
    ]


def _scaled(rate: Figure, by: list[float]) -> Figure:
    rounds = [value * factor for value, factor in zip(rate.rounds, by, strict=True)]
    return Figure(rate.question, rate.what, rounds, rate.unit)


def _clients(count: int) -> str:
    return "1 client" if count == 1 else f"{count} clients"


def _run(http: httpx.Client, name: str) -> None:
    body = {"imageName": IMAGE, "replicaSetName": name, "gpuCount": 0}
    answer = http.post("/api/v1/replicaSet", json=body).json()
    if answer["code"] != 200:
        raise RuntimeError(f"{name} does not run: {answer['msg']}")


def _records(http: httpx.Client) -> int:
    """How many records the ledger holds, as the service says."""
    components = http.get("/readyz").json()["data"]["components"]
    return int(components["ledger"]["detail"].split()[0])


def _append(data_dir: Path, in_flight: int) -> Load:
    load = run_child(
        *("raw", "--data-dir", data_dir, "--in-flight", in_flight),
        *("--seconds", SECONDS, "--bytes", len(encode(sample()))),
    )
    return msgspec.convert(load, Load)


def _load(port: int, clients: int, names: list[str]) -> Load:
    load = run_child(
        *("load", "--port", port, "--clients", clients),
        *("--seconds", SECONDS, "--names", ",".join(names)),
    )
    return msgspec.convert(load, Load)


def sample() -> Record:
    """The record of an accepted `execute`, as long as those that are measured."""
    operation = "0190f3a2-7c00-7000-8000-000000000001"
    return Record(
        command_id=operation,
        node="bench-node",
        kind="replica_set",
        name="set123",
        verb="execute",
        at_us=1_700_000_000_000_000,
        events=(
            OperationAccepted(operation, "execute", "replica_set", "set123", {"cmd": ["true"]}),
            ExecutionRequested(operation, "set123", 1, ("true",), ""),
        ),
        actor="anonymous",
        operation_id=operation,
    )
