"""What is said of webhooks: a sentence for each event, and what stood against a command.

Whoever may read is told why, and many addresses have a secret in their path: only hosts are said.
"""

from collections.abc import Callable, Iterator
from typing import Any

from events import webhooks
from projections.state import State
from service.domain.explaining import Fact, plural, words


def _host(url: str) -> str:
    """Where a webhook leads, without its path and query."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0].partition('?')[0]}"


SENTENCES: dict[type[Any], Callable[[Any, State], str]] = {
    webhooks.WebhookRegistered: lambda event, state: (
        f"events are sent to {_host(event.url)} from now on, as webhook {event.name}"
    ),
    webhooks.WebhookRotated: lambda event, state: f"webhook {event.name} has a new secret",
    webhooks.WebhookDisabled: lambda event, state: (
        f"nothing is sent to webhook {event.name} any more: {words(event.why)}"
    ),
    webhooks.WebhookEnabled: lambda event, state: f"webhook {event.name} goes on",
    webhooks.WebhookRemoved: lambda event, state: f"webhook {event.name} was removed",
}


def not_found(state: State, name: str) -> Iterator[Fact]:
    """There is none of this name."""
    yield Fact(f"there is no webhook {name}")


def exists(state: State, name: str) -> Iterator[Fact]:
    """There is one of this name."""
    if (known := state.webhooks.get(name)) is not None:
        yield Fact(f"webhook {name} sends to {_host(known.url)}", known.seq)


def exhausted(state: State, name: str) -> Iterator[Fact]:
    """There are as many as there may be."""
    if state.webhooks:
        newest = max(state.webhooks.values(), key=lambda webhook: webhook.seq)
        count = plural(len(state.webhooks), "webhook")
        yield Fact(f"there are {count}, {newest.name} the newest of them", newest.seq)
