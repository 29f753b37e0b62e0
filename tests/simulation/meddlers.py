"""What happens on a host besides the service's doing: ends, people with `docker`, listeners."""

from random import Random

from events.labels import LABEL_KEPT_BY
from service.domain.reconcile import SNAPSHOT_REPOSITORY
from tests.kit.builders import OWNER
from tests.kit.simulated_service import SimulatedHost
from tests.kit.simulated_world import SimulatedImage
from tests.simulation.line import Seen

EXIT_CODES = (0, 1, 137, 139)


class Meddlers:
    """Each call is one thing that happens to some container, or to a host port."""

    def __init__(self, host: SimulatedHost, seen: Seen, rng: Random) -> None:
        self._world = host.world
        self._facts = host.facts
        self._seen = seen
        self._rng = rng

    async def end_one(self) -> None:
        """A container ends by itself."""
        if name := self._some("running"):
            self._world.end(name, self._rng.choice(EXIT_CODES))

    async def run_out_of_memory(self) -> None:
        """A container is killed for want of memory."""
        if name := self._some("running"):
            self._world.end(name, 137, oom_killed=True)

    async def remove_one(self) -> None:
        """`docker rm -f`."""
        if name := self._some("running", "exited", "created"):
            self._seen.removed.add(name)
            self._world.remove(name)

    async def start_one(self) -> None:
        """`docker start` of one that stands still; or `docker restart` of one that runs."""
        if name := self._some("running", "exited"):
            container = self._world.containers[name]
            self._world.begin(container)
            self._seen.meddled.setdefault(name, set()).add(container.started_at)

    async def take_gpus_away(self) -> None:
        """`systemctl daemon-reload`: no running container may use its GPUs from now on."""
        for container in self._world.containers.values():
            container.gpu_access = False

    async def give_gpus_back(self) -> None:
        """Somebody mends the device rules of the containers that run."""
        for container in self._world.containers.values():
            container.gpu_access = True

    async def leave_something(self) -> None:
        """An image in our name that no record knows, as of another ledger before this one."""
        image = SimulatedImage("sha256:old", labels={LABEL_KEPT_BY: OWNER})
        self._world.images[f"{SNAPSHOT_REPOSITORY}:old-1-op"] = image

    async def take_port(self) -> None:
        """Another process listens on a host port, for good or until somebody else does."""
        first, last = self._facts.port_first, self._facts.port_last
        self._world.listeners = {self._rng.randint(first, last)}

    def end_all(self) -> None:
        """The engine goes, and takes its containers with it."""
        for name, container in self._world.containers.items():
            if container.status == "running":
                self._world.end(name, self._rng.choice((137, 143)))

    def leave(self) -> None:
        """Nobody meddles any more."""
        self._world.listeners = set()

    def _some(self, *statuses: str) -> str:
        names = [n for n, c in self._world.containers.items() if c.status in statuses]
        return self._rng.choice(sorted(names)) if names else ""
