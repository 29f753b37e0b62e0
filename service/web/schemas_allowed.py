"""The words that a field of a body may be: msgspec tells only which was wrong."""

import re
from functools import cache

from msgspec import inspect

_INDEX = re.compile(r"\[[^\]]*\]")


def allowed(kind: object, where: str) -> str:
    """A clause with the words that the field takes, behind what is wrong with it; empty where it
    takes any. `kind` is the body's type, `where` the field's path, such as "events.types[0]"."""
    node = _described(kind)
    for step in filter(None, _INDEX.sub("", where).split(".")):
        node = _field(node, step)
    literals = [one for one in _plain(node) if isinstance(one, inspect.LiteralType)]
    words = [str(word) for one in literals for word in one.values]
    return f"; allowed: {', '.join(words)}" if words else ""


@cache
def _described(kind: object) -> inspect.Type:
    return inspect.type_info(kind)


def _field(node: inspect.Type, name: str) -> inspect.Type:
    """The type of a field, by its name in JSON."""
    for one in _plain(node):
        if isinstance(one, inspect.StructType):
            for field in one.fields:
                if field.encode_name == name:
                    return field.type
    return inspect.AnyType()


def _plain(node: inspect.Type) -> list[inspect.Type]:
    """The types that a value may have, with those of a list's items."""
    if isinstance(node, inspect.Metadata):
        return _plain(node.type)
    if isinstance(node, inspect.UnionType):
        return [plain for one in node.types for plain in _plain(one)]
    if isinstance(node, inspect.ListType):
        return _plain(node.item_type)
    return [node]
