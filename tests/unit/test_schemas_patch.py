"""Bodies of a patch: what is bad in them is refused with its code, and the field is named."""

from typing import Any

import msgspec
import pytest

from service.web import schemas
from service.web.problems import BadRequest


def bind(src: str = "bar-1", dest: str = "/data") -> dict[str, str]:
    return {"src": src, "dest": dest}


# The body, the code, the field that the answer names.
BAD_PATCHES: list[tuple[dict[str, Any], int, str]] = [
    ({"memory": "10YB"}, 1029, "memory"),
    ({"memory": "1MB"}, 1000, "memory"),
    ({"memory": "0GB"}, 1000, "memory"),
    ({"memory": 0}, 1000, "memory"),
    ({"cpus": -1}, 1000, "cpus"),
    ({"cpus": 0.001}, 1000, "cpus"),
    ({"cpus": 5000}, 1000, "cpus"),
    ({"shmSize": "x"}, 1029, "shmSize"),
    ({"pidsLimit": -1}, 1000, "pidsLimit"),
    ({"onExit": "always"}, 1000, "onExit"),
    ({"onGpuLost": "stop"}, 1000, "onGpuLost"),
    ({"maxRetries": -1}, 1000, "maxRetries"),
    ({"maxRetries": 1001}, 1000, "maxRetries"),
    ({"maxRetries": "3"}, 1000, "maxRetries"),
    ({"pidsLimit": 4_194_305}, 1000, "pidsLimit"),
    ({"pidsLimit": 1.5}, 1000, "pidsLimit"),
    ({"imageName": ""}, 1001, "imageName"),
    ({"imageName": "UPPER CASE"}, 1000, "imageName"),
    ({"replicaSetName": "bar"}, 1000, "replicaSetName"),
    ({"env": ["=v"]}, 1000, "env[0]"),
    ({"env": [""]}, 1000, "env[0]"),
    ({"env": ["A\0"]}, 1000, "env[0]"),
    ({"env": ["A=1", "A=2"]}, 1000, "env[1]"),
    ({"secretEnv": ["A=1", "B"]}, 1000, "secretEnv[1]"),
    ({"env": ["A=1", "B", "A"]}, 1000, "env[2]"),
    ({"env": ["CONTAINER_VERSION=9"]}, 1000, "env[0]"),
    ({"env": ["CONTAINER_VERSION"]}, 1000, "env[0]"),
    ({"env": ["NVIDIA_VISIBLE_DEVICES"]}, 1000, "env[0]"),
    ({"env": [f"K{n}" for n in range(513)]}, 1000, "env"),
    ({"env": ["A=" + "x" * 70_000]}, 1000, "env"),
    ({"env": "A=1"}, 1000, "env"),
    ({"cmd": ["a\0b"]}, 1000, "cmd[0]"),
    ({"cmd": "sleep 1"}, 1000, "cmd"),
    ({"containerPorts": ["0"]}, 1000, "containerPorts[0]"),
    ({"containerPorts": ["22", 22]}, 1000, "containerPorts[1]"),
    ({"binds": [bind(src="bar")]}, 1027, "binds[0].src"),
    ({"binds": [bind(src="../x")]}, 1000, "binds[0].src"),
    ({"binds": [bind(dest="/")]}, 1000, "binds[0].dest"),
    ({"binds": [bind(src="", dest="data")]}, 1000, "binds[0].dest"),
    ({"binds": [bind(), bind(src="", dest="/data/")]}, 1000, "binds[1].dest"),
    ({"binds": [{"dest": "/data"}]}, 1000, "binds[0].src"),
    ({"binds": [{"src": "bar-1"}]}, 1000, "binds[0].dest"),
    ({"binds": [bind(dest=f"/d{n}") for n in range(65)]}, 1000, "binds"),
    (
        {"volumePatch": {"oldBind": bind(), "newBind": bind("bar-2")}, "binds": [bind("bar-3")]},
        1000,
        "binds[0].dest",
    ),
]


@pytest.mark.parametrize(("body", "code", "field"), BAD_PATCHES)
def test_a_bad_patch_is_refused_with_code_and_field(
    body: dict[str, Any], code: int, field: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        schemas.parse_patch("foo", msgspec.json.encode(body))
    problem = caught.value.problem
    assert (problem.code, problem.field, problem.status) == (code, field, 400)
    assert field in problem.message
    assert len(problem.message) < 400, "what was sent is not sent back whole"
