"""Routes that show replica sets and their versions: the list, info, history, and differences."""

import os
from collections.abc import Collection, Iterable, Sequence

from aiohttp import web
from msgspec import UNSET
from msgspec.structs import replace

from events.codec import show_time
from events.labels import LABEL_EFFECT
from events.values import is_name, split_at_version, versioned
from projections.lineage import Base, disk_holder
from projections.state import GpuUnit, Node, ReplicaSet, Revision, State
from service.disk_ports import FileChanges
from service.domain.changes import SpecChange, spec_changes
from service.domain.container_config import container_config
from service.errors import SystemDiskError
from service.web import schemas_checks as check
from service.web import schemas_responses as responses
from service.web import schemas_versions as versions
from service.web.container_ends import end_of
from service.web.context import CONTEXT, NodeFacts
from service.web.envelope import answer, refuse
from service.web.event_secrets import marked_in
from service.web.gpu_rows import sick_of
from service.web.problems import Code, Problem, disk_gone, not_comparable, not_found
from service.web.routes import API, Query, Route, number_in
from service.web.schemas_fields import (
    VERSION_MAX,
)
from service.web.secrets import hidden_changes, hidden_env, shows_secrets

PAGE_MAX = 1_000

_ONE = f"{API}/replicaSet/{{name}}"
_TAG = "Replica sets"


async def _list(request: web.Request) -> web.Response:
    context = request.app[CONTEXT]
    limit = number_in(request, "limit", PAGE_MAX, 1, PAGE_MAX)
    after = request.query.get("after", "")
    debug_of = _debug_of(request)
    there = [
        one
        for one in await context.reads.replica_sets()
        if one.current and one.name > after and _is_copy(one, debug_of)
    ]
    units = await context.reads.gpus()
    rows: list[responses.ReplicaSetSummary] = []
    for replica_set in there[:limit]:
        revision = await context.reads.revision(replica_set.name, replica_set.current)
        if revision is not None:  # between the two reads it can have been undone
            rows.append(_summary(replica_set, revision, units))
    following = there[limit - 1].name if len(there) > limit else None
    return answer(responses.ReplicaSetsData(rows, following))


def _debug_of(request: web.Request) -> str | None:
    """Whose debug copies are asked for: a replica set's, or a version's. None for all there is."""
    text = request.query.get("debugOf")
    if text is None or is_name(text) or split_at_version(text) is not None:
        return text
    raise check.bad("debugOf", f"is {check.shown(text)}; give a name, or a version such as foo@3")


def _is_copy(replica_set: ReplicaSet, of: str | None) -> bool:
    name = replica_set.debug_of.partition("@")[0]
    return of is None or of in (replica_set.debug_of, name)


def _summary(
    replica_set: ReplicaSet, revision: Revision, units: Sequence[GpuUnit]
) -> responses.ReplicaSetSummary:
    return responses.ReplicaSetSummary(
        name=replica_set.name,
        version=revision.number,
        container_name=versioned(revision.name, revision.number),
        phase=replica_set.phase,
        container=revision.container,
        image_name=revision.spec.image,
        gpu_count=revision.spec.gpu_count,
        gpus=list(revision.gpus),
        gpus_sick=sick_of(units, revision),
        ports=[responses.PortData(p.container_port, p.host_port) for p in revision.ports],
        create_time=show_time(revision.created_us),
        operation_id=replica_set.operation,
        debug_of=revision.debug_of or UNSET,
        **end_of(replica_set, revision),
    )


async def _info(request: web.Request) -> web.Response:
    context = request.app[CONTEXT]
    name = check.name(request.match_info["name"], "name")
    found = await context.reads.replica_set(name)
    revision = None
    if found is not None and found.current:
        revision = await context.reads.revision(name, found.current)
    if found is None or revision is None:
        return refuse(_no_such(Code.INFO_NOT_FOUND, name))
    shown = _info_of(revision, context.node(), _hidden_keys(request, name, [revision]))
    sick = sick_of(await context.reads.gpus(), revision)
    seen = {"phase": found.phase, "container": revision.container, **end_of(found, revision)}
    return answer(versions.ContainerInfoData(replace(shown, gpus_sick=sick, **seen)))


