"""What a person types for binds, labels and storage, taken apart. Raises BadParameter (exit 2).

Only the form is looked at here; whether a name, a size or a port makes sense the service says,
in one place for every client.
"""

import math

import typer


def bind(text: str, flag: str) -> dict[str, str]:
    """A bind of the contract from SRC:DEST; SRC is a host path or a volume (bar-1)."""
    source, _colon, target = text.rpartition(":")
    if not source or not target.startswith("/"):
        raise typer.BadParameter(
            f"{text!r} is no bind; write SRC:DEST with an absolute DEST, such as /data:/data "
            "or bar-1:/data",
            param_hint=flag,
        )
    return {"src": source, "dest": target}


def pairs(texts: list[str], flag: str) -> dict[str, str]:
    """A mapping from K=V, the last one of a key winning."""
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"{text!r} is no K=V", param_hint=flag)
        found[key] = value
    return found


def finite(number: float | None) -> float | None:
    """A number that JSON has: neither nan nor inf."""
    if number is not None and not math.isfinite(number):
        raise typer.BadParameter(f"{number} is no number to count with")
    return number


def file_storage(text: str, flag: str) -> dict[str, object]:
    """The file storage of a run: /host/path, or SERVER:/export for NFS."""
    if text.startswith("/"):
        return {"hostPath": text}
    server, colon, path = text.partition(":")
    if not server or not colon or not path.startswith("/"):
        raise typer.BadParameter(
            f"{text!r} is neither /host/path nor SERVER:/export", param_hint=flag
        )
    return {"nfs": {"server": server, "path": path}}


def given(**fields: object) -> dict[str, object]:
    """The fields that were given: None and empty lists and mappings are left out."""
    return {key: value for key, value in fields.items() if value not in (None, [], {})}
