"""A value that is one of some words: the refusal says which."""

from typing import Any

import msgspec
import pytest

from service.web import schemas_checks as check
from service.web.problems import BadRequest
from service.web.schemas_billing import PriceBody
from service.web.schemas_requests import PatchBody, RunBody

RUN = {"imageName": "a:1", "replicaSetName": "foo"}
PRICE = {"price": "1", "currency": "EUR", "validFrom": "2026-11-01"}


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        (RunBody, {**RUN, "onExit": "always"}, "allowed: none, restart"),
        (RunBody, {**RUN, "onGpuLost": "x"}, "allowed: none, restart"),
        (PatchBody, {"onExit": 7}, "onExit does not fit: "),
        (PriceBody, {**PRICE, "meter": "disk"}, "allowed: cpu, gpu, memory, snapshot, volume"),
        (PriceBody, {**PRICE, "meter": "gpu", "price": 1.5}, "price does not fit: "),
    ],
)
def test_the_words_are_named(kind: type, body: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest) as refused:
        check.decode(msgspec.json.Decoder(kind), msgspec.json.encode(body))
    assert message in refused.value.problem.message
    assert ("allowed" in refused.value.problem.message) is ("price" not in message)


def test_a_field_of_any_value_has_no_words() -> None:
    with pytest.raises(BadRequest) as refused:
        check.decode(msgspec.json.Decoder(RunBody), b'{"imageName": 1}')
    assert refused.value.problem.message == "imageName does not fit: Expected str, got int"
