"""check: the ledger, the rows and Docker told against each other."""

import pytest

from events.labels import LABEL_EFFECT, LABEL_NAME, LABEL_NODE, LABEL_OWNER, LABEL_REVISION
from projections.tables import Row
from service.application.check import DIFFERENCES_PER_TABLE_MAX, compare_engine, compare_rows
from service.domain.commands import DeleteReplicaSet, PauseReplicaSet, StopReplicaSet
from tests.kit.builders import IMAGE, NODE, OWNER, patch, run, unit
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.kit.virtual_time import virtual
from tests.simulation.checks import fresh_fold

OURS = {LABEL_OWNER: OWNER, LABEL_NODE: NODE}
SLEEP = ("sleep", "600")


async def differences(service: SimulatedService) -> list[str]:
    """What `gpuledger check` would say of Docker."""
    return compare_engine(service.state, await service.engine.list_containers(OURS))


@virtual
async def test_a_service_at_rest_has_no_differences() -> None:
    host = SimulatedHost(gpus=3)
    async with SimulatedService(host) as service:
        await service.succeed(run("ann", 1, cmd=SLEEP), run("bob", 1, cmd=SLEEP), patch("ann", 2))
        await service.succeed(PauseReplicaSet("bob"), run("cid", cmd=SLEEP), StopReplicaSet("cid"))
        await service.succeed(run("dee"), DeleteReplicaSet("dee"))
        assert await differences(service) == []
        _, fresh = await fresh_fold(host.ledger)
        rows = await host.store.dump()
        assert [d for table in rows for d in compare_rows(table, rows[table], fresh[table])] == []


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("removed", "docker: ann-1 is gone; the ledger says running"),
        ("ended", "docker: ann-1 is exited; the ledger says running"),
    ],
)
@virtual
async def test_a_container_that_somebody_touched_is_a_difference(what: str, said: str) -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(run("ann", cmd=SLEEP))
        if what == "removed":
            del host.world.containers["ann-1"]
        else:
            host.world.end("ann-1", 137)
        assert await differences(service) == [said]


@virtual
async def test_a_container_of_ours_that_the_ledger_does_not_know_is_a_difference() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(run("ann", cmd=SLEEP))
        labels = {**OURS, LABEL_NAME: "ann", LABEL_REVISION: "7", LABEL_EFFECT: "e"}
        await host.engine.create_container("ann-7", {"Image": IMAGE, "Labels": labels})
        assert await differences(service) == [
            "docker: container ann-7 (ann-7) is not in the ledger; see: gpuledger orphans"
        ]


@virtual
async def test_what_is_busy_is_left_out() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(run("ann", cmd=SLEEP))
        await service.submit(patch("ann"))
        host.engine.down = True
        await host.clock.sleep(5)
        assert service.state.replica_sets["ann"].operation is not None
        seen = tuple(one.observed() for one in host.world.containers.values())
        assert compare_engine(service.state, seen) == []
        assert compare_engine(service.state, ()) == []


@virtual
async def test_a_container_that_runs_without_its_lease_is_a_difference() -> None:
    host = SimulatedHost(gpus=1)
    async with SimulatedService(host) as service:
        await service.succeed(run("ann", 1, cmd=SLEEP))
        service.state.gpus["gpu-0"] = unit(0)
        assert await differences(service) == [
            "ledger: ann-1: it runs without a lease on all its GPUs and ports",
            "ledger: ann: it is running and does not hold its leases",
        ]


@pytest.mark.parametrize(
    ("stored", "folded", "said"),
    [
        ([], [("gpu-0", 1)], ["read store, gpus: gpu-0 1 is missing or differs"]),
        ([("gpu-0", 1)], [], ["read store, gpus: gpu-0 1 does not follow from the ledger"]),
        ([("gpu-0", 1)], [("gpu-0", 1)], []),
        (
            [("gpu-0", 1, b"a")],
            [("gpu-0", 1, b"b")],
            [
                "read store, gpus: gpu-0 1 is missing or differs",
                "read store, gpus: gpu-0 1 does not follow from the ledger",
            ],
        ),
    ],
)
def test_rows_that_differ_are_named(stored: list[Row], folded: list[Row], said: list[str]) -> None:
    assert compare_rows("gpus", stored, folded) == said


def test_many_rows_that_differ_are_counted() -> None:
    rows: list[Row] = [(number, "x") for number in range(DIFFERENCES_PER_TABLE_MAX + 5)]
    said = compare_rows("ports", [], rows)
    assert len(said) == DIFFERENCES_PER_TABLE_MAX + 1
    assert said[-1] == "read store, ports: 5 more"
