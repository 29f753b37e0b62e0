"""Small worlds, completely: every sequence of commands, interleaved with effects in every way.

From each world that can be reached the search goes on with every command that is left and with
every outcome of every effect that is due. `World` looks at everything after every record; where
nothing is due any more, every operation must have ended. Worlds that go on the same are visited
once. The search is depth first, so a failing assertion tells one history that leads to it.
"""

from collections.abc import Sequence
from hashlib import blake2b

import pytest
from msgspec import Struct

from service.domain.commands import (
    Command,
    ContinueReplicaSet,
    CreateVolume,
    DeleteReplicaSet,
    DeleteVolume,
    Facts,
    PauseReplicaSet,
    RestartReplicaSet,
    RollBackReplicaSet,
    StopReplicaSet,
)
from service.domain.rejections import Rejected
from tests.kit.builders import GIB, facts, mount, patch, remount, resize, run
from tests.kit.world import NEVER_FAIL, World


class Found(Struct):
    """How much a search has seen."""

    worlds: int
    ends: int


def explore(world: World, commands: Sequence[Command], depth: int) -> Found:
    """Every history of at most `depth` accepted commands from here."""
    found = Found(0, 0)
    seen: set[bytes] = set()
    waiting = [(world, depth)]
    while waiting:
        here, left = waiting.pop()
        key = blake2b(here.key() + bytes([left]), digest_size=16).digest()
        if key in seen:
            continue
        seen.add(key)
        found.worlds += 1
        if not here.due():
            here.check_ended()
            found.ends += 1
        for effect in here.due():
            there = here.copy()
            assert not isinstance(there.succeed(effect), Rejected)
            waiting.append((there, left))
            if not isinstance(effect, NEVER_FAIL):
                there = here.copy()
                assert not isinstance(there.fail(effect), Rejected)
                waiting.append((there, left))
        for command in commands if left else ():
            there = here.copy()
            if not isinstance(there.send(command), Rejected):
                waiting.append((there, left - 1))
    return found
