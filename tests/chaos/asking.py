"""What the clients ask for: random commands on few names, valid and invalid ones."""

from random import Random
from typing import Any

import msgspec
from msgspec import Struct

NAMES = ("ann", "bob", "cid", "dee", "eve")
VOLUMES = ("vol", "wal", "xen")
IMAGE, OTHER_IMAGE = "busybox:test", "other:test"
MISSING_IMAGE = "nowhere.invalid/none:1"
SIZES = ("20MB", "24MB", "32MB", "48MB")
DATA_DISK = "/root/foo-tmp"
DISK_MARKS = "/marks"

STAYS = ("sh", "-c", "exec sleep 100000")
ENDS_BY_ITSELF = ("sh", "-c", "sleep 3; exit 7")
CANNOT_RUN = ("/no/such/program",)

# $1 is where, $2 the ticket: a file of its own for each write, so that none hides another.
_ON_DISK = 'mkdir -p "$1" && echo "$2" > "$1/$2"'
_ON_VOLUME = 'grep -q " $1 " /proc/mounts && echo "$2" > "$1/$2"'
_MARK = "mark"


class Asked(Struct, frozen=True):
    """A request to the API, below /api/v1."""

    verb: str
    method: str
    path: str
    content: bytes = b"{}"


class View(Struct):
    """What a client last saw; by the time it asks, it may be otherwise."""

    phases: dict[str, str] = {}
    versions: dict[str, int] = {}
    volumes: dict[str, int] = {}
    busy: set[str] = set()
    """Replica sets with an operation in progress."""


class Mark(Struct, frozen=True):
    """A write that a client asked for: the file `ticket`, with its name in it, at `where`."""

    where: str
    ticket: str


def mark_command(mark: Mark) -> list[str]:
    """The command that makes a mark; it fails where the volume is not mounted."""
    script = _ON_DISK if mark.where == DISK_MARKS else _ON_VOLUME
    return ["sh", "-c", script, _MARK, mark.where, mark.ticket]


def mark_of(cmd: tuple[str, ...]) -> Mark | None:
    """The mark that a command makes; None of a command that is none of these."""
    return Mark(cmd[4], cmd[5]) if len(cmd) == 6 and cmd[3] == _MARK else None


def random_command(rng: Random, view: View, ticket: str) -> Asked:
    """Mostly of what is there, now and then of what is not or of what makes no sense."""
    if rng.random() < 0.07:
        return _senseless(rng)
    if rng.random() < 0.15:
        return _volume(rng, view)
    name = rng.choice(NAMES)
    if name in view.busy and rng.random() < 0.7:
        name = rng.choice([one for one in NAMES if one not in view.busy] or NAMES)
    phase = view.phases.get(name, "")
    if not phase and rng.random() < 0.9:
        debugs = bool(view.phases) and rng.random() < 0.3
        return _debug(rng, view, name) if debugs else _run(rng, view, name)
    if phase in _WAY_BACK and rng.random() < 0.5:
        return _bare(_WAY_BACK[phase], name)
    match rng.choice("eeeeeeeeepppppppppbbbrrscckddnu"):
        case "e":
            return _execute(rng, name, ticket)
        case "p":
            return _asked("patch", "PATCH", f"/replicaSet/{name}", **_patch(rng, view, name))
        case "b":
            return _versioned(rng, view, "rollback", name)
        case "n":
            return _versioned(rng, view, "pin", name)
        case "u":
            return _versioned(rng, view, "unpin", name)
        case "k":
            image = f"saved:{rng.randint(1, 4)}"
            return _asked("commit", "POST", f"/replicaSet/{name}/commit", newImageName=image)
        case "d":
            return _asked("delete", "DELETE", f"/replicaSet/{name}")
        case letter:
            return _bare({"r": "restart", "s": "stop", "c": rng.choice(_HALTS)}[letter], name)


_WAY_BACK = {"stopped": "restart", "paused": "continue"}
_HALTS = ("pause", "pause", "continue")


def _bare(verb: str, name: str) -> Asked:
    return _asked(verb, "PATCH", f"/replicaSet/{name}/{verb}")


def _asked(verb: str, method: str, path: str, **body: Any) -> Asked:
    return Asked(verb, method, path, msgspec.json.encode(body))


def _run(rng: Random, view: View, name: str) -> Asked:
    body: dict[str, Any] = {
        "replicaSetName": name,
        "imageName": rng.choice((*[IMAGE] * 16, OTHER_IMAGE, MISSING_IMAGE)),
        "gpuCount": rng.choice((0, 1, 1, 2)),
        "cmd": list(rng.choice((*[STAYS] * 20, ENDS_BY_ITSELF, CANNOT_RUN))),
        "containerPorts": rng.choice(([], ["80"], ["80", "53/udp"])),
        "binds": _binds(rng, view, name) if rng.random() < 0.6 else [],
    }
    if rng.random() < 0.15:
        body["dataDisk"] = {"size": rng.choice(SIZES)}
    if rng.random() < 0.3:
        body["memory"] = rng.choice(("64MB", "128MB"))
    return _asked("run", "POST", "/replicaSet", **body)