async def _history(request: web.Request) -> web.Response:
    """Also of a replica set that was deleted: its history is all that is left of it."""
    context = request.app[CONTEXT]
    name = check.name(request.match_info["name"], "name")
    revisions = await context.reads.revisions(name)
    if not revisions:
        return refuse(_no_such(Code.HISTORY_NOT_FOUND, name))
    node, known, hidden = context.node(), _folded(revisions), _hidden_keys(request, name, revisions)
    rows = [_version(revision, known, node, hidden) for revision in revisions]
    return answer(versions.ContainerHistoryData(rows))


def _hidden_keys(
    request: web.Request, name: str, revisions: Iterable[Revision]
) -> Collection[str] | None:
    """The keys that are marked as secret in any version of a replica set; None for who sees all."""
    if shows_secrets(request):
        return None
    marked = {key for revision in revisions for key in revision.spec.secret_env}
    return marked | marked_in(request.app[CONTEXT].feed.state, name)


def _folded(revisions: Sequence[Revision]) -> State:
    """As much of the state as the rules of lineage look at."""
    state = State()
    state.revisions = {(revision.name, revision.number): revision for revision in revisions}
    return state


def _version(
    revision: Revision, known: State, node: NodeFacts, hidden: Collection[str] | None
) -> versions.ContainerVersion:
    info = _info_of(revision, node, hidden)
    before = known.revisions.get((revision.name, revision.supersedes or 0))
    holder = disk_holder(known, revision)
    kept = holder.snapshot is not None and not holder.expiring
    back_to = revision.rolled_back_to
    return versions.ContainerVersion(
        version=info.version,
        create_time=info.create_time,
        status=info,
        verb=revision.cause,
        disk_kept=kept,
        disk_bytes=holder.snapshot_bytes if kept else None,
        pinned=holder.pinned,
        disk_gone=_gone(holder),
        disk_with=None if holder is revision else holder.number,
        changed=[] if before is None else _changes(before, revision, hidden),
        rolled_back_to=UNSET if back_to is None else back_to,
    )


def _changes(
    old: Revision, new: Revision, hidden: Collection[str] | None
) -> list[SpecChange]:
    changes = spec_changes(old.spec, new.spec)
    return list(changes) if hidden is None else hidden_changes(changes, hidden)


def _gone(holder: Revision) -> str:
    """Why the system disk that a revision holds cannot be had any more; empty when it can."""
    if holder.snapshot is not None:
        return holder.expiring
    if holder.container != "removed":
        return ""
    return holder.gone or "it was removed with its container"


def _info_of(
    revision: Revision, node: NodeFacts, hidden: Collection[str] | None
) -> versions.ContainerInfo:
    """A version as Docker's API spells it, with the secrets in its environment or without."""
    owner = Node(node.node, node.owner)
    base = Base(revision.spec.image, "", (), ())
    config = container_config(revision, base, owner, effect_id="")
    # Which effect made the container is a matter between the service and Docker.
    config["Labels"].pop(LABEL_EFFECT, None)
    if hidden is not None:
        config["Env"] = hidden_env(config["Env"], hidden)
    host_config = config.pop("HostConfig")
    networking_config = config.pop("NetworkingConfig")
    return versions.ContainerInfo(
        version=revision.number,
        create_time=show_time(revision.created_us),
        config=config,
        host_config=host_config,
        networking_config=networking_config,
        platform=None,
        container_name=versioned(revision.name, revision.number),
        gpus=list(revision.gpus),
        on_exit=revision.spec.on_exit,
        max_retries=revision.spec.max_retries,
        on_gpu_lost=revision.spec.on_gpu_lost,
        debug_of=revision.debug_of or UNSET,
    )


