"""What happens to GPUs besides the service's doing: faults, cures, processes of others, a boot."""

from collections import Counter
from random import Random

from events.gpu_health import GpuError, MissingGpu
from tests.kit.simulated_service import SimulatedHost

APPLICATION_XIDS = (13, 31)
HARDWARE_XIDS = (48, 79, 94)

AILMENTS: tuple[dict[str, object], ...] = (
    {"ecc_uncorrected": 1},
    {"ecc_uncorrected": 7},
    {"remap_pending": True},
    {"remap_failed": True},
    {"retirement_pending": True},
)


class GpuMeddlers:
    """Each call is one thing that happens to some GPU, or to all."""

    def __init__(self, host: SimulatedHost, met: Counter[str], rng: Random) -> None:
        self._probe = host.probe
        self._all = tuple(host.probe.shown)
        self._met = met
        self._rng = rng
        self._boots = 1

    async def change_one(self) -> None:
        """A GPU gets a fault, is well again, or gets processes of others; it may have both."""
        uuid = self._rng.choice(self._all).uuid
        pids = self._rng.choice(((), (), (4711,), (4711, 4712)))
        ailment = self._rng.choice((*AILMENTS, {}, {}, {}, {}))
        self._met[f"gpu: {next(iter(ailment), 'well')}"] += 1
        self._met["gpu: processes of others"] += bool(pids)
        self._probe.report(uuid, pids=pids, **ailment)

    async def fail_one(self) -> None:
        """The driver reports an error: of a program or the hardware, now and then twice."""
        xids = self._rng.choice((APPLICATION_XIDS, HARDWARE_XIDS))
        error = GpuError(self._rng.choice(self._all).uuid, self._rng.choice(xids), (4711,))
        self._met[f"gpu: XID {error.xid}"] += 1
        self._probe.fail(error)
        if self._rng.random() < 0.3:
            self._met["gpu: error told twice"] += 1
            self._probe.fail(*self._rng.choice(((error,), (error, error))))

    async def lose_one(self) -> None:
        """It falls off the bus, or does not answer; or it is just not there."""
        shown = self._probe.shown
        if shown:
            gone = shown.pop(self._rng.randrange(len(shown)))
            how = self._rng.choice(("lost", "mute", "away"))
            self._met[f"gpu: {how}"] += 1
            if how != "away":
                self._probe.missing.append(MissingGpu(gone.index, how == "lost", "no answer"))

    async def find_all(self) -> None:
        """Those that were lost are there again."""
        self._probe.shown[:] = self._all
        self._probe.missing.clear()

    def boot(self) -> None:
        """The host was booted: all are there, and reset."""
        self._met["gpu: boot"] += 1
        self._boots += 1
        self._probe.boot = f"boot-{self._boots}"
        self._probe.shown[:] = self._all
        self._probe.missing.clear()
        self._probe.reports.clear()

    def leave(self) -> None:
        """Nothing happens to them any more; what is sick stays so."""
        self._probe.trouble, self._probe.slow_s = "", 0.0
        self._probe.shown[:] = self._all
        self._probe.missing.clear()
