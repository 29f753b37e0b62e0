"""Routes of replica sets: every command of the contract, and what there is to read of them."""

from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from events.codec import show_time
from events.labels import LABEL_EFFECT
from events.values import Verb, versioned
from projections.state import Node, Operation, ReplicaSet, Revision
from service.domain.commands import (
    ContinueReplicaSet,
    DeleteReplicaSet,
    PauseReplicaSet,
    Request,
    RestartReplicaSet,
    StopReplicaSet,
)
from service.domain.container_config import container_config
from service.ports import ExecOutcome
from service.web import schemas
from service.web import schemas_checks as check
from service.web import schemas_requests as requests
from service.web import schemas_responses as responses
from service.web.context import CONTEXT, NodeFacts, WebContext
from service.web.envelope import answer, refuse
from service.web.problems import Action, Code, Problem, not_found
from service.web.routes import API, Query, Route, number_in
from service.web.submission import Outcome, outcome_as_recorded, submit

PAGE_MAX = 1_000

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


async def _info(request: web.Request) -> web.Response:
    context = request.app[CONTEXT]
    name = check.name(request.match_info["name"], "name")
    found = await context.reads.replica_set(name)
    revision = None
    if found is not None and found.current:
        revision = await context.reads.revision(name, found.current)
    if revision is None:
        return refuse(_no_such(Code.INFO_NOT_FOUND, name))
    return answer(responses.ContainerInfoData(info_of(revision, context.node())))


async def _history(request: web.Request) -> web.Response:
    """Also of a replica set that was deleted: its history is all that is left of it."""
    context = request.app[CONTEXT]
    name = check.name(request.match_info["name"], "name")
    revisions = await context.reads.revisions(name)
    if not revisions:
        return refuse(_no_such(Code.HISTORY_NOT_FOUND, name))
    node = context.node()
    return answer(responses.ContainerHistoryData([_version(r, node) for r in revisions]))


def _version(revision: Revision, node: NodeFacts) -> responses.ContainerVersion:
    info = info_of(revision, node)
    return responses.ContainerVersion(
        version=info.version,
        create_time=info.create_time,
        status=info,
        verb=revision.cause,
        disk_kept=revision.snapshot is not None,
    )


def _no_such(code: Code, name: str) -> Problem:
    return not_found(code, f"there is no replica set {name}", "replica_set_not_found")


async def _list(request: web.Request) -> web.Response:
    context = request.app[CONTEXT]
    limit = number_in(request, "limit", PAGE_MAX, 1, PAGE_MAX)
    after = request.query.get("after", "")
    there = [s for s in await context.reads.replica_sets() if s.current and s.name > after]
    rows: list[responses.ReplicaSetSummary] = []
    for replica_set in there[:limit]:
        revision = await context.reads.revision(replica_set.name, replica_set.current)
        if revision is not None:  # between the two reads it can have been undone
            rows.append(_summary(replica_set, revision))
    following = there[limit - 1].name if len(there) > limit else None
    return answer(responses.ReplicaSetsData(rows, following))


def _summary(replica_set: ReplicaSet, revision: Revision) -> responses.ReplicaSetSummary:
    return responses.ReplicaSetSummary(
        name=replica_set.name,
        version=revision.number,
        container_name=versioned(revision.name, revision.number),
        phase=replica_set.phase,
        container=revision.container,
        image_name=revision.spec.image,
        gpu_count=revision.spec.gpu_count,
        gpus=list(revision.gpus),
        ports=[responses.PortData(p.container_port, p.host_port) for p in revision.ports],
        create_time=show_time(revision.created_us),
        operation_id=replica_set.operation,
    )


def info_of(revision: Revision, node: NodeFacts) -> responses.ContainerInfo:
    """A version as Docker's API spells it."""
    owner = Node(node.node, node.owner)
    config = container_config(revision, revision.spec.image, owner, effect_id="")
    # Which effect made the container is a matter between the service and Docker.
    config["Labels"].pop(LABEL_EFFECT, None)
    host_config = config.pop("HostConfig")
    networking_config = config.pop("NetworkingConfig")
    return responses.ContainerInfo(
        version=revision.number,
        create_time=show_time(revision.created_us),
        config=config,
        host_config=host_config,
        networking_config=networking_config,
        platform=None,
        container_name=versioned(revision.name, revision.number),
        gpus=list(revision.gpus),
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
    Route(
        *("GET", f"{API}/replicaSet", _list, "List the replica sets", _TAG),
        data=responses.ReplicaSetsData,
        queries=(
            Query("limit", f"How many at most, up to {PAGE_MAX}.", "integer"),
            Query("after", "Only names behind this one: `next` of the page before."),
        ),
        codes=(Code.BAD_REQUEST,),
    ),
    Route(
        *("GET", _ONE, _info, "Show the current version", _TAG),
        data=responses.ContainerInfoData,
        codes=(Code.NAME_HAS_DASH, Code.INFO_NOT_FOUND),
    ),
    Route(
        *("GET", f"{_ONE}/history", _history, "Show every version", _TAG),
        data=responses.ContainerHistoryData,
        codes=(Code.NAME_HAS_DASH, Code.HISTORY_NOT_FOUND),
    ),
    _command(
        *("PATCH", _ONE, "patch", _with_body("patch", schemas.parse_patch)),
        "Change GPUs, a bind or limits; the system disk comes along",
        data=responses.ContainerData,
        body=requests.PatchBody,
        codes=(*_NAMED, *_GPUS, *_SIZES, *_BINDS, *_PLACED, Code.NOTHING_TO_PATCH),
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
