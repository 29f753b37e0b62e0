"""The ports: what the service needs from the world, as plain nouns.

Every port has a real adapter (`service/adapters/`) and a full in-memory implementation
(`tests/kit/`); one contract suite (`tests/contract/`) runs on both.
"""

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from typing import Any, Literal, Protocol

from msgspec import Struct

from events.gpu_health import GpuError as GpuError
from events.gpu_health import GpuHealth as GpuHealth
from events.values import Gpu as Gpu


class Entry(Struct, frozen=True):
    """A record on its way into the ledger."""

    subject: str
    message_id: str
    """No other entry has it, unless its body is the same too."""
    body: bytes


class StoredEntry(Struct, frozen=True):
    """A record as the ledger holds it. `seq` is its position, 1-based and without gaps."""

    seq: int
    subject: str
    message_id: str
    body: bytes


class Ledger(Protocol):
    """The append-only log. Raises LedgerUnavailable, LedgerConflict, LedgerDamaged."""

    async def append(self, entries: Sequence[Entry], expected_last_seq: int) -> int:
        """Append all entries or none that follows a failed one; return the last one's seq.

        Durable (fsynced) when it returns. Raises LedgerConflict when the ledger's last
        sequence is not `expected_last_seq`, LedgerUnavailable when no confirmation came: then
        any prefix of the entries may be stored, and only reading tells.
        """
        ...

    def read(
        self, after_seq: int, until_seq: int | None = None
    ) -> AsyncGenerator[Sequence[StoredEntry], None]:
        """Yield batches (never empty) in order, starting with seq `after_seq + 1`.

        With `until_seq` it ends after that record; without, it follows the log for ever and
        rides out interruptions of the connection. Raises LedgerDamaged when a sequence is
        missing.
        """
        ...

    async def last_seq(self) -> int:
        """The last stored sequence; 0 when the ledger is empty."""
        ...

    async def find(self, message_id: str, after_seq: int) -> int | None:
        """The seq of the entry with this message id after `after_seq`, if it is stored."""
        ...


class DeviceProbe(Protocol):
    """Which GPUs there are, and how they fare. No driver is an empty answer."""

    async def health(self, let_go: Collection[str] = ()) -> GpuHealth:
        """The GPUs that can be lent, by index, each with a report. Raises DeviceProbeError.

        A GPU in MIG mode shows as its instances. Those whose UUIDs are in `let_go` are looked at
        and otherwise left alone, so that they can be reset: their errors are not heard.
        """
        ...

    async def errors(self) -> tuple[GpuError, ...]:
        """Wait until the driver reports errors, and take them; for ever where it reports none."""
        ...

    async def describe(self) -> str:
        """One line for people: driver and count, or why there is none."""
        ...

    async def close(self) -> None:
        """Let go of the driver."""
        ...


class GpuAccess(Struct, frozen=True):
    """Whether a container may open the devices of its GPUs."""

    state: Literal["has", "lost", "unknown"]
    detail: str = ""
    """What the kernel said, or why it is not known; for people."""


class GpuAccessProbe(Protocol):
    """Looks whether running containers are still let at their GPUs."""

    async def look(self, container: str) -> GpuAccess:
        """By name. Nothing is executed from its image, and nothing of it is changed.

        Unknown is the answer for what does not run, is not ours, has no such devices, or is on
        another host. Raises EngineUnavailable.
        """
        ...


class EngineInfo(Struct, frozen=True):
    """What the engine says of itself."""

    version: str
    api_version: str
    storage_driver: str
    root_dir: str
    cpus: int
    memory_bytes: int
    gpu_runtimes: tuple[str, ...]
    """Which of "nvidia" (hook or runtime) and "cdi" the engine can do."""
    cdi_devices: tuple[str, ...]
    """Names such as "nvidia.com/gpu=GPU-…" that the engine says it can inject."""
    local: bool
    """True when the engine runs on this host (a unix socket)."""


NOT_EXECUTED = (126, 127)
"""What a container's init ends with when its command is not executable, or not there."""


LISTENING = ""
"""What `ContainerEngine.changes` yields first: from here on it listens. No container's name."""


class ObservedContainer(Struct, frozen=True):
    """A container as the engine shows it now."""

    id: str
    name: str
    status: str
    """Docker's word: created, running, paused, restarting, removing, exited, dead."""
    labels: Mapping[str, str]
    exit_code: int
    error: str
    started_at: str
    """RFC 3339, up to nanoseconds without trailing zeros (so texts do not sort); empty when the
    container never started."""
    finished_at: str
    """The same; it may lie a millisecond before `started_at` when the container ended at once."""
    image_id: str
    oom_killed: bool = False
    """Whether something in it was killed for want of memory, in the run that `finished_at` ended:
    until the next end it says the same. The container itself need not have ended by that."""


class ImageInfo(Struct, frozen=True):
    """An image that the engine holds. `id` is its content digest (`sha256:…`)."""

    id: str
    tags: tuple[str, ...]
    size_bytes: int
    env: tuple[str, ...]
    labels: Mapping[str, str]
    cmd: tuple[str, ...] = ()
    layers: int = 1
    """Layers that it lies on, its own included; the engine has a limit of them."""


class Progress(Struct, frozen=True):
    """Bytes of a long step done so far; `total_bytes` may grow as more becomes known."""

    done_bytes: int
    total_bytes: int