def _volume_for(rng: Random, name: str) -> str:
    """Mostly the same one for a replica set, so that what is written goes where it is mounted."""
    own = VOLUMES[NAMES.index(name) % len(VOLUMES)]
    return own if rng.random() < 0.8 else rng.choice(VOLUMES)


def _binds(rng: Random, view: View, name: str) -> list[dict[str, str]]:
    volume = _volume_for(rng, name)
    return [{"src": f"{volume}-{view.volumes.get(volume, 1)}", "dest": f"/vol/{volume}"}]


def _patch(rng: Random, view: View, name: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for _ in range(rng.choice((1, 1, 1, 2))):
        match rng.choice("gggmmccebiox"):
            case "g":
                fields["gpuPatch"] = {"gpuCount": rng.choice((0, 1, 1, 2, 2, 3))}
            case "m":
                fields["memory"] = rng.choice(("0", "64MB", "96MB", "128MB"))
            case "c":
                fields["cpus"] = rng.choice((0, 0.5, 1, 1.5))
            case "e":
                fields["env"] = rng.choice((["A=1"], ["A=2", "B=1"], ["A"]))
            case "b":
                fields["binds"] = _binds(rng, view, name)
                if rng.random() < 0.3:
                    fields["binds"][0]["src"] = ""
            case "i":
                fields["imageName"] = rng.choice((IMAGE, OTHER_IMAGE, MISSING_IMAGE))
            case "o":
                fields["containerPorts"] = rng.choice(([], ["80"], ["81"], ["80", "81"]))
            case _:
                pass  # nothing: the container is made anew as it is
    return fields


def _versioned(rng: Random, view: View, verb: str, name: str) -> Asked:
    newest = view.versions.get(name, 1)
    version = rng.choice((rng.randint(1, newest), max(1, newest - 1), newest, 9_999))
    return _asked(verb, "PATCH", f"/replicaSet/{name}/{verb}", version=version)


def _debug(rng: Random, view: View, copy: str) -> Asked:
    of = rng.choice(sorted(view.phases))
    more = {} if rng.random() < 0.3 else {"cmd": STAYS}
    asked = {"version": rng.randint(1, view.versions.get(of, 1)), "as": copy, **more}
    return _asked("debug", "POST", f"/replicaSet/{of}/debug", **asked)


def _execute(rng: Random, name: str, ticket: str) -> Asked:
    volume = f"/vol/{_volume_for(rng, name)}" if rng.random() < 0.8 else DATA_DISK
    where = DISK_MARKS if rng.random() < 0.6 else volume
    cmd = mark_command(Mark(where, ticket))
    return _asked("execute", "POST", f"/replicaSet/{name}/execute", cmd=cmd)


def _volume(rng: Random, view: View) -> Asked:
    known = sorted(view.volumes) or VOLUMES
    name, size = rng.choice((*VOLUMES, *known, rng.choice(NAMES))), rng.choice(SIZES)
    if name not in view.volumes and name in VOLUMES:
        return _asked("create", "POST", "/volumes", name=name, size=size)
    if rng.random() < 0.75:
        return _asked("resize", "PATCH", f"/volumes/{name}/size", size=size)
    return _asked("delete", "DELETE", f"/volumes/{name}")


def _senseless(rng: Random) -> Asked:
    """What has to be refused, whatever there is."""
    run = {"imageName": IMAGE, "replicaSetName": "ann"}
    return rng.choice(
        (
            Asked("run", "POST", "/replicaSet", b'{"imageName": "busybox'),
            _asked("run", "POST", "/replicaSet", **run, gpuCount=-1),
            _asked("run", "POST", "/replicaSet", **run, nobodyKnows=1),
            _asked("run", "POST", "/replicaSet", imageName=IMAGE, replicaSetName="a-b"),
            _asked("run", "POST", "/replicaSet", imageName="", replicaSetName="ann"),
            _asked("patch", "PATCH", "/replicaSet/nobody", memory="64MB"),
            _asked("patch", "PATCH", "/replicaSet/ann", memory="1PB"),
            _asked("rollback", "PATCH", "/replicaSet/ann/rollback", version=-1),
            _asked("debug", "POST", "/replicaSet/ann/debug", version=1),
            _asked("execute", "POST", "/replicaSet/ann/execute"),
            _asked("create", "POST", "/volumes", name="vol", size="much"),
            _asked("resize", "PATCH", "/volumes/nobody/size", size="32MB"),
            _asked("delete", "DELETE", "/volumes/nobody"),
            _asked("stop", "PATCH", "/replicaSet/nobody/stop"),
        )
    )
