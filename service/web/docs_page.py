"""The OpenAPI document as one page for people: no script, no asset, no other host."""

import json
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --mark: #2a7; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
code { font: 13px/1.4 ui-monospace, monospace; background: var(--soft); padding: 0 .25em }
h1 small { font-weight: normal; opacity: .6 }
h2 { border-bottom: 1px solid var(--line); margin-top: 2.5rem }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; padding: .4rem .8em }
summary { cursor: pointer }
summary b { display: inline-block; min-width: 4.5em; color: var(--mark) }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem .25rem 0;
  border-top: 1px solid var(--line) }
th { font-weight: 600 } h3 { margin: 1rem 0 .25rem; font-size: 1em }
"""

_HEADINGS = ("Field", "Type", "Needed", "Meaning")


def render(document: dict[str, Any]) -> str:
    """The whole page."""
    info = document["info"]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>",
        f"<p>{_prose(info['description'])}</p>",
        '<p>For programs: <a href="/api/v1/openapi.json">/api/v1/openapi.json</a>; what events'
        ' there are: <a href="/api/v1/asyncapi.json">/api/v1/asyncapi.json</a></p>',
    ]
    for tag in document["tags"]:
        parts.append(f"<h2>{escape(tag['name'])}</h2>")
        for path, methods in document["paths"].items():
            parts += [
                _operation(method, path, operation)
                for method, operation in methods.items()
                if tag["name"] in operation["tags"]
            ]
    parts.append("<h2>Types</h2>")
    parts += [_type(name, schema) for name, schema in document["components"]["schemas"].items()]
    codes = [(f"<code>{code}</code>", escape(text)) for code, text in document["x-codes"].items()]
    parts += ["<h2>Codes</h2>", _table(("Code", "Meaning"), codes), "</body></html>"]
    return "\n".join(parts)


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parts = [
        f'<details id="{escape(operation["operationId"])}"><summary><b>{method.upper()}</b>',
        f"<code>{escape(path)}</code> {escape(operation['summary'])}</summary>",
    ]
    if operation["parameters"]:
        rows = [_parameter(parameter) for parameter in operation["parameters"]]
        parts += ["<h3>Parameters</h3>", _table(("Name", "In", "Type", "Meaning"), rows)]
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        parts.append(f"<h3>Body</h3><p>{_kind(schema)}</p>")
    rows = [
        (f"<code>{escape(status)}</code>", escape(response["description"]), _data_of(response))
        for status, response in operation["responses"].items()
    ]
    parts += ["<h3>Answers</h3>", _table(("Status", "Meaning", "Data"), rows), "</details>"]
    return "\n".join(parts)


def _parameter(parameter: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"<code>{escape(parameter['name'])}</code>",
        escape(parameter["in"]),
        _kind(parameter["schema"]),
        _prose(parameter.get("description", "")),
    )


def _data_of(response: dict[str, Any]) -> str:
    schema = next(iter(response["content"].values())).get("schema")
    if schema is None:
        return "text"
    return _kind(schema["properties"]["data"] if "properties" in schema else schema)


def _type(name: str, schema: dict[str, Any]) -> str:
    needed = schema.get("required", ())
    rows = [
        (f"<code>{escape(field)}</code>", _kind(kind), "yes" if field in needed else "",
         _meaning(kind))
        for field, kind in schema.get("properties", {}).items()
    ]  # fmt: skip
    about = _prose(schema.get("description", ""))
    return (
        f'<details id="type-{escape(name)}"><summary><code>{escape(name)}</code> {about}'
        f"</summary>{_table(_HEADINGS, rows)}</details>"
    )


def _kind(schema: dict[str, Any]) -> str:
    """The type of a schema in words, other types as links."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#type-{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_kind(option) for option in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"<code>{escape(json.dumps(value))}</code>" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"map of {_kind(schema['additionalProperties'])}"
    return escape(str(schema.get("type", "anything")))


def _meaning(schema: dict[str, Any]) -> str:
    """What a field means, with an example; an optional one has it in its first alternative."""
    if "anyOf" in schema and "description" not in schema:
        schema = schema["anyOf"][0]
    text = _prose(schema.get("description", ""))
    for example in schema.get("examples", ())[:1]:
        text += f" For example <code>{escape(json.dumps(example))}</code>."
    return text


def _prose(text: str) -> str:
    """A description with its `code` marked up."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(pieces))


def _table(headings: tuple[str, ...], rows: list[Any]) -> str:
    """A table of cells that are HTML already."""
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
