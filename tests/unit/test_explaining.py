"""Sentences: one for every type of event, and none that tells a secret."""

from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from msgspec import Struct
from msgspec.structs import fields

from events.observations import ContainerExited, RetryBegun, RetryScheduled
from events.operations import OperationAccepted, OperationFailed
from events.outcomes import ContainerStarted, EffectFailed, ImageResolved
from events.record import Event, Record
from events.replica_sets import RevisionAbandoned, RevisionDeclared
from events.resources import GpuAppeared, GpuFellIll, GpuQuarantined, GpusLeased
from events.values import PortBinding
from events.volumes import VolumeVersionDeclared
from projections.state import Node, PortLease, RestingPort
from service.domain.explaining import NAMED_MAX, WORDS_MAX, Source, Told, to_the_second
from service.domain.explaining_aspects import Search, came_from, container_of, ill, phase_of
from service.domain.explaining_events import SENTENCES, sentence
from service.domain.explaining_places import PORTS_TOLD_MAX, grounds
from tests.kit.builders import GIB, NODE, OWNER, revision, spec, state_of, unit

EVENTS: tuple[type[Any], ...] = get_args(Event)
NOBODY = state_of()


def record(*events: Event, verb: str = "outcome", operation_id: str = "") -> Record:
    return Record("c-1", NODE, "replica_set", "foo", verb, 1, events, operation_id=operation_id)


def declared(number: int = 1, **changes: Any) -> RevisionDeclared:
    values: dict[str, Any] = {
        "cause": "run",
        "spec": spec(),
        "gpus": (),
        "ports": (),
        "gpu_runtime": "nvidia",
        **changes,
    }
    return RevisionDeclared("foo", number, **values)


def test_every_type_of_event_has_a_sentence_and_every_sentence_an_event() -> None:
    assert set(SENTENCES) == set(EVENTS)


def sample(kind: Any, *, sparse: bool = False) -> Any:
    """A value of a type; a struct has all of its fields, or only those that it must have."""
    if get_origin(kind) is Literal:
        return get_args(kind)[0]
    if get_origin(kind) in (Union, UnionType):
        return sample(get_args(kind)[0])
    if get_origin(kind) is tuple:
        return (sample(get_args(kind)[0]),)
    if isinstance(kind, type) and issubclass(kind, Struct):
        needed = (field for field in fields(kind) if field.required or not sparse)
        return kind(**{field.name: sample(field.type, sparse=sparse) for field in needed})
    if get_origin(kind) is dict:
        return {}
    return {str: "x", int: 1, bool: True, type(None): None}[kind]


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_a_sentence_is_one_line(kind: type[Any], sparse: bool) -> None:
    said = sentence(sample(kind, sparse=sparse), NOBODY)
    assert said == " ".join(said.split())
    assert not {"None", "()", "True", "False"} & set(said.replace(":", " ").split())


def test_no_environment_is_told() -> None:
    secret = "hunter2"
    events: tuple[Event, ...] = (
        declared(spec=spec(env=(f"PASSWORD={secret}",))),
        OperationAccepted("o", "run", "replica_set", "foo", {"env": [f"PASSWORD={secret}"]}),
        ImageResolved("foo", 1, "train:1", "sha256:ab", env=(f"PASSWORD={secret}",)),
    )
    assert all(secret not in sentence(event, NOBODY) for event in events)
    before = state_of(revision(1, spec=spec(env=("PASSWORD=before",))))
    changed = declared(2, supersedes=1, spec=spec(env=(f"PASSWORD={secret}",)))
    told = [fact.text for fact in grounds(before, record(changed))]
    assert told == ["other than in foo-1: env.PASSWORD"]


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (
            declared(2, supersedes=1, disk_from=1, rolled_back_to=1),
            "foo-2 is to be: image train:1; in the place of foo-1; as foo-1 was; with the system"
            " disk of foo-1",
        ),
        (
            declared(2, supersedes=1, disk_from=1, in_place=True),
            "foo-2 is to be: image train:1; in the place of foo-1; in its running container",
        ),
        (
            RevisionAbandoned("foo", 2, 1, "paused"),
            "foo-2 was undone; foo-1 is current again, and to be paused",
        ),
        (
            VolumeVersionDeclared("disk", 2, 2 * GIB, "resize", 1, halts_users=True),
            "volume disk-2 is to have 2GB, in the place of disk-1; the containers that use it"
            " stand still for it",
        ),
        (
            OperationFailed("o", "no_space", "no\nspace\nleft"),
            "the operation failed (no_space): no space left",
        ),
        (GpusLeased("foo", 1, ("gpu-0", "gpu-7")), "GPU 0, GPU gpu-7 lent to foo-1"),
        (
            ContainerExited("foo", 1, 137, "", oom_killed=True),
            "the container foo-1 ended by itself with exit code 137; it was short of memory",
        ),
        (
            ContainerExited("foo", 1, 0, "", with_engine=True),
            "the container foo-1 ended because Docker, or its host, did",
        ),
        (GpuAppeared("gpu-0", 0, "H100", 1, ""), "the driver shows GPU 0, H100: gpu-0"),
    ],
)
def test_what_an_event_says(event: Event, said: str) -> None:
    assert sentence(event, state_of(unit(0))) == said