async def _diff(request: web.Request) -> web.Response:
    """Specs come from the rows, also of what was deleted; files from the disks themselves."""
    context = request.app[CONTEXT]
    name = check.name(request.match_info["name"], "name")
    if "from" not in request.query:
        raise check.bad("from", "is missing; give the version to compare with")
    found = await context.reads.replica_set(name)
    revisions = await context.reads.revisions(name)
    if found is None or not revisions:
        return refuse(_no_such(Code.HISTORY_NOT_FOUND, name))
    if not found.current and "to" not in request.query:
        text = f"{name} was deleted; give the version to compare as `to`"
        return refuse(not_found(Code.HISTORY_NOT_FOUND, text, "replica_set_not_found"))
    old = number_in(request, "from", 1, 1, VERSION_MAX)
    new = number_in(request, "to", found.current, 1, VERSION_MAX)
    with_files = number_in(request, "files", 1, 0, 1)
    if with_files and context.is_past:
        raise check.bad("at", "is for specs, files are compared as they are now; give files=0 too")
    known = _folded(revisions)
    for number in (old, new):
        if (name, number) not in known.revisions:
            text = f"{name} has no version {number}"
            return refuse(not_found(Code.HISTORY_NOT_FOUND, text, "revision_not_found"))
    between = (known.revisions[name, old], known.revisions[name, new])
    files = None
    if with_files:
        for revision in between:
            if why := _gone(disk_holder(known, revision)):
                disk = f"the system disk of {versioned(name, revision.number)}"
                text = f"{disk} is not kept any more ({why}); with files=0 the specs are compared"
                return refuse(disk_gone(text))
        try:
            files = _files(await context.disk_diff.changes(name, old, new))
        except SystemDiskError as error:
            return refuse(not_comparable(error))
    spec = _changes(*between, _hidden_keys(request, name, revisions))
    return answer(versions.DiffData(name, old, new, spec, files))


def _files(changes: FileChanges) -> versions.FilesData:
    return versions.FilesData(
        added=changes.added,
        changed=changes.changed,
        deleted=changes.deleted,
        listed=[
            # A name is any bytes to Linux; those that are no text read "\\xNN".
            versions.FileChangeData(
                os.fsencode(file.path).decode(errors="backslashreplace"), file.kind, file.size_bytes
            )
            for file in changes.files
        ],
        truncated=changes.added + changes.changed + changes.deleted > len(changes.files),
    )


def _no_such(code: Code, name: str) -> Problem:
    return not_found(code, f"there is no replica set {name}", "replica_set_not_found")


ROUTES = (
    Route(
        *("GET", f"{API}/replicaSet", _list, "List the replica sets", _TAG),
        data=responses.ReplicaSetsData,
        queries=(
            Query(
                "limit", f"How many at most, up to {PAGE_MAX}.", "integer", least=1, most=PAGE_MAX
            ),
            Query("after", "Only names behind this one: `next` of the page before."),
            Query("debugOf", "Only debug copies of this replica set, or of this version (foo@3)."),
        ),
        codes=(Code.BAD_REQUEST,),
    ),
    Route(
        *("GET", _ONE, _info, "Show the current version", _TAG),
        data=versions.ContainerInfoData,
        codes=(Code.NAME_HAS_DASH, Code.INFO_NOT_FOUND),
    ),
    Route(
        *("GET", f"{_ONE}/history", _history, "Show every version", _TAG),
        data=versions.ContainerHistoryData,
        codes=(Code.NAME_HAS_DASH, Code.HISTORY_NOT_FOUND),
    ),
    Route(
        *("GET", f"{_ONE}/diff", _diff, "Show what is other in one version than in another", _TAG),
        data=versions.DiffData,
        queries=(
            Query(
                "from", "The older version.", "integer", needed=True, least=1, most=VERSION_MAX
            ),
            Query(
                "to",
                "The newer one; without it the current one.",
                "integer",
                least=1,
                most=VERSION_MAX,
            ),
            Query(
                "files", "0 leaves the files of the system disks out.", "integer", least=0, most=1
            ),
        ),
        codes=(
            *(Code.BAD_REQUEST, Code.NAME_HAS_DASH, Code.HISTORY_NOT_FOUND),
            *(Code.SYSTEM_DISK_GONE, Code.DISKS_NOT_COMPARABLE, Code.ENGINE_UNAVAILABLE),
        ),
    ),
)
