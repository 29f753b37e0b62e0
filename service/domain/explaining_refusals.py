"""Why a command was refused: what of the state stood against it, and which records that is from.

A refusal is in no record. It is told from the state that it was decided on, and from its reason
and words; where nothing of the state stood against it (a path of the host, a month that is not
over), the answer has no facts.
"""

import re
from collections.abc import Callable, Iterator

from msgspec import Struct

from events.values import show_size, split_versioned, versioned
from projections.lineage import disk_holder
from projections.state import Revision, State, Volume
from service.domain import explaining_aspects as aspects
from service.domain import explaining_webhooks as webhooks
from service.domain.explaining import Fact, revision_source, volume_source
from service.domain.explaining_answers import container_fact, operation_facts
from service.domain.explaining_places import GPUS_TOLD_MAX, by_index, gpu_standing, port_standing
from service.domain.rejections import Reason

PORTS_TOLD_MAX = 32
"""Of so many host ports it is told who has them."""

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_MONTH = re.compile(r"\b20[0-9]{2}-[0-9]{2}\b")


class Refused(Struct, frozen=True):
    """A command that was refused."""

    kind: str
    """Whose it was: as in a record's subject."""
    name: str
    reason: Reason
    message: str = ""
    """What the caller was told; it names what else stood in the way."""


def standing_against(state: State, refused: Refused) -> tuple[Fact, ...]:
    """What of the state stood against a command, `state` being what it was decided on."""
    return tuple(AGAINST[refused.reason](state, refused))


def _nothing(state: State, refused: Refused) -> Iterator[Fact]:
    return iter(())


def _no_replica_set(state: State, refused: Refused) -> Iterator[Fact]:
    known = state.replica_sets.get(refused.name)
    if known is None:
        yield Fact(f"no record made a replica set {refused.name}")
    elif not known.current:
        text = f"{refused.name} is not there any more"
        yield Fact(text, source=aspects.phase_of(refused.name))


def _no_volume(state: State, refused: Refused) -> Iterator[Fact]:
    found = list(_volumes(state, refused))
    for volume in found:
        if state.live_volume(volume.name) is None:
            text = f"volume {volume.name} is not there any more"
            yield Fact(text, source=aspects.end_of(volume.name))
        else:
            yield _volume(state, volume)
    if not found:
        yield Fact("no record made a volume of that name")


def _no_gpu(state: State, refused: Refused) -> Iterator[Fact]:
    yield Fact(f"no record shows a GPU {refused.name}")


def _current(state: State, refused: Refused) -> Iterator[Fact]:
    """What is there of the name, and since when."""
    found = state.live(refused.name)
    if found is not None:
        revision = state.revisions[refused.name, found.current]
        yield _revision(state, revision)


def _volume_exists(state: State, refused: Refused) -> Iterator[Fact]:
    volume = state.live_volume(refused.name)
    if volume is not None:
        yield _volume(state, volume)


def _busy(state: State, refused: Refused) -> Iterator[Fact]:
    """What goes on with the name, or with what the message says is in the way."""
    replica_set, volume = state.replica_sets.get(refused.name), state.volumes.get(refused.name)
    own = replica_set if refused.kind == "replica_set" else volume
    ids = [own.operation] if own is not None else []
    ids += [one.operation for one in _volumes(state, refused)]
    ids += [
        state.replica_sets[word].operation
        for word in _WORD.findall(refused.message)
        if word in state.replica_sets
    ]
    for operation_id in dict.fromkeys(ids):
        yield from operation_facts(state, operation_id)
    for orphan in state.node.expiring if state.node is not None else ():
        if refused.name in (orphan.of, orphan.id):
            text = f"{orphan.name}, which was in no record, is being removed"
            yield Fact(text, orphan.seq)


def _no_revision(state: State, refused: Refused) -> Iterator[Fact]:
    known = state.replica_sets.get(refused.name)
    newest = state.revisions.get((refused.name, known.newest)) if known is not None else None
    if newest is not None:
        container = versioned(newest.name, newest.number)
        source = revision_source(state, newest.name, newest.number)
        yield Fact(f"{container} is the newest version that was declared", source=source)


def _disk_gone(state: State, refused: Refused) -> Iterator[Fact]:
    mentioned = (split_versioned(word) for word in _WORD.findall(refused.message))
    numbers = [found[1] for found in mentioned if found is not None and found[0] == refused.name]
    found = state.live(refused.name)
    number = numbers[0] if numbers else found.current if found is not None else 0
    revision = state.revisions.get((refused.name, number))
    if revision is None:
        return
    holder = disk_holder(state, revision)
    title = f"the system disk of {versioned(holder.name, holder.number)}"
    if holder.snapshot is not None or holder.expiring:
        text = f"{title} is kept" if not holder.expiring else f"{title} is being given up"
        yield Fact(text, source=aspects.disk_of(holder.name, holder.number))
    elif holder.container == "removed" and not holder.gone.startswith("its container"):
        why = f": {holder.gone}" if holder.gone else ""
        source = aspects.disk_of(holder.name, holder.number)
        yield Fact(f"{title} is not kept any more{why}", source=source)
    else:
        source = aspects.container_of(holder.name, holder.number)
        yield Fact(f"{title} is gone: {holder.gone or 'its container is'}", source=source)


