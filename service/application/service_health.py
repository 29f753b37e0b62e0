"""ServiceHealth: what /readyz says, from each part itself."""

import asyncio
from collections.abc import Callable

from projections.projector import Projector
from service.application.engine_gate import EngineGate
from service.application.health import Component
from service.application.host_facts import HostFacts
from service.application.supervisor import Supervisor
from service.application.watcher import Watcher
from service.errors import EngineUnavailable, LedgerError
from service.ports import Ledger

LAG_RECORDS_MAX = 5000
"""So far may the read store be behind the ledger before reads count as stale."""

ANSWER_S = 3.0


class ServiceHealth:
    """Asks the parts, in parallel and with a time limit."""

    def __init__(
        self,
        ledger: Ledger,
        projector: Projector,
        gate: EngineGate,
        watcher: Watcher,
        supervisor: Supervisor,
        facts: HostFacts,
        remarks: dict[str, Component],
        audit: Callable[[], Component] | None = None,
    ) -> None:
        self._ledger = ledger
        self._projector = projector
        self._gate = gate
        self._watcher = watcher
        self._supervisor = supervisor
        self._facts = facts
        self._remarks = remarks
        self._audit = audit

    async def report(self) -> dict[str, Component]:
        """Every component by name; see `service.application.health.Health`."""
        last_seq, docker = await asyncio.gather(self._last_seq(), self._docker())
        trouble = self._watcher.trouble
        gpus = Component(True, "looked at") if trouble is None else Component(False, trouble)
        report = {
            "ledger": last_seq if isinstance(last_seq, Component) else _ledger(last_seq),
            "projector": self._projector_component(last_seq),
            "docker": docker,
            "system disks": self._disks(),
            "gpus": gpus,
            **self._remarks,
        }
        if self._audit is not None:
            report["audit"] = self._audit()
        for name, failure in self._supervisor.failures.items():
            report[name] = Component(False, f"stopped: {failure}; restart the service")
        return report

    def _disks(self) -> Component:
        """Unwell when they are to be carried as directories, whatever it takes, and cannot be."""
        probe = self._gate.disks
        forced_in_vain = probe is not None and not probe.works and self._facts.carry() == "upper"
        return Component(not forced_in_vain, self._facts.disk_detail())

    async def _last_seq(self) -> int | Component:
        try:
            return await asyncio.wait_for(self._ledger.last_seq(), ANSWER_S)
        except (LedgerError, TimeoutError) as error:
            return Component(False, f"the ledger does not answer: {error}")

    async def _docker(self) -> Component:
        try:
            await asyncio.wait_for(self._gate.require(), ANSWER_S)
        except (EngineUnavailable, TimeoutError) as error:
            return Component(False, str(error) or f"no answer within {ANSWER_S:.0f} s")
        return Component(True, "answers")

    def _projector_component(self, last_seq: int | Component) -> Component:
        if self._projector.failure is not None:
            return Component(False, f"stopped: {self._projector.failure}")
        if self._projector.trouble is not None:
            return Component(False, self._projector.trouble)
        stored = self._projector.stored_seq
        if isinstance(last_seq, Component):
            return Component(True, f"at {stored}; the end of the ledger is not known")
        lag = max(0, last_seq - stored)
        return Component(lag <= LAG_RECORDS_MAX, f"at {stored}, {lag} records behind")


def _ledger(last_seq: int) -> Component:
    return Component(True, f"{last_seq} records")
