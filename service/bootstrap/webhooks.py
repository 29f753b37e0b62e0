"""Webhooks put together, and what /metrics tells of them."""

from collections.abc import Iterable
from importlib.metadata import version
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from projections.projector import Projector
from service.adapters.delivery_file import FILE, DeliveryFile
from service.adapters.webhook_client import HttpSender
from service.adapters.webhook_key import webhook_key
from service.application.event_feed import EventFeed
from service.application.intake import Intake
from service.application.supervisor import Supervisor
from service.application.webhook_signing import Signer
from service.application.webhooks import Webhooks
from service.ports import Clock, Ids
from service.settings import Settings
from service.telemetry import Metrics
from service.web.event_secrets import hidden_body
from service.webhook_ports import Outcome


def open_webhooks(
    settings: Settings,
    feed: EventFeed,
    projector: Projector,
    intake: Intake,
    ids: Ids,
    clock: Clock,
    supervisor: Supervisor,
    metrics: Metrics,
) -> Webhooks:
    """The webhooks of a running service; the projector has caught up. Raises SettingsError."""
    webhooks = Webhooks(
        feed,
        projector,
        DeliveryFile(settings.data_dir / FILE),
        HttpSender(f"gpuledger/{version('gpuledger')}"),
        clock,
        ids,
        Signer(webhook_key(settings.data_dir)),
        lambda fed, index: hidden_body(fed, projector.state, index),
        intake,
        settings.node,
    )
    supervisor.start("webhooks", _sending(webhooks))
    metrics.registry.register(_Gauges(webhooks))
    return webhooks


async def _sending(webhooks: Webhooks) -> None:
    try:
        await webhooks.run()
    finally:
        await webhooks.close()


class _Gauges(Collector):
    """Read when somebody scrapes; a webhook that is removed is not told of any more."""

    def __init__(self, webhooks: Webhooks) -> None:
        self._webhooks = webhooks

    def collect(self) -> Iterable[Metric]:
        """Deliveries by webhook, and attempts by what came of them."""
        standings = sorted(self._webhooks.standings.items())
        pending = GaugeMetricFamily(
            "gpuledger_webhook_pending",
            "Events that a receiver did not take, and that will be sent again",
            labels=("webhook",),
        )
        dead = GaugeMetricFamily(
            "gpuledger_webhook_dead_letters",
            "Events that were given up, and wait for somebody to look",
            labels=("webhook",),
        )
        for name, standing in standings:
            pending.add_metric((name,), standing.pending)
            dead.add_metric((name,), standing.dead)
        troubled = GaugeMetricFamily(
            "gpuledger_webhook_in_trouble",
            "1 when it does not get on: GET /api/v1/webhooks says why",
            labels=("webhook",),
        )
        for name, trouble in sorted(self._webhooks.troubles().items()):
            troubled.add_metric((name,), bool(trouble))
        attempts = CounterMetricFamily(
            "gpuledger_webhook_attempts",
            "Requests to receivers; outcome is delivered, failed or dead",
            labels=("outcome",),
        )
        for outcome in get_args(Outcome):
            attempts.add_metric((outcome,), self._webhooks.sent[outcome])
        yield from (pending, dead, troubled, attempts)
