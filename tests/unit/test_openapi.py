"""The OpenAPI document: sound in itself, complete, and made from the types in use."""

import re
from collections.abc import Iterator
from html import escape
from typing import Any

import msgspec
import pytest

from events.values import is_name
from events.webhook_messages import CONTENT_TYPE
from projections.webhook_book import Webhook
from service.application.webhook_signing import Signer
from service.web.app import ROUTES
from service.web.docs_page import render
from service.web.openapi import document
from service.web.problems import Code

DOCUMENT: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document(ROUTES)))

CONTRACT = """
POST /api/v1/replicaSet
POST /api/v1/replicaSet/{name}/commit
POST /api/v1/replicaSet/{name}/execute
PATCH /api/v1/replicaSet/{name}
PATCH /api/v1/replicaSet/{name}/rollback
PATCH /api/v1/replicaSet/{name}/pin
PATCH /api/v1/replicaSet/{name}/unpin
PATCH /api/v1/replicaSet/{name}/stop
PATCH /api/v1/replicaSet/{name}/restart
PATCH /api/v1/replicaSet/{name}/pause
PATCH /api/v1/replicaSet/{name}/continue
GET /api/v1/replicaSet/{name}
GET /api/v1/replicaSet/{name}/history
GET /api/v1/replicaSet/{name}/diff
DELETE /api/v1/replicaSet/{name}
POST /api/v1/volumes
PATCH /api/v1/volumes/{name}/size
GET /api/v1/volumes/{name}
GET /api/v1/volumes/{name}/history
DELETE /api/v1/volumes/{name}
GET /api/v1/resources/gpus
GET /api/v1/resources/ports
GET /ping
""".strip().splitlines()


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def every(value: Any, key: str) -> Iterator[Any]:
    """Every value under `key`, anywhere in the document."""
    if isinstance(value, dict):
        if key in value:
            yield value[key]
        for item in value.values():
            yield from every(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from every(item, key)


def test_the_document_has_what_openapi_3_1_asks_for() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    assert DOCUMENT["info"]["title"]
    assert DOCUMENT["info"]["version"]
    for method, path, operation in operations():
        assert path.startswith("/")
        assert operation["responses"], f"{method} {path}"
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[1-5](\d\d|XX)", status)
            assert response["description"]
            assert response["content"]


def test_what_is_sent_to_webhooks_is_described() -> None:
    sent = DOCUMENT["webhooks"]["event"]["post"]
    signed = Signer(bytes(32)).headers(Webhook("a", "", "op", "", 1, 1, 1, ""), "1.0", 0, b"")
    assert {header["name"] for header in sent["parameters"]} == signed.keys()
    assert CONTENT_TYPE.partition(";")[0] in sent["requestBody"]["content"]


def test_operation_ids_are_unique() -> None:
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(ids)) == len(ids)


def test_path_parameters_are_declared() -> None:
    for _, path, operation in operations():
        declared = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
        assert declared == set(re.findall(r"\{(\w+)\}", path))


def test_every_reference_leads_somewhere() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    references = set(every(DOCUMENT, "$ref"))
    assert references
    assert {ref.removeprefix("#/components/schemas/") for ref in references} <= set(schemas)


@pytest.mark.parametrize("line", CONTRACT)
def test_every_route_of_the_contract_is_there(line: str) -> None:
    method, path = line.split()
    assert method.lower() in DOCUMENT["paths"][path]


def test_every_route_served_is_described() -> None:
    described = {(method, path) for method, path, _ in operations()}
    assert described == {(route.method, route.path) for route in ROUTES}


def test_a_body_is_described_by_the_type_that_decodes_it() -> None:
    run = DOCUMENT["components"]["schemas"]["RunBody"]
    assert run["required"] == ["imageName", "replicaSetName"]
    assert run["additionalProperties"] is False
    assert {"gpuCount", "binds", "containerPorts", "dataDisk", "shmSize"} <= set(run["properties"])
    assert run["properties"]["gpuCount"]["maximum"] == 1024
    post = DOCUMENT["paths"]["/api/v1/replicaSet"]["post"]
    schema = post["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/RunBody"}


def test_a_query_that_is_needed_is_said_to_be() -> None:
    diff = DOCUMENT["paths"]["/api/v1/replicaSet/{name}/diff"]["get"]
    needed = {p["name"]: p["required"] for p in diff["parameters"]}
    assert needed == {"name": True, "from": True, "to": False, "files": False, "at": False}


def test_what_a_name_and_a_number_may_be_is_said() -> None:
    patch = DOCUMENT["paths"]["/api/v1/replicaSet/{name}"]["patch"]
    (name,) = (p["schema"] for p in patch["parameters"] if p["in"] == "path")
    for text in ("foo", "F_0", "9", "a" * 63, "", "_", "a-b", "a.b", "ä", "٣", "a" * 64, "a\n"):
        assert (re.search(name["pattern"].replace("$", r"\Z"), text) is not None) == is_name(text)
    listed = DOCUMENT["paths"]["/api/v1/operations"]["get"]["parameters"]
    bounds = {p["name"]: p["schema"] for p in listed if p["in"] == "query"}
    assert bounds["limit"] == {"type": "integer", "minimum": 1, "maximum": 1000}


def test_who_is_out_of_reach_is_no_refusal() -> None:
    diff = DOCUMENT["paths"]["/api/v1/replicaSet/{name}/diff"]["get"]["responses"]
    assert "1104" in diff["5XX"]["description"]
    assert "1104" not in diff["4XX"]["description"]
    assert "1110" in diff["4XX"]["description"]


def test_commands_can_be_answered_202_and_reads_cannot() -> None:
    for route in ROUTES:
        responses = DOCUMENT["paths"][route.path][route.method.lower()]["responses"]
        assert ("202" in responses) == (route.action is not None)


def test_the_page_shows_every_route_type_and_code() -> None:
    page = render(DOCUMENT)
    for route in ROUTES:
        assert route.path in page
        assert route.summary in page
    for name in DOCUMENT["components"]["schemas"]:
        assert f'id="type-{name}"' in page
    for code in Code:
        assert f"<code>{code.value}</code>" in page
        assert escape(code.meaning) in page


def test_the_page_asks_no_other_host_for_anything() -> None:
    page = render(DOCUMENT)
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", page, re.IGNORECASE)
    assert not re.search(r"<script|<link|@import|url\(", page, re.IGNORECASE)


def test_the_page_escapes_what_it_shows() -> None:
    spiked = {**DOCUMENT, "info": {**DOCUMENT["info"], "title": "<b>&"}}
    assert "&lt;b&gt;&amp;" in render(spiked)
    assert "<b>&" not in render(spiked)