def test_what_is_long_is_cut() -> None:
    said = sentence(OperationFailed("o", "refused", "x" * 10_000), NOBODY)
    assert len(said) < WORDS_MAX + 60
    many = tuple(f"gpu-{index}" for index in range(NAMED_MAX + 5))
    assert sentence(GpusLeased("foo", 1, many), NOBODY).endswith(", 5 more lent to foo-1")


def test_gpus_with_one_index_are_told_apart() -> None:
    units = unit(0, uuid="gone", present=False), unit(0, uuid="new"), unit(1, uuid="mig-a")
    state = state_of(*units, unit(1, uuid="mig-b", parent_uuid="GPU-1"))
    said = sentence(GpusLeased("foo", 1, ("gone", "new", "mig-b")), state)
    assert said == "GPU gone, GPU 0, GPU mig-b lent to foo-1"


class TestPlaces:
    def test_ports_that_were_passed_over(self) -> None:
        before = state_of(
            *(PortLease(port, "bar", (1,), "22/tcp") for port in range(40001, 40008)),
            revision(1, name="bar", ports=(40001,)),
        )
        resting = RestingPort(40008, until_us=10)
        before.node = Node(NODE, OWNER, port_cursor=40000, resting=(resting,))
        chosen = declared(ports=(PortBinding("22/tcp", 40009),))
        facts = grounds(before, record(chosen))
        assert facts[0].text == (
            "host port 40009 for 22/tcp: the next free one after 40000, which was lent last"
        )
        assert facts[1].text == "host port 40001: bar-1 has it"
        assert isinstance(facts[1].source, Source)
        assert len(facts) == 2 + PORTS_TOLD_MAX
        assert facts[-1].text == f"{8 - PORTS_TOLD_MAX} more host ports passed over"

    def test_the_first_of_the_range_comes_after_the_last(self) -> None:
        before = state_of()
        before.node = Node(NODE, OWNER, port_cursor=40009)
        facts = grounds(before, record(declared(ports=(PortBinding("22/tcp", 40000),))))
        assert [fact.text for fact in facts] == [
            "host port 40000 for 22/tcp: the first free one of the range"
        ]

    def test_a_restart_asks_for_any_gpus(self) -> None:
        before = state_of(unit(0), unit(1), revision(1, gpus=(1,)))
        restarted = declared(
            2, cause="restart", supersedes=1, spec=spec(1), gpus=("gpu-0",)
        )
        told = [fact.text for fact in grounds(before, record(restarted))]
        assert "1 GPU asked for, 2 of 2 could be had; first come the lowest indexes" in told
        assert "GPU 0: taken, nobody has it" in told

    def test_a_gpu_that_is_its_own_and_sick_is_not_taken(self) -> None:
        before = state_of(unit(0, "foo", 1, present=False), unit(1), revision(1, gpus=(0,)))
        patched = declared(2, cause="patch", supersedes=1, spec=spec(1), gpus=("gpu-1",))
        told = [fact.text for fact in grounds(before, record(patched))]
        assert "GPU gpu-0: the driver does not show it" in told


class TestAspects:
    def test_the_newest_record_is_the_one(self) -> None:
        search = Search({container_of("foo", 1), phase_of("foo")})
        told = (
            Told(9, record(ContainerStarted("foo", 1, "x"))),
            Told(8, record(ContainerStarted("foo", 1, "y"))),
            Told(2, record(declared())),
        )
        assert [(search.look(one), search.is_over) for one in told] == [
            (True, False),
            (False, False),
            (True, True),
        ]
        assert search.places == {container_of("foo", 1): 9, phase_of("foo"): 2}

    def test_what_came_from_an_operation_came_from_nothing_else(self) -> None:
        started = ContainerStarted("foo", 1, "x")
        assert came_from(record(started))
        assert came_from(record(started, operation_id="o")) == set()

    def test_what_stands_in_the_record_itself_is_not_looked_for(self) -> None:
        sick = GpuFellIll("gpu-0", "xid", "fell off", 79)
        quarantined = GpuQuarantined("gpu-0", "fell off")
        assert came_from(record(sick, quarantined)) == set()
        assert came_from(record(quarantined)) == {ill("gpu-0")}

    def test_a_refused_start_came_from_the_retry(self) -> None:
        refused = EffectFailed("", "e", "StartContainer", "replica_set", "foo", 1, "refused", "no")
        again = RetryScheduled("foo", 1, 2, 5)
        (origin,) = came_from(record(refused, again))
        search = Search({origin})
        assert search.look(Told(3, record(RetryBegun("foo", 1, 1))))


def test_a_source_is_what_it_says() -> None:
    source = Source((), 1, RevisionDeclared, (("name", "foo"), ("number", 2)))
    assert source.is_in(record(ContainerStarted("foo", 2, "x"), declared(2)))
    assert not source.is_in(record(declared(1)))
    assert not source.is_in(record(ContainerStarted("foo", 2, "x")))




@pytest.mark.parametrize(
    ("instant", "said"),
    [
        ("2026-11-22T23:45:00.72125892Z", "2026-11-22T23:45:00Z"),
        ("2026-11-22T23:45:00Z", "2026-11-22T23:45:00Z"),
        ("", ""),
    ],
)
def test_an_instant_is_said_to_the_second(instant: str, said: str) -> None:
    assert to_the_second(instant) == said
