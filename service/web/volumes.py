"""Routes of volumes. A path names a volume "bar", or "bar-2" to mean exactly that version."""

from aiohttp import web

from events.codec import show_time
from events.values import show_size, split_versioned, versioned
from projections.state import Volume, VolumeVersion
from service.domain.commands import DeleteVolume
from service.web import schemas
from service.web import schemas_checks as check
from service.web import schemas_requests as requests
from service.web import schemas_responses as responses
from service.web.context import CONTEXT
from service.web.envelope import answer, refuse
from service.web.problems import BadRequest, Code, not_found
from service.web.routes import API, Route
from service.web.submission import submit

_ONE = f"{API}/volumes/{{name}}"
_TAG = "Volumes"
_NAME_CODES = (Code.VOLUME_NAME_HAS_DASH, Code.VOLUME_NAME_IS_PATH)


async def _create(request: web.Request) -> web.Response:
    command, raw = schemas.parse_create_volume(await request.read())
    return await submit(request, ("volume", "create"), command, raw)


async def _resize(request: web.Request) -> web.Response:
    body = await request.read()
    name = await _current_name(request, Code.VOLUME_PATCH_FAILED)
    command, raw = schemas.parse_resize_volume(name, body)
    return await submit(request, ("volume", "resize"), command, raw)


async def _delete(request: web.Request) -> web.Response:
    name = await _current_name(request, Code.VOLUME_DELETE_FAILED)
    return await submit(request, ("volume", "delete"), DeleteVolume(name), {})


async def _info(request: web.Request) -> web.Response:
    name = await _current_name(request, Code.VOLUME_INFO_FAILED)
    found = await request.app[CONTEXT].reads.volume(name)
    current = None if found is None or found.deleted else _current(found)
    if current is None:
        return refuse(_no_such(Code.VOLUME_INFO_FAILED, name).problem)
    return answer(responses.VolumeInfoData(_info_of(name, current)))


async def _history(request: web.Request) -> web.Response:
    """Also of a volume that was deleted: its history is all that is left of it."""
    name = await _current_name(request, Code.VOLUME_HISTORY_FAILED)
    found = await request.app[CONTEXT].reads.volume(name)
    if found is None or not found.versions:
        return refuse(_no_such(Code.VOLUME_HISTORY_FAILED, name).problem)
    infos = [_info_of(name, version) for version in reversed(found.versions)]
    return answer(
        responses.VolumeHistoryData(
            [responses.VolumeVersionData(info.version, info.create_time, info) for info in infos]
        )
    )


async def _list(request: web.Request) -> web.Response:
    rows = []
    for volume in await request.app[CONTEXT].reads.volumes():
        current = _current(volume)
        if current is None:
            continue
        rows.append(
            responses.VolumeSummary(
                name=volume.name,
                version=current.number,
                volume_name=versioned(volume.name, current.number),
                size=show_size(current.size_bytes),
                size_bytes=current.size_bytes,
                create_time=show_time(current.created_us),
                operation_id=volume.operation,
            )
        )
    return answer(responses.VolumesData(rows))


async def _current_name(request: web.Request, code: Code) -> str:
    """The bare name in the path. Raises BadRequest (404) when it carries another version than
    the current one: who names a version means that one, not what came of it."""
    text = request.match_info["name"]
    split = split_versioned(text)
    if split is None:
        return check.name(text, "name", "volume")
    name, number = split
    found = await request.app[CONTEXT].reads.volume(name)
    if found is None or found.deleted or found.current != number:
        raise _no_such(code, text)
    return name


def _no_such(code: Code, name: str) -> BadRequest:
    problem = not_found(code, f"there is no volume {name}", "volume_not_found")
    return BadRequest(code, problem.message, status=problem.status, reason=problem.reason)


def _current(volume: Volume) -> VolumeVersion | None:
    return next((v for v in volume.versions if v.number == volume.current), None)


def _info_of(name: str, version: VolumeVersion) -> responses.VolumeInfo:
    options = responses.VolumeOptions(
        driver="local",
        driver_opts={"size": show_size(version.size_bytes)},
        name=versioned(name, version.number),
    )
    return responses.VolumeInfo(version.number, show_time(version.created_us), options)


ROUTES = (
    Route(
        *("POST", f"{API}/volumes", _create, "Make a volume", _TAG),
        data=responses.VolumeData,
        body=requests.CreateVolumeBody,
        action=("volume", "create"),
        codes=(
            *(Code.VOLUME_NAME_EMPTY, *_NAME_CODES),
            *(Code.VOLUME_EXISTS, Code.SIZE_UNIT_UNKNOWN),
        ),
    ),
    Route(
        *("GET", f"{API}/volumes", _list, "List the volumes", _TAG),
        data=responses.VolumesData,
    ),
    Route(
        *("GET", _ONE, _info, "Show the current version", _TAG),
        data=responses.VolumeInfoData,
        codes=(*_NAME_CODES, Code.VOLUME_INFO_FAILED),
    ),
    Route(
        *("GET", f"{_ONE}/history", _history, "Show every version", _TAG),
        data=responses.VolumeHistoryData,
        codes=(*_NAME_CODES, Code.VOLUME_HISTORY_FAILED),
    ),
    Route(
        *("PATCH", f"{_ONE}/size", _resize, "Give it another size; the data stays", _TAG),
        data=responses.VolumeData,
        body=requests.ResizeVolumeBody,
        action=("volume", "resize"),
        codes=(
            *(*_NAME_CODES, Code.SIZE_UNIT_UNKNOWN, Code.SAME_SIZE),
            *(Code.BELOW_USED, Code.VOLUME_BUSY),
        ),
    ),
    Route(
        *("DELETE", _ONE, _delete, "Remove it and its data", _TAG),
        action=("volume", "delete"),
        codes=(*_NAME_CODES, Code.VOLUME_BUSY),
    ),
)
