"""With what the command line shows who it is, and by what it knows the service."""

import re
import ssl
from collections.abc import Mapping
from pathlib import Path

from service.cli.failures import CliFailure

_TOKEN = re.compile(r"[!-~]{1,512}")


def token_of(given: str | None, env: Mapping[str, str]) -> str | None:
    """The token to send: as given, else GPULEDGER_TOKEN, else the user's token file, else none.

    Raises CliFailure when the file is there and cannot be read, and for what is no token.
    """
    if given or (given := env.get("GPULEDGER_TOKEN")):
        return _checked(given.strip(), "--token (or GPULEDGER_TOKEN)")
    path = _token_file(env)
    if path is None:
        return None
    try:
        text = path.read_text(errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CliFailure(f"the token file {path} cannot be read ({error.strerror})") from error
    return _checked(text, f"the token file {path}") if text else None


def trust(ca_cert: str | None, env: Mapping[str, str]) -> ssl.SSLContext | bool:
    """By whom the service's certificate must be signed: `ca_cert`, else GPULEDGER_CA_CERT, a PEM
    file; True is those who are trusted anyway. Raises CliFailure."""
    path = ca_cert or env.get("GPULEDGER_CA_CERT")
    if not path:
        return True
    try:
        return ssl.create_default_context(cafile=path)
    except OSError as error:  # ssl.SSLError is one too
        raise CliFailure(
            f"--ca-cert (or GPULEDGER_CA_CERT) {path} holds no certificates that can be read"
            f" ({error.strerror or error})"
        ) from error


def _token_file(env: Mapping[str, str]) -> Path | None:
    if (xdg := env.get("XDG_CONFIG_HOME", "")).startswith("/"):
        return Path(xdg, "gpuledger", "token")
    home = env.get("HOME")
    return Path(home, ".config", "gpuledger", "token") if home else None


def _checked(text: str, where: str) -> str:
    """Never shown in what is said of it."""
    if not _TOKEN.fullmatch(text):
        raise CliFailure(f"{where} holds something that is no token")
    return text
