"""given(what was).when(a command).then(what is decided): the rules as sentences.

    given(run("foo", gpu_count=2)).when(run("bar", gpu_count=1)).rejected(Reason.GPUS_EXHAUSTED)

What was is told by commands (accepted, and driven to their end), by steps such as
`unfinished(...)`, and by events (folded as they are).
"""

from collections.abc import Callable
from typing import Any, get_args

from events.operations import OperationAccepted
from events.record import Event, Record
from projections.state import Operation, State
from service.domain.commands import Command, Facts
from service.domain.effects import Effect
from service.domain.guards import Decision
from service.domain.rejections import Reason, Rejected
from tests.kit.builders import NODE
from tests.kit.world import World

Step = Callable[[World], Any]
"""Something done to the world that a command alone does not say."""

EVENTS: tuple[type[Any], ...] = get_args(Event)


def unfinished(command: Command, effects_done: int = 0) -> Step:
    """The command was accepted and so many of its effects were done; the next is due."""

    def step(world: World) -> None:
        _accepted(world, command)
        for _ in range(effects_done):
            world.succeed(world.due()[0])

    return step


def failing(command: Command, *effects: type[Effect]) -> Step:
    """The command was accepted, and all effects of these kinds failed, until nothing was due."""

    def step(world: World) -> None:
        _accepted(world, command)
        world.drive(lambda effect: isinstance(effect, effects))

    return step


def at(now_us: int) -> Step:
    """From now on it is this instant."""

    def step(world: World) -> None:
        world.now_us = now_us

    return step


def steps(
    world: World, command: Command, fails: Callable[[Effect], bool] = lambda effect: False
) -> list[str]:
    """The effects of a command in the order in which they are due; "!" where one fails.

    What belongs to no operation is told as "expire foo-1" and "compact foo-1".
    """
    _accepted(world, command)
    done: list[str] = []
    while world.due():
        effect = world.due()[0]
        operation, _, step = effect.effect_id.partition("/")
        if not effect.operation_id:
            step = f"{operation} {effect.name}-{effect.number}"
        else:
            assert operation == effect.operation_id
        if fails(effect):
            world.fail(effect)
        else:
            world.succeed(effect)
        done.append(f"{step}!" if fails(effect) else step)
    world.check_ended()
    return done


def given(*history: Command | Event | Step, gpus: int = 2, on: Facts | None = None) -> "Given":
    """A world with this history."""
    world = World(gpus, on)
    for part in history:
        if isinstance(part, EVENTS):
            world.fold(Record("by-hand", NODE, "node", NODE, "test", 0, (part,)))
        elif callable(part):
            part(world)
        else:
            _accepted(world, part)  # type: ignore[arg-type]
            world.drive()
    return Given(world)


def _accepted(world: World, command: Command) -> None:
    decision = world.send(command)
    assert not isinstance(decision, Rejected), decision


class Given:
    """A world, before the command that the test is about."""

    def __init__(self, world: World) -> None:
        self.world = world

    def when(self, command: Command) -> "Decided":
        """Send the command; its effects wait."""
        return Decided(self.world, self.world.send(command))


class Decided:
    """What was decided, and the world in which it is now so."""

    def __init__(self, world: World, decision: Decision) -> None:
        self.world = world
        self.decision = decision

    @property
    def state(self) -> State:
        """The state as it is now."""
        return self.world.state

    @property
    def events(self) -> tuple[Event, ...]:
        """What was decided, without the event that says that it was accepted."""
        assert not isinstance(self.decision, Rejected), self.decision
        return tuple(e for e in self.decision if not isinstance(e, OperationAccepted))

    def rejected(self, reason: Reason, *words: str) -> "Decided":
        """It was refused for this reason, in a message with these words."""
        assert isinstance(self.decision, Rejected), self.decision
        assert self.decision.reason == reason, self.decision
        for word in words:
            assert word in self.decision.message
        return self

    def then(self, *events: Event) -> "Decided":
        """It was accepted, and exactly this was decided."""
        assert self.events == events
        return self

    def then_due(self, *effects: type[Effect]) -> "Decided":
        """These kinds of effects are due, in this order."""
        assert tuple(type(effect) for effect in self.world.due()) == effects
        return self

    def then_driven(self, *fails: type[Effect]) -> "Decided":
        """Everything due is done, kinds in `fails` refused by the engine, until nothing is due."""
        assert not isinstance(self.decision, Rejected), self.decision
        self.world.drive(lambda effect: isinstance(effect, fails))
        return self

    def then_state(self, holds: Callable[[State], bool]) -> "Decided":
        """This holds of the state as it is now."""
        assert holds(self.state)
        return self

    @property
    def operation(self) -> Operation:
        """The operation that the command became."""
        assert not isinstance(self.decision, Rejected), self.decision
        accepted = self.decision[0]
        assert isinstance(accepted, OperationAccepted)
        return self.state.operations[accepted.operation_id]
