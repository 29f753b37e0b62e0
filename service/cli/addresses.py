"""Where a service is, and the paths of its API: apart from the client, which takes long to load."""

from urllib.parse import quote, urlsplit

import typer

SERVER_DEFAULT = "http://127.0.0.1:2378"


def path_of(*parts: str) -> str:
    """A path under /api/v1; names are quoted, so that none can lead elsewhere. Raises
    typer.BadParameter of one that would all the same: `stop .` would patch what is named stop."""
    for part in parts:
        if part in ("", ".", ".."):
            raise typer.BadParameter(f"{part!r} is no name")
    return "/api/v1/" + "/".join(quote(part, safe="") for part in parts)


def url_of(server: str) -> str:
    """The address of a service, as people type it. Raises typer.BadParameter."""
    url = server if "://" in server else f"http://{server}"
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise typer.BadParameter(
            f"{server!r} is no address; allowed: http(s)://HOST:PORT",
            param_hint="--server (or GPULEDGER_SERVER)",
        )
    return url.rstrip("/")