def _not_running(state: State, refused: Refused) -> Iterator[Fact]:
    found = state.live(refused.name)
    if found is not None:
        text = f"{refused.name} is to be {found.phase}"
        yield Fact(text, source=aspects.phase_of(refused.name))
        yield container_fact(state.revisions[refused.name, found.current])


def _users(state: State, refused: Refused) -> Iterator[Fact]:
    for user in sorted(state.volume_users.get(refused.name, ())):
        number = state.replica_sets[user].current
        source = revision_source(state, user, number)
        yield Fact(f"{versioned(user, number)} uses it", source=source)


def _no_gpus_left(state: State, refused: Refused) -> Iterator[Fact]:
    told = (gpu_standing(state, gpu, refused.name) for gpu in by_index(state))
    against = [fact for fact in told if fact.text]
    could = len(state.gpus) - len(against)
    yield Fact(f"{could} of {len(state.gpus)} GPUs could be had")
    yield from against[:GPUS_TOLD_MAX]


def _no_ports_left(state: State, refused: Refused) -> Iterator[Fact]:
    others = [port for port, lease in sorted(state.ports.items()) if lease.holder != refused.name]
    yield Fact(f"others have {len(others)} host ports")
    for port in others[:PORTS_TOLD_MAX]:
        yield port_standing(state, port, frozenset())
    for resting in state.node.resting if state.node is not None else ():
        if resting.host_port not in state.ports:
            yield port_standing(state, resting.host_port, frozenset({resting.host_port}))


def _month_closed(state: State, refused: Refused) -> Iterator[Fact]:
    for name in dict.fromkeys([refused.name, *_MONTH.findall(refused.message)]):
        if (month := state.months.get(name)) is not None:
            yield Fact(f"{name} was closed", month.seq)


def _currency(state: State, refused: Refused) -> Iterator[Fact]:
    first = min(state.prices.values(), key=lambda price: price.seq, default=None)
    if first is not None:
        yield Fact(f"the first price was set in {first.currency}", first.seq)


def _volumes(state: State, refused: Refused) -> Iterator[Volume]:
    """The volumes that a refusal is about: by its name, and by what its message says."""
    named = [refused.name] if refused.kind == "volume" else []
    for word in _WORD.findall(refused.message):
        version = split_versioned(word)
        named.append(version[0] if version is not None else word)
    for name in dict.fromkeys(named):
        if (volume := state.volumes.get(name)) is not None:
            yield volume


def _volume(state: State, volume: Volume) -> Fact:
    size = next((v.size_bytes for v in volume.versions if v.number == volume.current), 0)
    container = versioned(volume.name, volume.current)
    source = volume_source(state, volume.name, volume.current)
    return Fact(f"volume {volume.name} is {container} with {show_size(size)}", source=source)


def _revision(state: State, revision: Revision) -> Fact:
    container = versioned(revision.name, revision.number)
    source = revision_source(state, revision.name, revision.number)
    return Fact(f"{revision.name} is {container}, by {revision.cause}", source=source)


def _of_webhook(
    told: Callable[[State, str], Iterator[Fact]],
) -> Callable[[State, Refused], Iterator[Fact]]:
    return lambda state, refused: told(state, refused.name)


AGAINST: dict[Reason, Callable[[State, Refused], Iterator[Fact]]] = {
    Reason.IDEMPOTENCY_KEY_REUSED: _nothing,
    Reason.REPLICA_SET_NOT_FOUND: _no_replica_set,
    Reason.VOLUME_NOT_FOUND: _no_volume,
    Reason.GPU_NOT_FOUND: _no_gpu,
    Reason.ORPHAN_NOT_FOUND: _nothing,
    Reason.REPLICA_SET_EXISTS: _current,
    Reason.VOLUME_EXISTS: _volume_exists,
    Reason.OPERATION_IN_PROGRESS: _busy,
    Reason.REVISION_NOT_FOUND: _no_revision,
    Reason.ALREADY_AT_REVISION: _current,
    Reason.NOTHING_TO_PATCH: _current,
    Reason.HOST_PATH_REFUSED: _nothing,
    Reason.BIND_NOT_FOUND: _current,
    Reason.BIND_TARGET_TAKEN: _current,
    Reason.SYSTEM_DISK_GONE: _disk_gone,
    Reason.ENV_NOT_FOUND: _current,
    Reason.NOT_RUNNING: _not_running,
    Reason.STOPPED: _not_running,
    Reason.SAME_SIZE: _volume_exists,
    Reason.VOLUME_IN_USE: _users,
    Reason.VOLUME_BUSY: _busy,
    Reason.GPUS_EXHAUSTED: _no_gpus_left,
    Reason.PORTS_EXHAUSTED: _no_ports_left,
    Reason.MONTH_CLOSED: _month_closed,
    Reason.MONTH_NOT_OVER: _nothing,
    Reason.CURRENCY_DIFFERS: _currency,
    Reason.DEBUG_COPY: _current,
    Reason.WEBHOOK_NOT_FOUND: _of_webhook(webhooks.not_found),
    Reason.WEBHOOK_EXISTS: _of_webhook(webhooks.exists),
    Reason.WEBHOOKS_EXHAUSTED: _of_webhook(webhooks.exhausted),
    Reason.STALE_OUTCOME: _nothing,
    Reason.NOTHING_NEW: _nothing,
}
"""One function per reason; a test compares this with `Reason`."""
