"""HostFacts: what decisions need to know of the host and the settings, as data."""

from collections.abc import Callable
from typing import Literal

from msgspec.structs import replace

from events.values import Carry, GpuRuntime
from projections.state import State
from service.application.engine_gate import EngineGate
from service.domain.commands import Facts

RuntimeChoice = Literal["auto", "nvidia", "cdi"]

DiskChoice = Literal["auto", "upper", "commit"]

_HOW = {"upper": "as directories", "commit": "by commit"}

CDI_NAME = "nvidia.com/gpu="


class HostFacts:
    """Call it for the facts as they are now."""

    def __init__(
        self,
        base: Facts,
        gate: EngineGate,
        state: Callable[[], State],
        gpus: GpuRuntime | None,
        choice: RuntimeChoice,
        system_disk: DiskChoice,
    ) -> None:
        """`gpus` is "simulated" or "none" when it is settled that no real ones are handed over.

        Otherwise `choice` says how they are: by hook, by CDI name, or by what the engine can.
        `system_disk` says how system disks are carried; "auto" is by directory where that works.
        """
        self._base = base
        self._gate = gate
        self._state = state
        self._gpus = gpus
        self._choice = choice
        self._system_disk = system_disk

    def __call__(self) -> Facts:
        """The facts for a command issued now."""
        probe = self._gate.disks
        return replace(
            self._base,
            gpu_runtime=self.gpu_runtime(),
            carry=self.carry(),
            clones_share_blocks=probe is not None and probe.reflink,
        )

    def carry(self) -> Carry:
        """How system disks are carried from now on."""
        if self._system_disk != "auto":
            return self._system_disk
        probe = self._gate.disks
        return "upper" if probe is not None and probe.works else "commit"

    def disk_detail(self) -> str:
        """One line for people: how system disks are carried, and why that way."""
        probe = self._gate.disks
        why = f" ({probe.detail})" if probe is not None else ""
        if self._system_disk != "auto":
            forced = f"--system-disk {self._system_disk}"
            return f"carried {_HOW[self._system_disk]}, as {forced} says{why}"
        if probe is None:
            return "how they are carried is not known before Docker answers"
        return f"carried {_HOW[self.carry()]}{why}"

    def gpu_runtime(self) -> GpuRuntime:
        """By CDI name only where the engine names every GPU: a stale spec breaks MIG."""
        if self._gpus is not None:
            return self._gpus
        if self._choice != "auto":
            return self._choice
        devices = set(self._gate.info.cdi_devices) if self._gate.info else set()
        present = [gpu.uuid for gpu in self._state().gpus.values() if gpu.present]
        named = bool(present) and all(f"{CDI_NAME}{uuid}" in devices for uuid in present)
        return "cdi" if named else "nvidia"
