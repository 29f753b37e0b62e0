"""A run: load and kills at the same time; then rest; then every check."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from time import monotonic, sleep
from typing import Any

import msgspec
from docker.errors import DockerException
from msgspec import Struct

from events.operations import OperationFailed, OperationSucceeded
from events.record import Record
from projections.state import State
from tests.chaos import host_checks
from tests.chaos.faults import ChaosStopped, Fault
from tests.chaos.kills import Damage, Killer
from tests.chaos.ledger_checks import check_ends, check_history, check_told, unfinished
from tests.chaos.load import Client
from tests.chaos.marks import check_marks, written
from tests.chaos.place import Place
from tests.chaos.report import Report
from tests.chaos.scene import Options, Scene, set_up
from tests.chaos.watch import Watch
from tests.kit.logs import fold

REST_S_MAX = 120.0
"""So long may what was accepted take to end, once everything is up and nobody asks for more."""
QUIET_S = 4.0
"""Longer than a container takes that ends by itself (`asking.py`), and to see that it did."""


class Plan(Struct, frozen=True):
    """What is to be done. One seed is one plan of kills and commands; their timing differs."""

    seed: int
    kills: int
    clients: int
    options: Options = Options()


def play(plan: Plan, place: Place, say: Callable[[str], None]) -> Report:
    """All of it. When there are faults, `place` is kept, with what was told in `told.jsonl`."""
    begun = monotonic()
    report = Report(plan.seed, plan.clients, [], Damage())
    place.keep = True  # also when a fault of ours ends the run
    with set_up(place.folder, plan.options) as scene:
        try:
            _disturb(plan, scene, report, say)
            report.faults = sorted({*report.faults, *_verdict(scene, report, say)})
        except ChaosStopped as error:
            report.faults = sorted({*report.faults, Fault("other", str(error))})
        report.starts_in_vain = scene.starts_in_vain
    report.faults = [*report.faults, *host_checks.check_temporary(scene)]
    report.seconds = monotonic() - begun
    told = b"\n".join(msgspec.json.encode(one) for one in report.told)
    (place.folder / "told.jsonl").write_bytes(told)
    place.keep = not report.ok
    return report


def _disturb(plan: Plan, scene: Scene, report: Report, say: Callable[[str], None]) -> None:
    """Load and kills. Raises ChaosStopped, when the load has ended too."""

    def progress(damage: Damage) -> None:
        sent = sum(len(client.told) for client in clients)
        say(f"{damage.kills} of {plan.kills} kills, {sent:,} commands")

    clients = [Client(number, plan.seed, lambda: scene.url) for number in range(plan.clients)]
    killer = Killer(scene, plan.seed, plan.kills)
    report.damage = killer.damage
    watch = Watch(scene.engine.url)
    try:
        with ExitStack() as held:
            watch.start()
            held.callback(watch.stop)
            for client in clients:
                client.start()
                held.callback(client.join)
            for client in clients:
                held.callback(client.stop)
            killer.run(progress)
    finally:
        report.told = [one for client in clients for one in client.told]
        report.looks = watch.looks
        report.faults = sorted(watch.faults)


def _verdict(scene: Scene, report: Report, say: Callable[[str], None]) -> Iterator[Fault]:
    say("waiting until nothing is in progress")
    calm_at = monotonic()
    records = _at_rest(scene)
    report.rest_s = monotonic() - calm_at
    state = fold(records)
    yield from (Fault("lost", text) for text in unfinished(state))
    say("looking at everything")
    report.records = len(records)
    events = [event for record in records for event in record.events]
    report.succeeded = sum(isinstance(event, OperationSucceeded) for event in events)
    report.failed = sum(isinstance(event, OperationFailed) for event in events)
    yield from check_told(report.told, records)
    yield from check_ends(records)
    yield from check_history(records)
    yield from _check_host(scene, report, state, records)
    checked = scene.service.check()
    if checked.returncode:
        yield from (
            Fault("other", f"gpuledger check: {line}") for line in checked.stdout.splitlines()
        )
    yield from _check_restart(scene, records)


def _check_host(
    scene: Scene, report: Report, state: State, records: list[Record]
) -> Iterator[Fault]:
    yield from host_checks.check_shown(scene, state)
    with scene.engine.client() as client:
        inspected = _inspected(client)
        (scene.folder / "docker.json").write_bytes(msgspec.json.encode(inspected))
        yield from host_checks.check_containers(state, inspected)
        yield from host_checks.check_ports(scene, state, inspected)
        yield from host_checks.check_mounts(scene, inspected)
        volumes = {volume.name for volume in client.volumes.list()}
        yield from host_checks.check_volumes(scene, state, volumes)
        tags = {tag for image in client.images.list() for tag in image.tags}
        yield from host_checks.check_system_disks(scene, state, tags)
        yield from host_checks.check_images(records, tags)
        found = written(records)
        try:
            yield from check_marks(client, state, found)
        except DockerException as error:
            yield Fault("lost", f"a disk cannot be looked into: {error}")
        report.writes = found.acknowledged
        report.containers = len(inspected)
        report.volumes = len(volumes)


def _inspected(client: Any) -> dict[str, dict[str, Any]]:
    """All containers of the engine as Docker shows them, by name."""
    return {one.name: one.attrs for one in client.containers.list(all=True, ignore_removed=True)}


def _at_rest(scene: Scene) -> list[Record]:
    """The ledger, once nothing is due and nothing is added any more, or the time is up."""
    deadline = monotonic() + REST_S_MAX
    records = scene.service.records()
    quiet_since = monotonic()
    while monotonic() < deadline:
        if monotonic() - quiet_since > QUIET_S and not unfinished(fold(records)):
            break
        sleep(0.25)
        if scene.service.last_seq() != len(records):
            records, quiet_since = scene.service.records(), monotonic()
    return records


def _check_restart(scene: Scene, records: list[Record]) -> Iterator[Fault]:
    """A stop in order, and a start with nothing to do, which does nothing."""
    if (code := scene.service.stop()) != 0:
        yield Fault("other", f"stopped in order, it ended with exit code {code}")
    scene.start_service()
    sleep(QUIET_S)
    for record in scene.service.records()[len(records) :]:
        events = ", ".join(type(event).__name__ for event in record.events)
        text = f"a start with nothing to do recorded {events} of {record.name}"
        yield Fault("other", text)
