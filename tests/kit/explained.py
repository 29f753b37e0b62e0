"""Explanations of a history that is in memory, and how they read."""

from collections.abc import Sequence

from events.record import Record
from service.domain.explaining import Explanation, Link, SubjectKind
from service.domain.explaining_refusals import Refused
from tests.kit.inline_store import InlineStore
from tests.kit.past import explainer_of, past_of, stored
from tests.kit.world import World


async def asked_of(
    history: Sequence[Record],
    kind: SubjectKind,
    name: str,
    seq: int | None = None,
    limit: int = 100,
    *,
    everything: bool = False,
) -> Explanation | None:
    """Why it is so at the end of a history, or at a record of it."""
    at = len(history) if seq is None else seq
    async with InlineStore() as store:
        await stored(history, store)
        explainer = explainer_of(history, store, past_of(history, store))
        return await explainer.explain(kind, name, at, limit, everything=everything)


async def explained(
    history: Sequence[Record],
    kind: SubjectKind,
    name: str,
    seq: int | None = None,
    limit: int = 100,
    *,
    everything: bool = False,
) -> Explanation:
    """The same of what is there."""
    found = await asked_of(history, kind, name, seq, limit, everything=everything)
    assert found is not None, f"there is no {kind} {name}"
    return found


async def refused_because(history: Sequence[Record], refused: Refused) -> Explanation:
    """What stood against a command at the end of a history."""
    async with InlineStore() as store:
        await stored(history, store)
        explainer = explainer_of(history, store, past_of(history, store))
        return await explainer.refusal(refused, len(history))


def place_of(found: Explanation, text: str) -> int | None:
    """The record of the one fact of the answer that begins with these words."""
    (fact,) = (fact for fact in found.answer if fact.text.startswith(text))
    return fact.seq


def link_of(found: Explanation, text: str) -> Link:
    """The one record of the chain that has a sentence with these words."""
    (link,) = (link for link in found.chain if any(text in one for one in link.says))
    return link


def texts(found: Explanation) -> list[str]:
    """The answer, without its records."""
    return [fact.text for fact in found.answer]


def grounds(found: Explanation, words: str) -> list[str]:
    """What the record with these words was decided from."""
    return [fact.text for fact in link_of(found, words).grounds]


def seq_of(world: World, command_id: str) -> int:
    """The first record whose command's id ends with these words."""
    found = (seq for seq, one in enumerate(world.records, 1) if one.command_id.endswith(command_id))
    return next(found)
