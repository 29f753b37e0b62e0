"""The scene: engine, service and its nats-server, each to be killed and to come back."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic

import httpx
from msgspec import Struct

from service.adapters.nats_child import RESTARTS_MAX
from tests.chaos.asking import IMAGE, OTHER_IMAGE
from tests.chaos.faults import ChaosStopped
from tests.kit.busybox import import_image
from tests.kit.dockerd import PrivateDockerd
from tests.kit.nvml_stub import NvmlStub
from tests.kit.service_process import ServiceProcess

GPUS = 4
KEEP_REVISIONS = 3
PROBE = "probe"
"""A replica set that the clients do not know: a command on it is never in anybody's way."""

START_S_MAX = 60.0
RECOVERY_S_MAX = 90.0
_LOOK_EVERY_S = 0.01


class Options(Struct, frozen=True):
    """What the service is started with, beside what every run has."""

    system_disk: str = "auto"
    ports: tuple[int, int] = (31_700, 31_749)
    """Below the kernel's range for outgoing connections, beside those that tests lend."""


class Scene:
    """`url` is where the service is, or was before it was killed."""

    def __init__(
        self,
        folder: Path,
        engine: PrivateDockerd,
        options: Options,
        process: type[ServiceProcess] = ServiceProcess,
    ) -> None:
        """`process` is what the service is run as."""
        self.folder = folder
        self.engine = engine
        self.ports = options.ports
        self.data_dir = folder / "data"
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        driver = NvmlStub(folder / "nvml")
        driver.write(GPUS)
        first, last = options.ports
        self.service = process(
            self.data_dir,
            engine.url,
            gpus="auto",
            flags=[
                *("--port-range", f"{first}-{last}", "--keep-revisions", str(KEEP_REVISIONS)),
                *("--volume-backend", "loop", "--gpu-runtime", "nvidia"),
                *("--system-disk", options.system_disk),
            ],
            env={**driver.env, "TMPDIR": str(self.temporary)},
        )
        self.starts_in_vain: list[str] = []
        """Starts of the service that ended by themselves, in its own words; it was tried again."""
        self._service_lock = threading.Lock()
        """So that nats-server is not looked for while there is no service."""
        self._nats_deaths = 0

    @property
    def url(self) -> str:
        return self.service.url

    def kill_service(self, down_s: float, kill_start_after_s: float | None) -> tuple[float, int]:
        """SIGKILL it and start it again: when its last start began, how often it was killed.

        With `kill_start_after_s` the first start is killed too, so long after it began or as
        soon as it serves.
        """
        with self._service_lock:
            self.service.kill()
            time.sleep(down_s)
            if kill_start_after_s is not None:
                self._start_and_kill(kill_start_after_s)
            began_at = monotonic()
            self.start_service()
        return began_at, 1 if kill_start_after_s is None else 2

    def start_service(self) -> None:
        """Try until it serves, as systemd would. Raises ChaosStopped."""
        deadline = monotonic() + START_S_MAX
        while True:
            try:
                self.service.start()
            except AssertionError as error:
                self.starts_in_vain.append(str(error).splitlines()[-1])
                if monotonic() > deadline:
                    raise ChaosStopped(f"the service does not start: {error}") from error
                time.sleep(0.5)
            else:
                self._nats_deaths = 0
                return

    def kill_nats_server(self) -> bool:
        """SIGKILL the service's child, which it starts again; False when it was not killed.

        That is when the service would soon give up on it, as it does after some deaths.
        """
        with self._service_lock:
            if self._nats_deaths == RESTARTS_MAX - 1:
                return False
            os.kill(self.service.nats_pid, signal.SIGKILL)
            self._nats_deaths += 1
            return True

    def kill_engine(self, down_s: float) -> None:
        """SIGKILL dockerd, and start it again; returns when it answers."""
        self.engine.kill()
        time.sleep(down_s)
        self.engine.start()

    def freeze_engine(self, for_s: float) -> None:
        """SIGSTOP dockerd for so long: it takes connections and answers nothing."""
        pid = self.engine.pid
        if pid is None:
            raise ChaosStopped(f"dockerd ended by itself:\n{self.engine.log_tail()}")
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(for_s)
        finally:
            os.kill(pid, signal.SIGCONT)

    def recover(self) -> None:
        """Return when /readyz is 200 and a new command is accepted. Raises ChaosStopped."""
        deadline = monotonic() + RECOVERY_S_MAX
        said = ""
        with httpx.Client(timeout=5) as http:
            while monotonic() < deadline:
                try:
                    ready = http.get(f"{self.url}/readyz")
                    said = ready.text
                    if ready.status_code == httpx.codes.OK:
                        answer = http.patch(
                            f"{self.url}/api/v1/replicaSet/{PROBE}/pin", json={"version": 1}
                        )
                        if answer.status_code == httpx.codes.OK:
                            return
                        said = answer.text
                except httpx.HTTPError as error:
                    said = repr(error)
                time.sleep(_LOOK_EVERY_S)
        raise ChaosStopped(f"not ready again after {RECOVERY_S_MAX:.0f} s: {said}")

    def keep_logs(self) -> None:
        """Put what the engine said into the folder, before its own is removed."""
        for log in self.engine.folder.glob("*.log"):
            shutil.copy(log, self.folder)

    def _start_and_kill(self, after_s: float) -> None:
        served = threading.Event()

        def kill() -> None:
            if not served.wait(after_s):
                os.kill(self.service.pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            self.service.start()
        except AssertionError:
            return  # killed before it served
        finally:
            served.set()
            killer.join()
        self.service.kill()


@contextmanager
def set_up(folder: Path, options: Options) -> Iterator[Scene]:
    """Everything up, with the images and the probe; it is gone afterwards, the folder stays."""
    with PrivateDockerd() as engine, ExitStack() as held:
        engine.import_busybox_image(IMAGE)
        with engine.client() as client:
            import_image(client.api, OTHER_IMAGE)
        scene = Scene(folder, engine, options)
        held.callback(scene.keep_logs)
        held.push(scene.service)  # it ends in order, if it runs then
        scene.start_service()
        scene.service.run(PROBE).ok()
        yield scene
