"""The contract server's routes, on its world.

A command is done at once; its operation only ends some polls later.
"""

from typing import Any

from aiohttp import web

from tests.kit.contract_billing import BillingRoutes
from tests.kit.contract_gpus import GpuRoutes, ok
from tests.kit.contract_orphans import OrphanRoutes
from tests.kit.contract_versions import files_of, history_of, info_of, spec_changes
from tests.kit.contract_webhooks import WebhookRoutes
from tests.kit.contract_world import (
    BODY,
    CREATED,
    PORT_FIRST,
    PORT_LAST,
    Operation,
    Refused,
    ReplicaSet,
    Version,
    World,
)


class Routes:
    """The handlers."""

    def __init__(self, world: World) -> None:
        self.world = world

    def table(self) -> list[web.RouteDef]:
        """Every route with its handler."""
        one, volume = "/api/v1/replicaSet/{name}", "/api/v1/volumes/{name}"
        return [
            web.get("/api/v1/replicaSet", self.listing),
            web.post("/api/v1/replicaSet", self.run),
            web.get(one, self.info),
            web.patch(one, self.patch),
            web.delete(one, self.delete),
            web.get(f"{one}/history", self.history),
            web.get(f"{one}/diff", self.diff),
            web.post(f"{one}/commit", self.commit),
            web.post(f"{one}/execute", self.execute),
            web.post(f"{one}/debug", self.debug),
            web.patch(one + "/{verb:rollback|restart}", self.patch),
            web.patch(one + "/{verb:stop|pause|continue}", self.change_phase),
            web.patch(one + "/{verb:pin|unpin}", self.pin),
            web.get("/api/v1/volumes", self.list_volumes),
            web.post("/api/v1/volumes", self.create_volume),
            web.get(volume, self.volume_info),
            web.get(f"{volume}/history", self.volume_history),
            web.patch(f"{volume}/size", self.resize_volume),
            web.delete(volume, self.delete_volume),
            *GpuRoutes(self.world, self.holder_of).table(),
            *OrphanRoutes(self.world).table(),
            *BillingRoutes(self.world).table(),
            *WebhookRoutes(self.world).table(),
            web.get("/api/v1/resources/ports", self.ports),
            web.get("/api/v1/node", self.node),
            web.get("/api/v1/changes", self.changes),
            web.get("/api/v1/explain/{kind}/{what}", self.explain),
            web.get("/api/v1/operations/{id}", self.operation),
        ]

    async def listing(self, request: web.Request) -> web.Response:
        names = [n for n in sorted(self.world.sets) if n > request.query.get("after", "")]
        page = names[: self.world.page]
        rows = [self._row(name) for name in page]
        more = len(names) > len(page)
        return ok({"replicaSets": rows, "next": page[-1] if more else None})

    async def run(self, request: web.Request) -> web.Response:
        body = request[BODY]
        name = body["replicaSetName"]
        if "-" in name:
            raise Refused(400, 1003, "replicaSetName must not contain a dash")
        if name in self.world.sets:
            raise Refused(409, 1008, f"{name} exists")
        self._renew(name, "run", body)
        return self._accept(request, "run", name, {"name": f"{name}-1"})

    async def patch(self, request: web.Request) -> web.Response:
        name, found = self._found(request, 1007)
        verb = request.match_info.get("verb", "patch")
        body = dict(found.versions[-1].body)
        asked = request[BODY]
        if verb == "rollback":
            if asked["version"] > len(found.versions):
                raise Refused(404, 1021, f"{name} has no version {asked['version']}")
            body = found.versions[asked["version"] - 1].body
        body["gpuCount"] = asked.get("gpuPatch", {}).get("gpuCount", body.get("gpuCount", 0))
        number = self._renew(name, verb, body)
        result: dict[str, Any] = {"containerName": f"{name}-{number}"}
        if verb == "rollback":
            self.world.sets[name].versions[-1].shown["rolledBackTo"] = asked["version"]
        if self.world.not_carried:
            result["notCarried"] = self.world.not_carried
        return self._accept(request, verb, name, result)

    async def change_phase(self, request: web.Request) -> web.Response:
        name, found = self._found(request, 1010)
        verb = request.match_info["verb"]
        found.phase = {"stop": "stopped", "pause": "paused", "continue": "running"}[verb]
        return self._accept(request, verb, name, None)

    async def delete(self, request: web.Request) -> web.Response:
        name, found = self._found(request, 1005)
        self.world.deleted[name] = self.world.sets.pop(name, found)
        return self._accept(request, "delete", name, None)

    async def commit(self, request: web.Request) -> web.Response:
        name, _found = self._found(request, 1015)
        result = {"imageName": request[BODY]["newImageName"]}
        return self._accept(request, "commit", name, result)

    async def execute(self, request: web.Request) -> web.Response:
        """A container that knows `echo TEXT`, `fail CODE TEXT` and `pwd`."""
        _name, _found = self._found(request, 1006)
        body = request[BODY]
        program, *arguments = body["cmd"]
        outcome = {"stdout": "", "stderr": "", "exitCode": 0, "truncated": False}
        if program == "echo":
            outcome["stdout"] = " ".join(arguments) + "\n"
        elif program == "fail":
            outcome |= {"exitCode": int(arguments[0]), "stderr": f"{arguments[1]}\n"}
        elif program == "pwd":
            outcome["stdout"] = body.get("workDir", "/") + "\n"
        return ok(outcome)

    async def debug(self, request: web.Request) -> web.Response:
        name, _found = self._found(request, 1125)
        asked = request[BODY]
        copy, of = asked["as"], f"{name}@{asked['version']}"
        body = {"imageName": "busybox", **asked}
        self._renew(copy, "debug", body)
        self.world.sets[copy].end["debugOf"] = of
        return self._accept(request, "debug", copy, {"name": f"{copy}-1", "debugOf": of})

    async def info(self, request: web.Request) -> web.Response:
        name, found = self._found(request, 1016)
        return ok({"info": {**info_of(name, found.versions[-1]), **found.end}})

    async def history(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        found = self.world.deleted.get(name) or self._found(request, 1017)[1]
        return ok({"history": history_of(name, found, counts=name in self.world.sets)})

    async def diff(self, request: web.Request) -> web.Response:
        name, found = self._found(request, 1017)
        query = request.query
        old, new = int(query["from"]), int(query.get("to", len(found.versions)))
        for number in (old, new):
            if not 1 <= number <= len(found.versions):
                raise Refused(404, 1017, f"{name} has no version {number}")
        with_files = query.get("files") != "0"
        spec = spec_changes(found.versions[old - 1], found.versions[new - 1])
        files = files_of(self.world) if with_files else None
        return ok({"name": name, "from": old, "to": new, "spec": spec, "files": files})

    async def pin(self, request: web.Request) -> web.Response:
        name, found = self._found(request, 1108)
        number, verb = request[BODY]["version"], request.match_info["verb"]
        if not 1 <= number <= len(found.versions):
            raise Refused(404, 1108, f"{name} has no version {number}")
        found.versions[number - 1].shown["pinned"] = verb == "pin"
        return self._accept(request, verb, name, None)

    async def list_volumes(self, request: web.Request) -> web.Response:
        rows = [
            {
                "name": name,
                "version": len(sizes),
                "volumeName": f"{name}-{len(sizes)}",
                "size": sizes[-1],
                "createTime": CREATED.isoformat(),
            }
            for name, sizes in sorted(self.world.volumes.items())
        ]
        return ok({"volumes": rows})

    async def create_volume(self, request: web.Request) -> web.Response:
        name, size = request[BODY]["name"], request[BODY]["size"]
        if name in self.world.volumes:
            raise Refused(409, 1026, f"volume {name} exists")
        self.world.volumes[name] = [size]
        return self._accept(request, "create", name, {"name": f"{name}-1", "size": size})

    async def resize_volume(self, request: web.Request) -> web.Response:
        name, sizes = self._volume(request)
        size = request[BODY]["size"]
        sizes.append(size)
        result = {"name": f"{name}-{len(sizes)}", "size": size}
        return self._accept(request, "resize", name, result)

    async def delete_volume(self, request: web.Request) -> web.Response:
        name, _sizes = self._volume(request)
        del self.world.volumes[name]
        return self._accept(request, "delete", name, None)

    async def volume_info(self, request: web.Request) -> web.Response:
        name, sizes = self._volume(request)
        return ok({"info": _volume_info(name, len(sizes), sizes[-1])})

    async def volume_history(self, request: web.Request) -> web.Response:
        name, sizes = self._volume(request)
        entries = [_volume_info(name, number, size) for number, size in enumerate(sizes, 1)]
        wrapped = [{**entry, "status": entry} for entry in reversed(entries)]
        return ok({"history": wrapped})

    async def ports(self, request: web.Request) -> web.Response:
        details = [
            {"hostPort": host, "containerPort": port, "holder": self._container(name)}
            for name, found in sorted(self.world.sets.items())
            for port, host in found.versions[-1].ports.items()
        ]
        return ok(
            {
                "ports": {
                    "StartPort": PORT_FIRST,
                    "EndPort": PORT_LAST,
                    "AvailableCount": PORT_LAST - PORT_FIRST + 1 - len(details),
                    "UsedPortSet": {str(port["hostPort"]): {} for port in details},
                    "details": details,
                }
            }
        )

    async def explain(self, request: web.Request) -> web.Response:
        return ok(self.world.explanation or {"seq": 0, "answer": [], "chain": []})

    async def changes(self, request: web.Request) -> web.Response:
        nothing: dict[str, Any] = {"gpus": [], "ports": [], "replicaSets": [], "volumes": []}
        return ok(self.world.changes or {"from": 0, "to": 0, **nothing})

    async def node(self, request: web.Request) -> web.Response:
        return ok(
            {
                "node": "rig",
                "owner": "test",
                "version": "9.8.7",
                "versions": {"docker": "26.1.5"},
                "gpuRuntime": "simulated" if self.world.simulated else "cdi",
                "gpuDetail": "four GPUs",
                "diskDetail": "carried as directories (overlay2 on xfs)",
                "volumeDetail": "loop devices",
                "gpus": [],
            }
        )

    async def operation(self, request: web.Request) -> web.Response:
        operation = self.world.operations.get(request.match_info["id"])
        if operation is None:
            raise Refused(404, 1106, "no such operation")
        operation.polls_left -= 1
        return ok(_as_data(operation))

    def _accept(
        self, request: web.Request, verb: str, name: str, result: dict[str, Any] | None
    ) -> web.Response:
        """202 for who does not want to wait, else the result."""
        world = self.world
        if request.headers.get("Prefer") != "respond-async":
            return ok(result)
        operation_id = f"op{len(world.operations) + 1}"
        world.operations[operation_id] = Operation(
            operation_id, verb, name, result, world.polls_to_finish, world.fails
        )
        return ok({"operationId": operation_id, "seq": len(world.operations)}, status=202)

    def _found(self, request: web.Request, code: int) -> tuple[str, ReplicaSet]:
        name = request.match_info["name"]
        if self.world.away and request.method != "GET":
            raise Refused(503, 1104, "Docker does not answer")
        if name not in self.world.sets:
            raise Refused(404, code, f"there is no replica set {name}")
        return name, self.world.sets[name]

    def _volume(self, request: web.Request) -> tuple[str, list[str]]:
        name = request.match_info["name"]
        if name not in self.world.volumes:
            raise Refused(404, 1033, f"there is no volume {name}")
        return name, self.world.volumes[name]

    def _renew(self, name: str, verb: str, body: dict[str, Any]) -> int:
        """Put a new version in place, with GPUs and ports of its own; return its number."""
        held = self.world.sets.pop(name, None)
        free, count = self.world.free_gpus(), body.get("gpuCount", 0)
        if count > len(free):
            if held is not None:
                self.world.sets[name] = held
            raise Refused(409, 1013, f"{count} GPUs asked for, {len(free)} free")
        lent = {p for each in self.world.sets.values() for p in each.versions[-1].ports.values()}
        spare = (port for port in range(PORT_FIRST, PORT_LAST + 1) if port not in lent)
        ports = {f"{port}/tcp": next(spare) for port in body.get("containerPorts", [])}
        found = held or ReplicaSet("running", [])
        number = len(found.versions) + 1
        found.versions.append(Version(number, verb, body, free[:count], ports))
        self.world.sets[name] = found
        return number

    def _container(self, name: str) -> str:
        return f"{name}-{len(self.world.sets[name].versions)}"

    def holder_of(self, uuid: str) -> str | None:
        """The container that has a GPU."""
        sets = self.world.sets.items()
        held = (self._container(name) for name, it in sets if uuid in it.versions[-1].gpus)
        return next(held, None)

    def _row(self, name: str) -> dict[str, Any]:
        found = self.world.sets[name]
        version = found.versions[-1]
        ports = [{"containerPort": port, "hostPort": host} for port, host in version.ports.items()]
        return {
            "name": name,
            "version": version.number,
            "containerName": self._container(name),
            "phase": found.phase,
            "imageName": version.body["imageName"],
            "gpus": version.gpus,
            "ports": ports,
            "createTime": CREATED.isoformat(),
            **found.end,
        }


def _volume_info(name: str, number: int, size: str) -> dict[str, Any]:
    options = {"Driver": "local", "DriverOpts": {"size": size}, "Name": f"{name}-{number}"}
    return {"version": number, "createTime": CREATED.isoformat(), "opt": options}


def _as_data(operation: Operation) -> dict[str, Any]:
    ended = operation.polls_left <= 0
    state = ("failed" if operation.error else "succeeded") if ended else "running"
    return {
        "id": operation.id,
        "verb": operation.verb,
        "kind": "replica_set",
        "name": operation.name,
        "state": state,
        "acceptedTime": CREATED.isoformat(),
        "finishedTime": CREATED.isoformat() if ended else None,
        "steps": [{"at": CREATED.isoformat(), "text": "container created"}],
        "progress": None,
        "result": operation.result if state == "succeeded" else None,
        **((operation.error or {}) if state == "failed" else {}),
    }
