"""What clients of a simulation do with webhooks, and what becomes of the receivers."""

from random import Random

from events.webhooks import Wanted
from projections.state import State
from service.application.webhooks import Webhooks
from service.domain.commands import Request
from service.domain.webhook_commands import (
    DisableWebhook,
    EnableWebhook,
    RegisterWebhook,
    RemoveWebhook,
    RotateWebhook,
)
from tests.simulation.receivers import MOODS, Abroad, address_of

HOOKS = ("hook", "hook", "bell", "gong")
ADDRESSES = (1, 2)
TENANT = "lab"

WANTED = (
    Wanted(kind="replica_set", types=("container.exited.v1", "operation.succeeded.v1")),
    Wanted(types=("operation.failed.v1", "webhook.registered.v1")),
    Wanted(name="ann"),
    Wanted(tenant=TENANT),
    Wanted(kind="volume", tenant=TENANT),
    Wanted(kind="webhook"),
    Wanted(kind="gpu"),
    Wanted(name="vol", types=("volume.created.v1", "volume.resized.v1", "volume.deleted.v1")),
)


def a_webhook_command(rng: Random, state: State, key_id: str) -> Request:
    """Mostly what can be done with it; now and then what cannot."""
    name = rng.choice(HOOKS)
    known = state.webhooks.get(name)
    if known is None:
        return _register(rng, state, name, key_id) if rng.random() < 0.9 else RemoveWebhook(name)
    if known.disabled and rng.random() < 0.7:
        return EnableWebhook(name)
    if known.key_id != key_id and rng.random() < 0.7:
        return RotateWebhook(name, key_id)
    match rng.choice("rootdddd"):
        case "r":
            return _register(rng, state, name, key_id)
        case "o":
            return RemoveWebhook(name)
        case "t":
            return RotateWebhook(name, key_id)
        case _:
            return DisableWebhook(name, "it moves")


def _register(rng: Random, state: State, name: str, key_id: str) -> RegisterWebhook:
    begin = rng.choice((None, None, None, 0, rng.randint(0, state.seq)))
    wanted = rng.choice(WANTED) if begin is not None or rng.random() < 0.8 else Wanted()
    return RegisterWebhook(name, address_of(name, rng.choice(ADDRESSES)), key_id, wanted, begin)


def change_one(rng: Random, abroad: Abroad, state: State) -> str:
    """A receiver is well from now on, or is not; how it is, empty when there is none."""
    if not state.webhooks:
        return ""
    url = rng.choice(sorted(one.url for one in state.webhooks.values()))
    mood = abroad.moods[url] = rng.choice(MOODS)
    return mood


async def ping_one(rng: Random, webhooks: Webhooks, state: State) -> None:
    """Somebody wants to know whether a receiver is there."""
    webhook = state.webhooks.get(rng.choice(HOOKS))
    if webhook is not None and webhooks.signer.knows(webhook):
        await webhooks.ping(webhook)
