"""The two calls whose answer is a stream: pulling an image and running a command.

Both run in a thread and block it until the stream ends; `Listening` is how the event loop
makes such a thread stop waiting.
"""

import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import docker
import requests
from docker.errors import APIError

from service.adapters import docker_objects as objects
from service.adapters.docker_errors import reason_of
from service.errors import EngineRefused, EngineUnavailable
from service.ports import ExecOutcome, Progress

FRAME_HEADER = struct.Struct(">BxxxL")
STDERR = 2
PIECE_BYTES_MAX = 1 << 16

# Layer states after which no more bytes of the layer will be fetched.
_FETCHED = ("Download complete", "Pull complete", "Already exists", "Verifying Checksum")


class Listening:
    """One stream being read in a thread; `close` from any thread ends the reading."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._response: requests.Response | None = None
        self.closed = False

    def attach(self, response: requests.Response) -> None:
        """What `close` is to shut; it is shut at once when `close` came first."""
        with self._lock:
            self._response = response
            if self.closed:
                self._shut(response)

    def detach(self) -> None:
        """The reader is done and closes the response itself."""
        with self._lock:
            self._response = None

    def close(self) -> None:
        """End the reading. What Docker does with the command or image goes on or not by itself."""
        with self._lock:
            self.closed = True
            if self._response is not None:
                self._shut(self._response)

    @staticmethod
    def _shut(response: requests.Response) -> None:
        # Closing alone does not wake a thread that waits for bytes. Docker may have hung up
        # (OSError), or the reader may just have come to the end (RuntimeError).
        with suppress(OSError, RuntimeError):
            response.raw.shutdown()


class LayerProgress:
    """Adds up the lines of a pull into bytes of the whole image."""

    def __init__(self) -> None:
        self._done: dict[str, int] = {}
        self._total: dict[str, int] = {}
        self._last = Progress(0, 0)

    def feed(self, line: Mapping[str, Any]) -> Progress | None:
        """Take one line of the stream; the new sum, or None when it did not change.

        Only downloading counts: extracting reports the same bytes a second time.
        """
        layer = line.get("id", "")
        status = line.get("status", "")
        detail = line.get("progressDetail") or {}
        if status == "Downloading" and detail.get("total", 0) > 0:
            self._total[layer] = detail["total"]
            self._done[layer] = min(detail.get("current", 0), detail["total"])
        elif status in _FETCHED and layer in self._total:
            self._done[layer] = self._total[layer]
        progress = Progress(sum(self._done.values()), sum(self._total.values()))
        if progress == self._last:
            return None
        self._last = progress
        return progress


def pull(
    client: docker.APIClient,
    image: str,
    on_progress: Callable[[Progress], None],
    listening: Listening,
) -> None:
    """Fetch an image; `on_progress` is called in this thread. Raises EngineRefused."""
    progress = LayerProgress()
    try:
        lines = client.pull(image, stream=True, decode=True)
    except APIError as error:
        raise _pull_refused(image, str(error.explanation or error)) from error
    for line in lines:
        if listening.closed:
            # Dropping the connection makes the engine give up the pull as well.
            lines.close()
            raise EngineUnavailable(f"the pull of image {image} was given up")
        if "error" in line:
            raise _pull_refused(image, str(line["error"]))
        moved = progress.feed(line)
        if moved is not None:
            on_progress(moved)


def _pull_refused(image: str, words: str) -> EngineRefused:
    # Registries answer a missing image, a private one and a wrong name all differently, and
    # none of it helps the caller more than "we cannot have that image, because ...".
    reason = reason_of(words)
    if reason != "no_space":
        reason = "image_not_found"
    return EngineRefused(f"image {image} cannot be fetched: {words.strip()}", reason)


def execute(
    client: docker.APIClient,
    container_id: str,
    cmd: Sequence[str],
    work_dir: str,
    output_bytes_max: int,
    listening: Listening,
) -> ExecOutcome:
    """Run a command and read all it writes, keeping `output_bytes_max` bytes of each stream.

    A missing program, directory or user is no error to Docker: exit code 126 or 127, and its
    words on stdout.
    """
    exec_id = client.exec_create(container_id, list(cmd), workdir=work_dir or None)["Id"]
    out, err = _Capped(output_bytes_max), _Capped(output_bytes_max)
    # Not docker-py's exec_start, which leaves its sockets to the garbage collector.
    with objects.post_stream(client, f"/exec/{exec_id}/start", {"Tty": False}) as response:
        listening.attach(response)
        try:
            for kind, piece in _frames(response):
                (err if kind == STDERR else out).add(piece)
        finally:
            listening.detach()
    exit_code = client.exec_inspect(exec_id)["ExitCode"]
    if exit_code is None:
        # The stream ended before the command did: given up by us, or the engine is going down.
        raise EngineUnavailable("the connection to the command was lost; it may still be running")
    return ExecOutcome(exit_code, bytes(out.kept), bytes(err.kept), out.count, err.count)


def _frames(response: requests.Response) -> Iterator[tuple[int, bytes]]:
    """(stream, bytes) as Docker multiplexes them: a byte, three of padding, a length, a piece."""
    while len(header := response.raw.read(FRAME_HEADER.size)) == FRAME_HEADER.size:
        kind, left = FRAME_HEADER.unpack(header)
        while left > 0 and (piece := response.raw.read(min(left, PIECE_BYTES_MAX))):
            left -= len(piece)
            yield kind, piece


class _Capped:
    """Keeps the first `limit` bytes and counts all of them."""

    def __init__(self, limit: int) -> None:
        self.kept = bytearray()
        self.count = 0
        self._limit = limit

    def add(self, piece: bytes | None) -> None:
        if piece:
            self.count += len(piece)
            self.kept += piece[: self._limit - len(self.kept)]
