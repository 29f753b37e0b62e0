"""Small worlds with debug copies, completely: beside all that their source does meanwhile."""

from typing import Any

import pytest

from service.domain.commands import (
    DebugReplicaSet,
    DeleteReplicaSet,
    ExecuteInReplicaSet,
    ExpireSnapshots,
    PauseReplicaSet,
    RestartReplicaSet,
    RollBackReplicaSet,
)
from tests.kit.builders import GIB, facts, patch, run
from tests.kit.gwt import given
from tests.kit.sightings import ended
from tests.property.test_small_worlds import CARRIED, explore


@pytest.mark.parametrize("carried", CARRIED)
def test_debug_copies_beside_all_that_their_source_does(carried: dict[str, Any]) -> None:
    on = facts(2, keep_revisions=0, **carried)
    world = given(run("foo", memory_bytes=GIB), patch("foo"), gpus=1, on=on).world
    commands = (
        DebugReplicaSet("dbg", "foo", 1, gpu_count=1),
        DebugReplicaSet("dbg", "foo", 2),
        DebugReplicaSet("bug", "foo", 1),
        DebugReplicaSet("bug", "dbg", 1),
        ExecuteInReplicaSet("foo", ("true",)),
        patch("foo"),
        patch("foo", memory_bytes=2 * GIB),
        PauseReplicaSet("foo"),
        RollBackReplicaSet("foo", 1),
        ExpireSnapshots("foo"),
        DeleteReplicaSet("foo"),
        RestartReplicaSet("dbg"),
        DeleteReplicaSet("dbg"),
        ended("foo"),
    )
    assert explore(world, commands, depth=2).worlds > 3_000
