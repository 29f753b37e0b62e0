"""Routes of replica sets: every command. What there is to read of them is in `revisions`."""

from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from events.values import Verb
from projections.state import Operation
from service.domain.commands import (
    ContinueReplicaSet,
    DeleteReplicaSet,
    PauseReplicaSet,
    Request,
    RestartReplicaSet,
    StopReplicaSet,
)
from service.ports import ExecOutcome
from service.web import schemas
from service.web import schemas_checks as check
from service.web import schemas_requests as requests
from service.web import schemas_responses as responses
from service.web import schemas_versions as versions
from service.web.context import CONTEXT, WebContext
from service.web.problems import Action, Code
from service.web.routes import API, Route
from service.web.submission import Outcome, outcome_as_recorded, submit

_ONE = f"{API}/replicaSet/{{name}}"
_TAG = "Replica sets"


async def _run(request: web.Request) -> web.Response:
    body = await request.read()
    command, raw = schemas.parse_run(body, request.app[CONTEXT].disks)
    return await submit(request, ("replica_set", "run"), command, raw)


def _with_body(
    verb: Verb,
    parse: Callable[[str, bytes], tuple[Request, schemas.Raw]],
    outcome: Callable[[WebContext, Operation], Outcome] = outcome_as_recorded,
) -> Handler:
    """A handler for a command on a named replica set that has a body."""

    async def handle(request: web.Request) -> web.Response:
        name = check.name(request.match_info["name"], "name")
        command, raw = parse(name, await request.read())
        return await submit(request, ("replica_set", verb), command, raw, outcome)

    return handle


def _bare(verb: Verb, make: Callable[[str], Request]) -> Handler:
    """The same without a body. One that comes is not looked at: the predecessor's clients send
    flags with a delete that mean nothing here."""

    async def handle(request: web.Request) -> web.Response:
        name = check.name(request.match_info["name"], "name")
        return await submit(request, ("replica_set", verb), make(name), {})

    return handle


def _executed(context: WebContext, operation: Operation) -> Outcome:
    """What a command wrote, while it is still kept, and how it ended."""
    output = context.intake.output(operation.id)
    exit_code = int(operation.result.get("exitCode", 0))
    if output is None:
        data = responses.ExecuteData("", "", exit_code, truncated=False)
        return data, "success; the output is no longer kept"
    cut = _cut(output)
    data = responses.ExecuteData(
        stdout=output.stdout.decode(errors="replace"),
        stderr=output.stderr.decode(errors="replace"),
        exit_code=output.exit_code,
        truncated=bool(cut),
    )
    return data, f"success; {cut}" if cut else "success"


def _cut(output: ExecOutcome) -> str:
    """What was cut off from a command's output, for people; "" when nothing was."""
    streams = (
        ("stdout", len(output.stdout), output.stdout_bytes),
        ("stderr", len(output.stderr), output.stderr_bytes),
    )
    return ", ".join(
        f"{stream} was cut off after {kept} of {written} bytes"
        for stream, kept, written in streams
        if kept < written
    )


def _command(
    method: str,
    path: str,
    verb: Verb,
    handler: Handler,
    summary: str,
    *,
    data: Any = None,
    body: Any = None,
    codes: tuple[Code, ...] = (),
) -> Route:
    action: Action = ("replica_set", verb)
    return Route(method, path, handler, summary, _TAG, data, body, action, codes=codes)


_BINDS = (Code.VOLUME_WITHOUT_VERSION, Code.VOLUME_BUSY)
_PLACED = (Code.GPUS_SHORT, Code.PORTS_SHORT)
_NAMED = (Code.NAME_HAS_DASH,)
_GPUS = (Code.GPU_COUNT_NEGATIVE,)
_SIZES = (Code.SIZE_UNIT_UNKNOWN,)