class ExecOutcome(Struct, frozen=True):
    """What a command in a container gave back."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    stdout_bytes: int
    """All that the command wrote, also what was cut off from `stdout`."""
    stderr_bytes: int


class ContainerEngine(Protocol):
    """The container engine, in Docker's verbs.

    Every method raises EngineUnavailable when no answer came and EngineRefused, with Docker's
    own words, when the answer was no; `not_ours` is refused by us, before Docker is asked.
    Doing a thing that is already so is not an error: starting a running, stopping a stopped
    and removing an absent container all succeed.
    """

    async def info(self) -> EngineInfo: ...

    async def ping(self) -> None:
        """Return when the engine answers, within about two seconds."""
        ...

    async def inspect_image(self, image: str) -> ImageInfo | None: ...

    async def pull_image(
        self, image: str, on_progress: Callable[[Progress], None]
    ) -> ImageInfo:
        """Fetch an image. Refused with `image_not_found`, the message naming the image."""
        ...

    async def refusal_of_pull(self, image: str) -> str | None:
        """Why an image cannot be fetched, for people; None when it can. Nothing is fetched."""
        ...

    async def create_container(self, name: str, config: Mapping[str, Any]) -> str:
        """Create from a body as POST /containers/create takes it; return the container's id.

        The name is the lock. When it is taken: a container with our same owner *and* effect
        labels is the one we made before a crash, and is adopted; anything else is refused
        with `name_taken`.
        """
        ...

    async def start_container(self, name: str) -> str:
        """Start; return Docker's StartedAt (RFC 3339). Already running is success.

        Refused with `port_taken`, `bad_command`, `device_unavailable`, `mount_failed`; the
        container then stays as it was.
        """
        ...

    async def stop_container(self, name: str, timeout_s: int) -> ObservedContainer | None:
        """Stop, with SIGKILL after `timeout_s`; None when there is no such container.

        This, to remove and to inspect take the container's id as well: it is the same when
        somebody renames it.
        """
        ...

    async def remove_container(self, name: str) -> None: ...

    async def inspect_container(self, name: str) -> ObservedContainer | None: ...

    async def list_containers(
        self, labels: Mapping[str, str]
    ) -> tuple[ObservedContainer, ...]:
        """All containers, running or not, that carry all these labels."""
        ...

    def changes(self) -> AsyncGenerator[str, None]:
        """Yield the name of each of our containers that something happens to, promptly.

        LISTENING comes first, once the engine is listened to: whoever looks at everything then
        misses nothing. After it, a name says: look at this one again. It comes when a container
        started, ended, was stopped, killed, paused, unpaused, removed or renamed (then both
        names) or was short of memory; not for changed limits and commands executed in it. A name
        that waits to be taken waits once, however much happens meanwhile.

        Ends only by raising EngineUnavailable: when the stream ends or breaks, and within 20 s
        when the engine hangs. What happens after that is not told later: call again, and look at
        everything. Close it (`aclosing`) to let go of the connection.
        """
        ...

    async def update_container(self, name: str, resources: Mapping[str, Any]) -> None:
        """Change limits in place, body as POST /containers/{id}/update takes it."""
        ...

    async def rename_container(self, name: str, new_name: str) -> None:
        """Give a container another name, running or not; refused with `name_taken`.

        One of ours that has the new name already, while nothing has the old one, is success.
        """
        ...

    async def commit_container(
        self, name: str, image: str, labels: Mapping[str, str], *, pause: bool
    ) -> ImageInfo:
        """Save the container's system disk as `image` (repository:tag).

        `labels` are set on the image, also to overwrite what the container's own would bake.
        """
        ...

    async def tag_image(self, image: str, name: str) -> ImageInfo:
        """Give an image, by name or id, another name (repository:tag); having it is success.

        To remove an image by one of several names only takes that name away. Refused with
        `image_not_found`.
        """
        ...

    async def squash_image(self, image: str, base: str) -> ImageInfo:
        """Make one layer of all that `image` has above `base`: same tag, same content.

        `base` is an image by its id. An image with at most one layer above it is left as it is.
        """
        ...

    async def remove_image(self, image: str) -> None: ...

    async def list_images(self, labels: Mapping[str, str]) -> tuple[ImageInfo, ...]:
        """All images with a name that carry all these labels."""
        ...

    async def execute(
        self, name: str, cmd: Sequence[str], work_dir: str, output_bytes_max: int
    ) -> ExecOutcome:
        """Run a command in a running container and wait for it.

        `output_bytes_max` is kept of each stream; the rest is counted and dropped.
        """
        ...

    async def create_volume(
        self, name: str, options: Mapping[str, str], labels: Mapping[str, str]
    ) -> None:
        """A volume of the local driver; there already with our same labels is success."""
        ...

    async def remove_volume(self, name: str) -> None: ...

    async def list_volumes(self, labels: Mapping[str, str]) -> tuple[str, ...]: ...


class Clock(Protocol):
    """Time, so that it can be virtual."""

    def now_us(self) -> int:
        """Microseconds since the epoch, UTC."""
        ...

    def monotonic_s(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class Ids(Protocol):
    """Source of ids that never come twice (UUIDv7-like: they sort by time)."""

    def new(self) -> str: ...