ROUTES = (
    _command(
        *("POST", f"{API}/replicaSet", "run", _run, "Run a container"),
        data=responses.RunData,
        body=requests.RunBody,
        codes=(
            *(Code.IMAGE_NAME_EMPTY, Code.NAME_EMPTY, Code.NAME_EXISTS, Code.VOLUME_EXISTS),
            *(*_NAMED, *_GPUS, *_SIZES, *_BINDS, *_PLACED),
        ),
    ),
    _command(
        *("PATCH", _ONE, "patch", _with_body("patch", schemas.parse_patch)),
        "Change what it is made of; the system disk comes along, unless the image is another",
        data=responses.ContainerData,
        body=requests.PatchBody,
        codes=(
            *(*_NAMED, *_GPUS, *_SIZES, *_BINDS, *_PLACED),
            *(Code.IMAGE_NAME_EMPTY, Code.NOTHING_TO_PATCH, Code.DEBUG_COPY),
        ),
    ),
    _command(
        *("PATCH", f"{_ONE}/rollback", "rollback"),
        _with_body("rollback", schemas.parse_rollback),
        "Go back to what a version was, its system disk included",
        data=responses.ContainerData,
        body=requests.RollbackBody,
        codes=(
            *(Code.VERSION_NEGATIVE, Code.ALREADY_AT_VERSION, Code.SYSTEM_DISK_GONE),
            *(*_NAMED, *_PLACED, Code.VOLUME_BUSY),
        ),
    ),
    _command(
        *("POST", f"{_ONE}/debug", "debug", _with_body("debug", schemas.parse_debug)),
        "Run a copy of a version, its system disk included, as another replica set",
        data=versions.DebugData,
        body=requests.DebugBody,
        codes=(
            *(Code.NAME_EMPTY, Code.NAME_EXISTS, Code.VERSION_NEGATIVE, Code.SYSTEM_DISK_GONE),
            *(*_NAMED, *_GPUS, Code.GPUS_SHORT, Code.VOLUME_BUSY),
        ),
    ),
    _command(
        *("PATCH", f"{_ONE}/pin", "pin", _with_body("pin", schemas.parse_pin)),
        "Keep the system disk of a version until it is unpinned",
        body=requests.PinBody,
        codes=(*_NAMED, Code.VERSION_NEGATIVE, Code.SYSTEM_DISK_GONE),
    ),
    _command(
        *("PATCH", f"{_ONE}/unpin", "unpin", _with_body("unpin", schemas.parse_unpin)),
        "Keep the system disk of a version as long as any other",
        body=requests.PinBody,
        codes=(*_NAMED, Code.VERSION_NEGATIVE),
    ),
    _command(
        *("PATCH", f"{_ONE}/stop", "stop", _bare("stop", StopReplicaSet)),
        "Stop; GPUs and ports are given back",
        codes=_NAMED,
    ),
    _command(
        *("PATCH", f"{_ONE}/restart", "restart", _bare("restart", RestartReplicaSet)),
        "Start anew; GPUs and ports are applied for again",
        data=responses.ContainerData,
        codes=(*_NAMED, *_PLACED, Code.VOLUME_BUSY),
    ),
    _command(
        *("PATCH", f"{_ONE}/pause", "pause", _bare("pause", PauseReplicaSet)),
        "Stop the container; GPUs and ports are kept",
        codes=_NAMED,
    ),
    _command(
        *("PATCH", f"{_ONE}/continue", "continue", _bare("continue", ContinueReplicaSet)),
        "Start the paused container again",
        codes=_NAMED,
    ),
    _command(
        *("POST", f"{_ONE}/commit", "commit", _with_body("commit", schemas.parse_commit)),
        "Save the system disk as an image",
        data=responses.CommitData,
        body=requests.CommitBody,
        codes=(*_NAMED, Code.IMAGE_NAME_EMPTY),
    ),
    _command(
        *("POST", f"{_ONE}/execute", "execute"),
        _with_body("execute", schemas.parse_execute, _executed),
        "Run a command in the running container",
        data=responses.ExecuteData,
        body=requests.ExecuteBody,
        codes=_NAMED,
    ),
    _command(
        *("DELETE", _ONE, "delete", _bare("delete", DeleteReplicaSet)),
        "Remove the container and its kept system disks",
        codes=_NAMED,
    ),
)
